"""Changing a file that others read: they see the old content or the new, never a part.

For files that belong to somebody else and live on: mode, owner and extended attributes (SELinux
labels, ACLs) are those of the old file.  Knows nothing of what is in them.
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

#: Attributes that this file system has not, or that only the system may set: the file does without.
_NO_ATTRIBUTE = (errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENODATA)

#: Seconds after which a new content that has not got its name is one of a process that was killed.
LEFT_OVER = 60.0


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> bool:
    """Put ``change(content)`` in the place of the content of ``path``; whether there was anything to do.

    Of a symbolic link it changes the file that it leads to.  Nothing is written when ``change`` gives
    back what it got.  ``OSError`` when the file cannot be read or replaced, when its owner cannot be
    kept, or when somebody else changed it meanwhile; the file is then as it was.  Whatever ``change``
    raises passes through.
    """
    target = Path(os.path.realpath(path, strict=True))
    before, status = read(target)
    after = change(before)
    if after == before:
        return False
    descriptor, name = tempfile.mkstemp(prefix=_prefix(target), dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(after)
            file.flush()
            _dress(file.fileno(), target, status)
            os.fsync(file.fileno())
        if _version(os.stat(target)) != _version(status):
            raise OSError(errno.EBUSY, "somebody else changed the file meanwhile; try again", str(path))
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    _sync_directory(target.parent)
    return True


def read(path: Path) -> tuple[bytes, os.stat_result]:
    """The content of a file and its status then; ``OSError`` where something else is in its place, too."""
    # Without O_NONBLOCK a pipe in the file's place would be waited for, and /dev/zero has no end.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return file.read(), status


def tidy(path: Path) -> list[str]:
    """Take away what `rewrite` of ``path`` left beside it when it was killed; the names of what is gone.

    Never a file of somebody else, nor one that is being written: it is called as only we call one, is
    plain, belongs to us or to the owner of ``path``, and nobody has touched it for a minute.  What cannot
    be taken away stays, without a word.
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
    """How a new content is called until it gets its name: so that nobody takes it for anything else."""
    return f".{target.name}.kube2etcd-"


def _version(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_mtime_ns, status.st_size


def _dress(descriptor: int, like: Path, status: os.stat_result) -> None:
    """Owner first: a change of owner takes bits of the mode away."""
    mine = os.fstat(descriptor)
    if (mine.st_uid, mine.st_gid) != (status.st_uid, status.st_gid):
        os.fchown(descriptor, status.st_uid, status.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
    for attribute in _attributes(like):
        try:
            os.setxattr(descriptor, attribute, os.getxattr(like, attribute))
        except OSError as error:
            if error.errno not in _NO_ATTRIBUTE:
                raise


def _attributes(path: Path) -> list[str]:
    try:
        return os.listxattr(path)
    except OSError:
        return []


def _sync_directory(directory: Path) -> None:
    """So that the new name outlives a loss of power; where a directory cannot be synced, it may not."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
