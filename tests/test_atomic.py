import errno
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kube2etcd.atomic import LEFT_OVER, put, read, rewrite, tidy, version


def upper(content: bytes) -> bytes:
    return content.upper()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_bytes(b"old")
    file.chmod(0o640)
    return file


def names(file: Path) -> list[str]:
    return sorted(one.name for one in file.parent.iterdir())


def test_a_reader_keeps_the_old_content_and_the_next_sees_the_new(file: Path) -> None:
    with file.open("rb") as reader:
        assert rewrite(file, upper)
        assert reader.read() == b"old"
    assert file.read_bytes() == b"OLD"
    assert names(file) == ["file"]


def test_nothing_is_written_when_nothing_differs(file: Path) -> None:
    before = version(file)
    assert not rewrite(file, lambda content: content)
    assert version(file) == before


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o4755])
def test_mode_and_owner_are_those_of_the_old_file(mode: int, file: Path) -> None:
    others = (12, 34) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(file, *others)
    file.chmod(mode)
    rewrite(file, upper)
    status = file.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (mode, *others)


def test_attributes_are_those_of_the_old_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = {"user.mark": b"x", "security.odd": b"y"}
    given: dict[str, bytes] = {}

    def put(_: int, name: str, value: bytes) -> None:
        if name.startswith("security."):
            raise OSError(errno.EPERM, "not for you")
        given[name] = value

    monkeypatch.setattr(os, "listxattr", lambda _: list(held))
    monkeypatch.setattr(os, "getxattr", lambda _, name: held[name])
    monkeypatch.setattr(os, "setxattr", put)
    rewrite(file, upper)
    assert (file.read_bytes(), given) == (b"OLD", {"user.mark": b"x"})


def test_a_file_system_without_attributes_is_good_enough(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "listxattr", fail_with(errno.ENOTSUP))
    assert rewrite(file, upper)
    assert file.read_bytes() == b"OLD"


@pytest.mark.parametrize("write", [lambda link: rewrite(link, upper), lambda link: put(link, b"OLD")])
def test_a_link_still_leads_to_the_file(file: Path, write: Callable[[Path], bool]) -> None:
    link = file.parent / "link"
    link.symlink_to("file")
    assert write(link)
    assert link.is_symlink()
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (b"OLD", 0o640)


class Odd(Exception):
    """What a change may raise."""


def test_a_change_that_fails_changes_nothing(file: Path) -> None:
    def fail(_: bytes) -> bytes:
        raise Odd

    with pytest.raises(Odd):
        rewrite(file, fail)
    assert (file.read_bytes(), names(file)) == (b"old", ["file"])


def fail_with(number: int) -> object:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    ("call", "number"),
    [("replace", errno.EBUSY), ("fsync", errno.EIO), ("fchmod", errno.EPERM), ("setxattr", errno.ENOSPC)],
)
def test_failures_leave_no_trace(call: str, number: int, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "listxattr", lambda _: ["user.mark"])
    monkeypatch.setattr(os, "getxattr", lambda *_: b"x")
    monkeypatch.setattr(os, "setxattr", lambda *_: None)
    monkeypatch.setattr(os, call, fail_with(number))
    with pytest.raises(OSError, match=os.strerror(number)):
        rewrite(file, upper)
    assert (file.read_bytes(), names(file)) == (b"old", ["file"])


def test_a_concurrent_change_is_not_lost(file: Path) -> None:
    def meanwhile(content: bytes) -> bytes:
        file.write_bytes(b"theirs")
        return content.upper()

    with pytest.raises(OSError, match="another process"):
        rewrite(file, meanwhile)
    assert (file.read_bytes(), names(file)) == (b"theirs", ["file"])


def test_only_a_file_is_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name, message in (
        ("pipe", "not a regular file"),
        (".", "not a regular file|Is a directory"),
        ("none", "No such file"),
        ("loop", "Too many levels"),
    ):
        with pytest.raises(OSError, match=message):
            rewrite(tmp_path / name, upper)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["loop", "pipe"]


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_a_failed_read_leaves_no_descriptor_open(make: Callable[[Path], None], tmp_path: Path) -> None:
    """A container runtime makes a folder of a file that is mounted and missing; it is looked at for ever."""
    path = tmp_path / "file"
    make(path)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(OSError, match=r"directory|regular"):
            read(path)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_what_a_killed_one_leaves_is_recognized_and_goes(file: Path) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from kube2etcd.atomic import rewrite
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
rewrite(Path(sys.argv[1]), bytes.upper)
"""
    path = os.pathsep.join(sys.path)
    done = subprocess.run([sys.executable, "-c", script, str(file)], check=False, env={"PYTHONPATH": path})
    assert done.returncode == -9
    (left,) = set(names(file)) - {"file"}
    assert left.startswith(".file.kube2etcd-")
    assert tidy(file) == [], "somebody may be about to give it its name"
    aged(file.parent / left)
    assert tidy(file) == [left]
    assert (file.read_bytes(), names(file)) == (b"old", ["file"])


def aged(beside: Path) -> None:
    then = time.time() - LEFT_OVER - 1
    os.utime(beside, (then, then), follow_symlinks=False)


def test_files_of_others_stay(file: Path) -> None:
    folder = file.parent
    for name in (
        ".file.kube2etcd-12345678.txt",
        ".file.kube2etcd-1234567",
        ".file.kube2etcd-ABCDEFGH",
        ".file.12345678",
        ".other.kube2etcd-12345678",
        "file.kube2etcd-12345678",
    ):
        (folder / name).write_bytes(b"theirs")
    (folder / ".file.kube2etcd-folder__").mkdir()
    (folder / ".file.kube2etcd-link____").symlink_to("file")
    os.link(folder / ".file.12345678", folder / ".file.kube2etcd-twonames")
    os.mkfifo(folder / ".file.kube2etcd-pipe____")
    if os.geteuid() == 0:
        (folder / ".file.kube2etcd-strange_").write_bytes(b"theirs")
        os.chown(folder / ".file.kube2etcd-strange_", 12, 34)
    for beside in folder.iterdir():
        aged(beside)
    before = names(file)
    assert tidy(file) == []
    assert names(file) == before


def test_what_lies_beside_the_file_of_a_link_goes_too(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_bytes(b"")
    link = tmp_path / "link"
    link.symlink_to("real/file")
    left = tmp_path / "real" / ".file.kube2etcd-12345678"
    left.write_bytes(b"")
    aged(left)
    assert tidy(link) == [left.name]


def test_where_there_is_nothing_to_tidy(tmp_path: Path) -> None:
    assert tidy(tmp_path / "none" / "file") == []
    assert tidy(tmp_path / "none") == []


def test_put_makes_a_file_that_everybody_reads(tmp_path: Path) -> None:
    made = tmp_path / "made"
    assert put(made, b"new")
    assert (made.read_bytes(), stat.S_IMODE(made.stat().st_mode)) == (b"new", 0o644)
    before = version(made)
    assert not put(made, b"new")
    assert version(made) == before
    assert names(made) == ["made"]


def test_put_replaces_content_of_another_size(file: Path) -> None:
    assert put(file, b"longer than before")
    assert file.read_bytes() == b"longer than before"


def test_put_leaves_anything_but_a_file_alone(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        with pytest.raises(OSError, match=r"directory|regular"):
            put(tmp_path / name, b"x")
    assert names(tmp_path / "pipe") == ["folder", "pipe"]
