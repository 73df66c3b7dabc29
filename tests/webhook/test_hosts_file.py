"""The hosts file on a real file system."""

import errno
import os
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from kube2etcd import atomic
from kube2etcd.webhook import hosts
from kube2etcd.webhook.hosts import HostsFile, NotWritten, folder_fault
from tests.sync.loop import Clock
from tests.test_atomic import fail_with

WANTED = [("foo.dtk.io", "10.0.0.5")]
USERS = b"127.0.0.1 localhost\n"


def ours(name: str) -> bool:
    return name.endswith(".dtk.io")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "hosts"
    found.write_bytes(USERS)
    return found


def test_equal_file_is_not_written(path: Path) -> None:
    hosts = HostsFile(path)
    assert hosts.write(WANTED, ours)
    before = path.stat()
    assert b"\n10.0.0.5 foo.dtk.io\n" in path.read_bytes()
    assert not hosts.write(WANTED, ours)
    assert not HostsFile(path).write(WANTED, ours)
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert hosts.write([], ours)
    assert path.read_bytes() == USERS
    assert os.listdir(path.parent) == ["hosts"]


def test_missing_file_is_created_when_needed(tmp_path: Path) -> None:
    hosts = HostsFile(tmp_path / "hosts")
    assert not hosts.write([], ours)
    assert not (tmp_path / "hosts").exists()
    assert hosts.write(WANTED, ours)
    assert b"10.0.0.5 foo.dtk.io\n" in (tmp_path / "hosts").read_bytes()
    assert (tmp_path / "hosts").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("code", [errno.EBUSY, errno.EROFS, errno.EXDEV, errno.EACCES, errno.EPERM])
def test_written_in_place_if_rename_fails(path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(os, "replace", fail_with(code))
    inode = path.stat().st_ino
    hosts = HostsFile(path)
    assert hosts.write(WANTED, ours)
    assert path.stat().st_ino == inode
    assert path.read_bytes().startswith(USERS + b"# BEGIN")
    assert not hosts.write(WANTED, ours)
    # Shorter than before: the old end is truncated.
    assert hosts.write([], ours)
    assert path.read_bytes() == USERS
    assert os.listdir(path.parent) == ["hosts"]


def test_hard_link_is_kept(path: Path) -> None:
    os.link(path, path.with_name("other"))
    assert HostsFile(path).write(WANTED, ours)
    assert path.with_name("other").read_bytes() == path.read_bytes()


def test_file_that_keeps_changing_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "rewrite", fail_with(errno.EBUSY))
    monkeypatch.setattr("kube2etcd.webhook.hosts._in_place", lambda *_: None)
    with pytest.raises(NotWritten, match="another process keeps changing it"):
        HostsFile(path).write(WANTED, ours)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hosts")
    with pytest.raises(NotWritten, match="cannot be written"):
        HostsFile(tmp_path / "hosts").write(WANTED, ours)
    # Reading it would never end.
    with pytest.raises(NotWritten, match="cannot be written"):
        HostsFile(Path("/dev/zero")).write(WANTED, ours)


def test_name_on_a_users_line_is_logged_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_bytes(b"10.0.0.9 foo.dtk.io\n")
    hosts = HostsFile(path)
    for _ in range(3):
        assert not hosts.write(WANTED, ours)
    assert len(caplog.records) == 1
    path.write_bytes(USERS)
    assert hosts.write(WANTED, ours)


def test_leftover_temporary_files_are_deleted(path: Path) -> None:
    temporary = path.with_name(".hosts.kube2etcd-abcdefgh")
    temporary.write_bytes(b"")
    hosts = HostsFile(path)
    assert not hosts.write([], ours)
    assert temporary.exists(), "its writer may still run"
    os.utime(temporary, (0, 0))
    assert not hosts.write([], ours)
    assert not temporary.exists()


def test_unwritable_file_is_reported_before_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "hosts"
    assert HostsFile(path).fault() == ""
    path.write_text("127.0.0.1 localhost\n")
    assert HostsFile(path).fault() == ""
    assert "there is no folder" in HostsFile(tmp_path / "none" / "hosts").fault()
    writable = {tmp_path: True, path: False}
    monkeypatch.setattr(os, "access", lambda place, _mode: writable[Path(place)])
    assert HostsFile(path).fault() == ""
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert "give this user the right" in HostsFile(path).fault()
    path.unlink()
    assert HostsFile(path).fault() == ""
    writable[tmp_path] = False
    assert "give this user the right" in HostsFile(path).fault()


@pytest.mark.parametrize("where", ["hosts", "sub/hosts"])
def test_inaccessible_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    inaccessible, stat = tmp_path / "inaccessible", Path.stat

    def denied_stat(path: Path, **more: bool) -> os.stat_result:
        if inaccessible in path.parents:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, **more)

    inaccessible.mkdir()
    monkeypatch.setattr(Path, "stat", denied_stat)
    monkeypatch.setattr(
        os, "access", lambda place, _mode: inaccessible not in (Path(place), *Path(place).parents)
    )
    assert folder_fault(inaccessible / where) == "", "the folder may exist"
    assert "give this user the right" in HostsFile(inaccessible / where).fault()


def test_kill_before_truncation(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.link(path, path.with_name("second"))  # so the file is written in place
    stale = [(f"gone{number}.dtk.io", "10.0.0.7") for number in range(9)]
    HostsFile(path).write([*WANTED, *stale], ours)

    class Killed(BaseException):
        pass

    class KilledAtTruncate(FileIO):
        def truncate(self, size: int | None = None, /) -> int:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(hosts, "open", lambda name, mode, **_: KilledAtTruncate(name, mode), raising=False)
        with pytest.raises(Killed):
            HostsFile(path).write(WANTED, ours)
    HostsFile(path).write(WANTED, ours)
    lines = [line for line in path.read_bytes().splitlines() if line.strip() and not line.startswith(b"#")]
    assert lines == [USERS.rstrip(), b"10.0.0.5 foo.dtk.io"]


def test_two_writers_of_one_block_detect_the_conflict(path: Path) -> None:
    clock = Clock()
    one, two = HostsFile(path, "me", clock.monotonic), HostsFile(path, "me", clock.monotonic)
    other = [("bar.dtk.io", "10.0.0.6")]
    fault = ""
    for _ in range(10):
        clock.now += 5
        for file, wanted in ((one, WANTED), (two, other)):
            try:
                file.write(list(wanted), ours)
            except NotWritten as error:
                fault = str(error)
        if fault:
            break
    assert "another program writes the block of the owner me" in fault
    content = path.read_bytes()
    # The one that detected it stops writing, and reports it even after a successful probe.
    with pytest.raises(NotWritten, match="--owner-id of its own"):
        one.write(list(WANTED), ours)
    assert path.read_bytes() == content
    clock.now += 61
    assert one.write(list(WANTED), ours)
    assert "--owner-id of its own" in one.fault()
    two.write(list(other), ours)
    with pytest.raises(NotWritten):
        one.write(list(WANTED), ours)
    # The other writer is gone.
    clock.now += 200
    assert one.write(list(WANTED), ours)
    assert one.fault() == ""


@pytest.mark.parametrize("mounted", [False, True], ids=["renamed", "written in place"])
def test_occasional_edits_of_our_block_are_not_a_conflict(
    path: Path, mounted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    if mounted:
        monkeypatch.setattr(os, "replace", fail_with(errno.EBUSY))
    hosts = HostsFile(path, clock=clock.monotonic)
    hosts.write(list(WANTED), ours)
    for _ in range(6):
        clock.now += 40
        path.write_bytes(path.read_bytes().replace(b"10.0.0.5 foo", b"10.0.0.6 foo"))
        assert hosts.write(list(WANTED), ours)
        assert hosts.fault() == ""


def test_full_disk_leaves_the_old_content(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.link(path, path.with_name("second"))  # so the file is written in place

    class FullDisk(FileIO):
        failed = False

        def write(self, data: Any, /) -> int:
            if not self.failed:
                self.failed = True
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    monkeypatch.setattr(hosts, "open", lambda name, mode, **_: FullDisk(name, mode), raising=False)
    with pytest.raises(NotWritten, match="No space left"):
        HostsFile(path).write(WANTED, ours)
    assert path.read_bytes() == USERS


def test_line_added_before_the_write_in_place_is_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.link(path, path.with_name("second"))
    printer = [b"10.0.0.9 printer\n"]

    def open_late(name: Path, mode: str, **_: int) -> FileIO:
        while printer:
            path.write_bytes(path.read_bytes() + printer.pop())
        return FileIO(name, mode)

    monkeypatch.setattr(hosts, "open", open_late, raising=False)
    assert HostsFile(path).write(WANTED, ours)
    assert path.read_bytes().startswith(USERS + b"10.0.0.9 printer\n# BEGIN")


def test_file_that_vanishes_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "rewrite", fail_with(errno.ENOENT))
    with pytest.raises(NotWritten, match="No such file"):
        HostsFile(path).write(WANTED, ours)
