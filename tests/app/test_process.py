from __future__ import annotations

from pathlib import Path

import pytest

from kube2etcd.app.process import Reload
from kube2etcd.settings import load_all


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "settings.yaml"
    file.write_text("ttl: 5")
    return file


def reload(file: Path | None) -> Reload:
    return Reload(load_all({}, {}, file))


def test_an_equal_value_is_not_a_change(file: Path) -> None:
    one = reload(file)
    for text in ("ttl: 5", "# a comment\nttl: 5\n", 'ttl: "5"'):
        file.write_text(text)
        assert (one.look(), one.wanted, one.stop.is_set()) == ("", False, False)
    one.start_anew()  # is not wanted, so it comes back


def test_a_change_ends_the_process_to_start_it_anew(file: Path) -> None:
    one = reload(file)
    assert one.look() == ""
    file.write_text("ttl: 6")
    assert one.look() == ""
    assert (one.wanted, one.stop.is_set()) == (True, True)


def test_invalid_settings_are_ignored_and_logged_once(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = reload(file)
    file.write_text("ttl: none")
    told = one.look()
    assert told.startswith(f"the changed {file} is not taken: ")
    assert "ttl" in told
    assert one.look() == told
    assert [record.getMessage() for record in caplog.records] == [told]
    file.unlink()
    assert one.look() == f"{file} cannot be read: No such file or directory"
    assert not one.stop.is_set()
    file.write_text("ttl: 5")
    assert one.look() == ""
    assert not one.wanted


def test_without_a_file_there_is_nothing_to_look_at() -> None:
    one = reload(None)
    assert (one.look(), one.wanted) == ("", False)


def test_it_starts_with_the_command_line_it_had(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr("kube2etcd.app.process.os.execv", lambda _, arguments: started.append(arguments))
    monkeypatch.setattr("kube2etcd.app.process.sys.orig_argv", ["python3", "-m", "kube2etcd", "run"])
    one = reload(file)
    file.write_text("ttl: 6")
    one.look()
    one.start_anew()
    assert [arguments[1:] for arguments in started] == [["-m", "kube2etcd", "run"]]
