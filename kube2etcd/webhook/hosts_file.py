"""A hosts file that others read and write: ours is one block of it.  The only place that touches it.

Replaced as a whole by a rename, so that nobody reads a part.  Where that cannot be (a bind mount, a
folder that we may not write, a second hard link) it is written in place.  What the block holds is for
`hosts_block` to say.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
import time
from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path

from kube2etcd import atomic
from kube2etcd.errors import Kube2EtcdError
from kube2etcd.webhook import hosts_block

log = logging.getLogger(__name__)

#: Times that a file which somebody else changes meanwhile is read again.
_TRIES = 5
#: Seconds between two looks for what a process that was killed has left beside the file.
_TIDY = 60.0


class NotWritten(Kube2EtcdError):
    """The hosts file could not be read or written, for now; the message says why."""


def no_folder(path: Path) -> str:
    """That a hosts file's folder is not there, and what to do; empty: it is, or we may not see whether."""
    folder = Path(os.path.realpath(path)).parent
    try:
        there = stat.S_ISDIR(folder.stat().st_mode)
    except PermissionError:
        there = True
    except OSError:
        there = False
    return "" if there else f"there is no folder {folder}; make it, or write another --hosts-file"


class HostsFile:
    """One hosts file, from one thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._left: frozenset[str] = frozenset()
        self._tidy_at = 0.0

    def write(self, wanted: Sequence[tuple[str, str]], ours: Callable[[str], bool]) -> bool:
        """Let the file hold a block of the ``wanted`` (name, address); whether anything was written.

        ``ours`` tells a name of our domains, for blocks whose markers are torn.  `NotWritten` when it
        cannot be; a name that a line of the user's has is left to it, with one warning.
        """
        left: list[str] = []
        self._tidy()

        def change(content: bytes) -> bytes:
            nonlocal left
            rewritten = hosts_block.rewrite(content, wanted, ours)
            left = rewritten.left_to_user
            return rewritten.content

        try:
            written = self._rewrite(change)
        except OSError as error:
            raise NotWritten(
                f"the hosts file {self.path} cannot be written: {error.strerror or error}"
            ) from None
        for name in sorted(set(left) - self._left):
            log.warning("%s is not in our block of %s: a line of its own has it", name, self.path)
        self._left = frozenset(left)
        return written

    def fault(self) -> str:
        """Why a change could not be written, as far as that can be told without one; empty: it could."""
        missing = no_folder(self.path)
        if missing:
            return f"the hosts file {self.path} cannot be written: {missing}"
        target = Path(os.path.realpath(self.path))
        if os.access(target, os.W_OK):
            return ""
        try:
            # A file of somebody else's is not replaced by one of ours.
            replaceable = os.geteuid() in (0, target.stat().st_uid)
        except OSError:
            replaceable = True  # nothing is there, or nothing to be seen: the folder decides
        if replaceable and os.access(target.parent, os.W_OK | os.X_OK):
            return ""
        return f"the hosts file {self.path} cannot be written: give this user the right to write it"

    def _tidy(self) -> None:
        """At the start, and once more when what was then too new is old enough."""
        if time.monotonic() < self._tidy_at:
            return
        self._tidy_at = time.monotonic() + _TIDY
        for name in atomic.tidy(self.path):
            log.info("%s is gone: a write of %s that was cut off had left it", name, self.path)

    def _rewrite(self, change: Callable[[bytes], bytes]) -> bool:
        if not os.path.lexists(self.path):
            if not change(b""):
                return False
            with open(self.path, "xb") as file:
                # Everybody reads a hosts file, whatever our umask says.
                os.fchmod(file.fileno(), 0o644)
        for attempt in range(_TRIES):
            try:
                if os.stat(self.path).st_nlink == 1:
                    return atomic.rewrite(self.path, change)
            except FileNotFoundError:
                raise
            except OSError as error:
                log.debug("%s is not replaced: %s", self.path, error)
                # Somebody else changed it meanwhile, or it is a mount of its own: that does not pass.
                if error.errno == errno.EBUSY and attempt < _TRIES // 2:
                    continue
            written = _in_place(self.path, change)
            if written is not None:
                return written
        raise OSError(errno.EBUSY, "somebody else keeps changing it")


def _in_place(path: Path, change: Callable[[bytes], bytes]) -> bool | None:
    """The same in the file itself; None when somebody else changed it meanwhile."""
    before, _ = atomic.read(path)
    after = change(before)
    if after == before:
        return False
    with open(path, "r+b", buffering=0) as file:
        if file.readall() != before:
            return None
        try:
            _put(file, after)
        except OSError:
            # A full disk, most likely: what was there fits.
            with contextlib.suppress(OSError):
                _put(file, before)
            raise
    return True


def _put(file: FileIO, content: bytes) -> None:
    # Blanks over what is to be cut off: should we be killed before, old lines of ours would be the user's.
    surplus = os.fstat(file.fileno()).st_size - len(content)
    file.seek(0)
    rest = memoryview(content + b"\n".ljust(surplus) if surplus > 0 else content)
    while rest:
        rest = rest[file.write(rest) :]
    file.truncate(len(content))
    os.fsync(file.fileno())
