"""Atomic replacement of a file: readers see the old content or the new, never a mix.

Mode, owner and extended attributes (SELinux labels, ACLs) of the old file are preserved.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

#: Errors for attributes that the file system lacks or only the kernel may set; such attributes are skipped.
_NO_ATTRIBUTE = (errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENODATA)

#: Seconds after which a temporary file that was never renamed belongs to a killed process.
LEFT_OVER = 60.0


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> bool:
    """Replace the content of ``path`` by ``change(content)``; returns whether it differed.

    A symbolic link is followed.  Nothing is written when ``change`` returns its argument.

    :raises OSError: the file cannot be read or replaced, its owner cannot be preserved, or another process
        changed it meanwhile; the file is then untouched.  Exceptions of ``change`` pass through.
    """
    target = Path(os.path.realpath(path, strict=True))
    before, status = read(target)
    after = change(before)
    if after == before:
        return False
    _replace(target, after, status)
    return True


def put(path: Path, content: bytes, mode: int = 0o644) -> bool:
    """Make ``path`` hold ``content``; returns whether it had to be written.

    A missing file is created with ``mode``.  A symbolic link is followed.

    :raises OSError: the file cannot be read or replaced, or is not a regular file; it is untouched.
    """
    target = Path(os.path.realpath(path))
    status: os.stat_result | None = None
    with contextlib.suppress(FileNotFoundError):
        before, status = read(target)
        if before == content:
            return False
    _replace(target, content, status, mode)
    return True


def _replace(target: Path, content: bytes, old: os.stat_result | None, mode: int = 0o644) -> None:
    """Rename a new file with ``content`` over ``target``, whose status was ``old``."""
    descriptor, name = tempfile.mkstemp(prefix=_prefix(target), dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if old is None:
                os.fchmod(file.fileno(), mode)
            else:
                _dress(file.fileno(), target, old)
            os.fsync(file.fileno())
        if old is not None and version(target) != _version(old):
            raise OSError(errno.EBUSY, "another process changed the file meanwhile; try again", str(target))
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    _sync_directory(target.parent)


def read(path: Path) -> tuple[bytes, os.stat_result]:
    """Content and status of a regular file; ``OSError`` for anything else at ``path``."""
    # O_NONBLOCK: opening a FIFO would block.  Checked after the open: /dev/zero has no end.
    # An opener rather than fdopen, which leaves the descriptor of a directory open.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return file.read(), status


def missing_folder(path: Path) -> Path | None:
    """The folder of ``path`` if there is none; None if there is, or if we may not look."""
    folder = Path(os.path.realpath(path)).parent
    try:
        there = stat.S_ISDIR(folder.stat().st_mode)
    except PermissionError:
        there = True
    except OSError:
        there = False
    return None if there else folder


def version(path: Path) -> tuple[int, ...] | None:
    """Numbers that change with the file's content; None if it does not exist or is not visible."""
    try:
        return _version(os.stat(path))
    except OSError:
        return None


def _version(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_mtime_ns, status.st_size, status.st_ctime_ns


def tidy(path: Path) -> list[str]:
    """Delete temporary files that a killed `rewrite` of ``path`` left behind; returns their names.

    Only regular files with our prefix that belong to us or to the owner of ``path`` and are older than
    `LEFT_OVER` qualify, so no other file and none in use is touched.  Failures are ignored.
    """
    target = Path(os.path.realpath(path))
    ours = re.compile(re.escape(_prefix(target)) + r"[a-z0-9_]{8}\Z")
    found = []
    with contextlib.suppress(OSError):
        owners = {os.geteuid(), os.stat(target).st_uid}
        for name in filter(ours.match, os.listdir(target.parent)):
            beside = target.parent / name
            status = beside.lstat()
            plain = stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_uid in owners
            if plain and time.time() - status.st_mtime > LEFT_OVER:
                beside.unlink()
                found.append(name)
    return found


def _prefix(target: Path) -> str:
    """Prefix of temporary file names: hidden, and recognizably ours."""
    return f".{target.name}.kube2etcd-"


def _dress(descriptor: int, like: Path, status: os.stat_result) -> None:
    """Copy owner, mode and attributes; owner first, since chown clears setuid and setgid bits."""
    mine = os.fstat(descriptor)
    if (mine.st_uid, mine.st_gid) != (status.st_uid, status.st_gid):
        os.fchown(descriptor, status.st_uid, status.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
    attributes: list[str] = []
    with contextlib.suppress(OSError):
        attributes = os.listxattr(like)
    for attribute in attributes:
        try:
            os.setxattr(descriptor, attribute, os.getxattr(like, attribute))
        except OSError as error:
            if error.errno not in _NO_ATTRIBUTE:
                raise


def _sync_directory(directory: Path) -> None:
    """Make the rename durable where the file system can sync a directory."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
