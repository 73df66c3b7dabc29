from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from kube2etcd.atomic import rewrite


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
    before = file.stat()
    assert not rewrite(file, lambda content: content)
    assert file.stat() == before


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


def test_a_link_still_leads_to_the_file(file: Path) -> None:
    link = file.parent / "link"
    link.symlink_to("file")
    assert rewrite(link, upper)
    assert link.is_symlink()
    assert file.read_bytes() == b"OLD"


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
    [
        ("replace", errno.EBUSY),
        ("fsync", errno.EIO),
        ("fchmod", errno.EPERM),
        ("setxattr", errno.ENOSPC),
    ],
)
def test_what_cannot_be_done_leaves_the_file_and_nothing_beside_it(
    call: str, number: int, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "listxattr", lambda _: ["user.mark"])
    monkeypatch.setattr(os, "getxattr", lambda *_: b"x")
    monkeypatch.setattr(os, "setxattr", lambda *_: None)
    monkeypatch.setattr(os, call, fail_with(number))
    with pytest.raises(OSError, match=os.strerror(number)):
        rewrite(file, upper)
    assert (file.read_bytes(), names(file)) == (b"old", ["file"])


def test_somebody_elses_change_meanwhile_is_not_lost(file: Path) -> None:
    def meanwhile(content: bytes) -> bytes:
        file.write_bytes(b"theirs")
        return content.upper()

    with pytest.raises(OSError, match="somebody else"):
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
