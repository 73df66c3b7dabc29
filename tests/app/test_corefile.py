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
    now = loop.snapshot()
    return now.ready, now.reasons


def test_the_file_holds_what_the_command_prints_before_it_is_ready(file: Path) -> None:
    given = settings(file)
    writer = CorefileWriter(given)
    assert ready(writer) == (False, (f"--corefile {file} is not written yet",))
    writer.start()
    assert file.read_text() == text(given)
    assert ready(writer) == (True, ())
    writer.stop()
    assert file.exists()


def test_an_import_is_written_only_where_it_is_given(file: Path) -> None:
    assert "/etc/coredns/custom" not in text(settings(file))
    assert text(settings(file, corefile_import="")).endswith("\nimport /etc/coredns/custom/*.server\n")
    assert text(settings(file, corefile_import="/my/*.conf")).endswith("\nimport /my/*.conf\n")


def test_domains_of_run_time_are_served(file: Path) -> None:
    writer = CorefileWriter(settings(file, domains=("dev.example.com",)))
    writer.write()
    writer.serve([CHILD, PARENT])
    assert file.read_text() == text(settings(file, domains=("dev.example.com", "example.com")))
    written = version(file)
    writer.serve([CHILD, PARENT])
    assert version(file) == written
    writer.serve([])
    assert file.read_text() == text(settings(file, domains=("dev.example.com",)))


def test_until_all_domains_are_known_a_file_is_kept(file: Path) -> None:
    one = settings(file, domains=("dev.example.com",))
    writer = CorefileWriter(one, whole=False)
    writer.write()
    assert file.read_text() == text(one), "CoreDNS starts with one"
    file.write_text("of the process before")
    again = CorefileWriter(one, whole=False)
    again.write()
    assert file.read_text() == "of the process before"
    assert not ready(again)[0]
    again.serve([CHILD])
    assert file.read_text() == text(one)
    assert ready(again) == (True, ())


def test_a_check_while_the_domains_are_taken_writes_no_file_without_them(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("of the process before")
    writer, during = CorefileWriter(settings(file), whole=False), []

    def check(*asked: Any) -> Any:
        writer.write()
        during.append(file.read_text())
        return served(*asked)

    monkeypatch.setattr(build, "served", check)
    writer.serve([PARENT])
    assert during == ["of the process before"]
    assert file.read_text() == text(settings(file, domains=("example.com",)))


def test_coredns_serves_the_domains_of_run_time() -> None:
    publisher, name = build.publisher(Settings(), Store()), Name.parse("www.example.com")
    assert build.reader(Settings(), publisher)(publisher.desired)(name, "A").rcode == "REFUSED"
    everywhere = build.reader(Settings(), publisher, everywhere=True)
    assert everywhere(publisher.desired)(name, "A").rcode == "NXDOMAIN"
    before = dict(publisher.desired)
    taken = [Domain.parse(text) for text in ("cluster.local", ".cluster.local", "svc.cluster.local")]
    publisher.refresh(publisher.rezone(build.external_zones(Settings(), [PARENT, *taken, CHILD], ())))
    assert before.items() <= dict(publisher.desired).items()
    assert build.reader(Settings(), publisher)(publisher.desired)(name, "A").rcode == "NXDOMAIN"


def test_a_domain_that_is_a_zone_of_the_cluster_affects_no_other(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = file.with_name("settings.yaml")
    config.write_text("zones: [{zone: shop.example}]")
    given = load({"corefile": str(file)}, {}, config)
    bad = Domain.parse("cluster.local")
    writer = CorefileWriter(given)
    writer.write()
    for _ in range(2):
        writer.serve([bad, PARENT])
    assert file.read_text() == text(served(given, [PARENT])[0])
    [other] = served(given, [Domain.parse("shop.example")])[1]
    assert "POST /domains and zones[0].zone are both the zone shop.example" in other
    [remark] = served(given, [bad])[1]
    assert remark == (
        "the domain cluster.local is not served: POST /domains and --domain are both the zone cluster.local;"
        " give each its own name"
    )
    # A caller must not be able to take a DNS pod out of service.
    assert ready(writer) == (True, (remark,))
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [remark]


def test_a_webhook_by_itself_serves_external_domains_alone(file: Path) -> None:
    made = text(alone(settings(file, domains=("example.com",), vm_domain=""), with_etcd=False))
    assert "example.com" in made
    assert not {"cluster.local", "arpa", "vm:53"} & set(made.replace(":53", " ").split())


def test_what_cannot_be_written_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"there is no folder .*/none; make it"):
        CorefileWriter(settings(tmp_path / "none" / "Corefile"))
    with pytest.raises(SettingsError, match="SkyDNS has no Corefile"):
        CorefileWriter(settings(file, etcd_api="v2"))


@pytest.mark.parametrize("where", ["Corefile", "sub/Corefile"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_folder_that_is_shut_is_a_fault_and_not_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, whole: bool
) -> None:
    shut, stat = tmp_path / "shut", os.stat
    shut.mkdir()

    def refused(path: Any, **more: Any) -> os.stat_result:
        if shut in Path(path).parents:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, **more)

    def refuse(path: Path, *_: object) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "stat", refused)
    monkeypatch.setattr("kube2etcd.atomic.put", refuse)
    writer = CorefileWriter(settings(shut / where), whole=whole)
    writer.start()
    assert ready(writer) == (False, (f"--corefile {shut / where} cannot be written: Permission denied",))
    writer.stop()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS)), "Read-only file system"),
        (ValueError("odd"), "odd"),
    ],
)
def test_a_file_that_cannot_be_written_is_reported_once_and_retried(
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


def test_a_temporary_file_of_a_killed_write_is_removed(file: Path) -> None:
    file.write_text("")
    left = file.parent / ".Corefile.kube2etcd-abcdefgh"
    left.write_text("half")
    os.utime(left, (0, 0))
    writer = CorefileWriter(settings(file))
    writer.start()
    writer.stop()
    assert [one.name for one in file.parent.iterdir()] == ["Corefile"]
