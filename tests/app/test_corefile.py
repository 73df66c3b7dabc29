from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest

from kube2etcd.app import build
from kube2etcd.app import corefile as module
from kube2etcd.app.build import served
from kube2etcd.app.corefile import CorefileWriter, text
from kube2etcd.atomic import version
from kube2etcd.errors import SettingsError
from kube2etcd.external import Domain
from kube2etcd.kube.store import Store
from kube2etcd.metrics import Status
from kube2etcd.settings import Settings, load
from kube2etcd.webhook.app import alone
from skydns_compat.names import Name

PARENT, CHILD = Domain.parse("example.com"), Domain.parse("dev.example.com")


def settings(file: Path, **more: object) -> Settings:
    return load({"corefile": str(file), **more}, {})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "Corefile"


def ready(writer: CorefileWriter) -> tuple[bool, tuple[str, ...]]:
    loop = Status()
    loop.report(ready=True)
    loop.add(writer.check)
    snapshot = loop.snapshot()
    return snapshot.ready, snapshot.reasons


def test_file_equals_the_commands_output_before_it_is_ready(file: Path) -> None:
    configured = settings(file)
    writer = CorefileWriter(configured)
    assert ready(writer) == (False, (f"--corefile {file} is not written yet",))
    writer.start()
    assert file.read_text() == text(configured)
    assert ready(writer) == (True, ())
    writer.stop()
    assert file.exists()


def test_import_is_written_only_if_configured(file: Path) -> None:
    assert "/etc/coredns/custom" not in text(settings(file))
    assert text(settings(file, corefile_import="")).endswith("\nimport /etc/coredns/custom/*.server\n")
    assert text(settings(file, corefile_import="/my/*.conf")).endswith("\nimport /my/*.conf\n")


def test_domains_added_at_run_time_are_served(file: Path) -> None:
    writer = CorefileWriter(settings(file, domains=("dev.example.com",)))
    writer.write()
    writer.serve([CHILD, PARENT])
    assert file.read_text() == text(settings(file, domains=("dev.example.com", "example.com")))
    written = version(file)
    writer.serve([CHILD, PARENT])
    assert version(file) == written
    writer.serve([])
    assert file.read_text() == text(settings(file, domains=("dev.example.com",)))


def test_existing_file_is_kept_until_all_domains_are_known(file: Path) -> None:
    one = settings(file, domains=("dev.example.com",))
    writer = CorefileWriter(one, whole=False)
    writer.write()
    assert file.read_text() == text(one), "a missing file is written: CoreDNS needs one to start"
    file.write_text("by the previous process")
    again = CorefileWriter(one, whole=False)
    again.write()
    assert file.read_text() == "by the previous process"
    assert not ready(again)[0]
    again.serve([CHILD])
    assert file.read_text() == text(one)
    assert ready(again) == (True, ())


def test_write_during_serve_does_not_omit_the_domains(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("by the previous process")
    writer, during = CorefileWriter(settings(file), whole=False), []

    def check(*arguments: Any) -> Any:
        writer.write()
        during.append(file.read_text())
        return served(*arguments)

    monkeypatch.setattr(build, "served", check)
    writer.serve([PARENT])
    assert during == ["by the previous process"]
    assert file.read_text() == text(settings(file, domains=("example.com",)))


def test_reader_serves_domains_added_at_run_time() -> None:
    publisher, name = build.publisher(Settings(), Store()), Name.parse("www.example.com")
    assert build.reader(Settings(), publisher)(publisher.desired)(name, "A").rcode == "REFUSED"
    everywhere = build.reader(Settings(), publisher, everywhere=True)
    assert everywhere(publisher.desired)(name, "A").rcode == "NXDOMAIN"
    before = dict(publisher.desired)
    conflicting = [Domain.parse(text) for text in ("cluster.local", ".cluster.local", "svc.cluster.local")]
    publisher.refresh(publisher.rezone(build.external_zones(Settings(), [PARENT, *conflicting, CHILD], ())))
    assert before.items() <= dict(publisher.desired).items()
    assert build.reader(Settings(), publisher)(publisher.desired)(name, "A").rcode == "NXDOMAIN"


def test_domain_that_is_a_zone_of_ours_affects_no_other(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = file.with_name("settings.yaml")
    config.write_text("zones: [{zone: shop.example}]")
    configured = load({"corefile": str(file)}, {}, config)
    conflicting = Domain.parse("cluster.local")
    writer = CorefileWriter(configured)
    writer.write()
    for _ in range(2):
        writer.serve([conflicting, PARENT])
    assert file.read_text() == text(served(configured, [PARENT])[0])
    [other] = served(configured, [Domain.parse("shop.example")])[1]
    assert "POST /domains and zones[0].zone are both the zone shop.example" in other
    [remark] = served(configured, [conflicting])[1]
    assert remark == (
        "the domain cluster.local is not served: POST /domains and --domain are both the zone cluster.local;"
        " give each its own name"
    )
    # A caller must not be able to take a DNS pod out of service.
    assert ready(writer) == (True, (remark,))
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [remark]


def test_standalone_webhook_serves_only_external_domains(file: Path) -> None:
    found = text(alone(settings(file, domains=("example.com",), vm_domain=""), with_etcd=False))
    assert "example.com" in found
    assert not {"cluster.local", "arpa", "vm:53"} & set(found.replace(":53", " ").split())


def test_unusable_settings_are_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"there is no folder .*/none; make it"):
        CorefileWriter(settings(tmp_path / "none" / "Corefile"))
    with pytest.raises(SettingsError, match="SkyDNS has no Corefile"):
        CorefileWriter(settings(file, etcd_api="v2"))


@pytest.mark.parametrize("where", ["Corefile", "sub/Corefile"])
@pytest.mark.parametrize("whole", [True, False])
def test_inaccessible_folder_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, whole: bool
) -> None:
    inaccessible, stat = tmp_path / "inaccessible", os.stat
    inaccessible.mkdir()

    def denied_stat(path: Any, **more: Any) -> os.stat_result:
        if inaccessible in Path(path).parents:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, **more)

    def denied_put(path: Path, *_: object) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "stat", denied_stat)
    monkeypatch.setattr("kube2etcd.atomic.put", denied_put)
    writer = CorefileWriter(settings(inaccessible / where), whole=whole)
    writer.start()
    assert ready(writer) == (
        False,
        (f"--corefile {inaccessible / where} cannot be written: Permission denied",),
    )
    writer.stop()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS)), "Read-only file system"),
        (ValueError("unforeseen"), "unforeseen"),
    ],
)
def test_failed_write_is_logged_once_and_retried(
    file: Path,
    error: Exception,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    writer = CorefileWriter(settings(file))
    file.write_text("former")

    def fail(*_: object) -> bool:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("kube2etcd.atomic.put", fail)
        writer.write()
        writer.write()
        reason_logged = f"--corefile {file} cannot be written: {reason}"
        assert ready(writer) == (False, (reason_logged,))
        assert [record.getMessage() for record in caplog.records] == [reason_logged]
        assert file.read_text() == "former"
    monkeypatch.setattr(module, "LOOK", 0.01)
    writer.start()
    assert ready(writer) == (True, ())
    file.unlink()
    deadline = time.monotonic() + 10
    while not file.exists():
        assert time.monotonic() < deadline
    writer.stop()


def test_temporary_file_of_a_killed_process_is_removed(file: Path) -> None:
    file.write_text("")
    temporary = file.parent / ".Corefile.kube2etcd-abcdefgh"
    temporary.write_text("half")
    os.utime(temporary, (0, 0))
    writer = CorefileWriter(settings(file))
    writer.start()
    writer.stop()
    assert [one.name for one in file.parent.iterdir()] == ["Corefile"]
