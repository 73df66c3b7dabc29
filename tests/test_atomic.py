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


def test_open_reader_keeps_the_old_content(file: Path) -> None:
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
def test_mode_and_owner_are_kept(mode: int, file: Path) -> None:
    others = (12, 34) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(file, *others)
    file.chmod(mode)
    rewrite(file, upper)
    status = file.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (mode, *others)


def test_extended_attributes_are_kept(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attributes = {"user.mark": b"x", "security.label": b"y"}
    copied: dict[str, bytes] = {}

    def put(_: int, name: str, value: bytes) -> None:
        if name.startswith("security."):
            raise OSError(errno.EPERM, "not permitted")
        copied[name] = value

    monkeypatch.setattr(os, "listxattr", lambda _: list(attributes))
    monkeypatch.setattr(os, "getxattr", lambda _, name: attributes[name])
    monkeypatch.setattr(os, "setxattr", put)
    rewrite(file, upper)
    assert (file.read_bytes(), copied) == (b"OLD", {"user.mark": b"x"})


def test_file_system_without_extended_attributes(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "listxattr", fail_with(errno.ENOTSUP))
    assert rewrite(file, upper)
    assert file.read_bytes() == b"OLD"


@pytest.mark.parametrize("write", [lambda link: rewrite(link, upper), lambda link: put(link, b"OLD")])
def test_symlink_is_kept(file: Path, write: Callable[[Path], bool]) -> None:
    link = file.parent / "link"
    link.symlink_to("file")
    assert write(link)
    assert link.is_symlink()
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (b"OLD", 0o640)


class ChangeFailed(Exception):
    """Raised by the function that changes the content."""


def test_failed_change_writes_nothing(file: Path) -> None:
    def fail(_: bytes) -> bytes:
        raise ChangeFailed

    with pytest.raises(ChangeFailed):
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
def test_failed_write_leaves_no_trace(
    call: str, number: int, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "listxattr", lambda _: ["user.mark"])
    monkeypatch.setattr(os, "getxattr", lambda *_: b"x")
    monkeypatch.setattr(os, "setxattr", lambda *_: None)
    monkeypatch.setattr(os, call, fail_with(number))
    with pytest.raises(OSError, match=os.strerror(number)):
        rewrite(file, upper)
    assert (file.read_bytes(), names(file)) == (b"old", ["file"])


def test_concurrent_change_is_not_overwritten(file: Path) -> None:
    def change_concurrently(content: bytes) -> bytes:
        file.write_bytes(b"theirs")
        return content.upper()

    with pytest.raises(OSError, match="another process"):
        rewrite(file, change_concurrently)
    assert (file.read_bytes(), names(file)) == (b"theirs", ["file"])


def test_only_regular_files_are_rewritten(tmp_path: Path) -> None:
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
def test_failed_read_leaks_no_descriptor(make: Callable[[Path], None], tmp_path: Path) -> None:
    """A container runtime creates a folder where a mounted file is missing, and we poll it forever."""
    path = tmp_path / "file"
    make(path)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(OSError, match=r"directory|regular"):
            read(path)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_temporary_file_of_a_killed_process_is_removed(file: Path) -> None:
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
    (temporary,) = set(names(file)) - {"file"}
    assert temporary.startswith(".file.kube2etcd-")
    assert tidy(file) == [], "another process may be about to rename it"
    make_old(file.parent / temporary)
    assert tidy(file) == [temporary]
    assert (file.read_bytes(), names(file)) == (b"old", ["file"])


def make_old(beside: Path) -> None:
    then = time.time() - LEFT_OVER - 1
    os.utime(beside, (then, then), follow_symlinks=False)


def test_other_files_are_kept(file: Path) -> None:
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
        (folder / ".file.kube2etcd-foreign_").write_bytes(b"theirs")
        os.chown(folder / ".file.kube2etcd-foreign_", 12, 34)
    for beside in folder.iterdir():
        make_old(beside)
    before = names(file)
    assert tidy(file) == []
    assert names(file) == before


def test_temporary_file_beside_a_symlinks_target_is_removed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_bytes(b"")
    link = tmp_path / "link"
    link.symlink_to("real/file")
    temporary = tmp_path / "real" / ".file.kube2etcd-12345678"
    temporary.write_bytes(b"")
    make_old(temporary)
    assert tidy(link) == [temporary.name]


def test_tidy_of_a_missing_file(tmp_path: Path) -> None:
    assert tidy(tmp_path / "none" / "file") == []
    assert tidy(tmp_path / "none") == []


def test_put_creates_a_world_readable_file(tmp_path: Path) -> None:
    created = tmp_path / "created"
    assert put(created, b"new")
    assert (created.read_bytes(), stat.S_IMODE(created.stat().st_mode)) == (b"new", 0o644)
    before = version(created)
    assert not put(created, b"new")
    assert version(created) == before
    assert names(created) == ["created"]


def test_put_replaces_content_of_another_size(file: Path) -> None:
    assert put(file, b"longer than before")
    assert file.read_bytes() == b"longer than before"


def test_put_replaces_only_regular_files(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        with pytest.raises(OSError, match=r"directory|regular"):
            put(tmp_path / name, b"x")
    assert names(tmp_path / "pipe") == ["folder", "pipe"]
