"""A hosts file that others read and write, one block of which is ours.

Replaced by a rename, so that nobody reads a part of it; where that cannot be (a bind mount, a folder
that we may not write, a second hard link) it is written in place.
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
from typing import Final

from kube2etcd import atomic
from kube2etcd.errors import Kube2EtcdError
from kube2etcd.webhook import hosts_block

log = logging.getLogger(__name__)

#: Attempts when another process keeps changing the file.
_TRIES: Final = 5
#: Seconds between two searches for temporary files that a killed process left.
_TIDY: Final = 60.0
#: Seconds after which the time of a file's last change is believed to be the last: clocks of file systems
#: are coarse, and a second change in the same tick does not show.
_SETTLED: Final = 2.0
#: How often within `_TRUCE` seconds our block may hold another program's lines before that counts as a fight.
_FIGHT: Final = 3
#: Seconds for which we then leave the block alone.
_TRUCE: Final = 60.0

_Version = tuple[int, int, int, int]


class NotWritten(Kube2EtcdError):
    """The hosts file could not be read or written at present; the message says why."""


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
    """One hosts file, and the block of one ``owner`` in it.  Used by one thread at a time."""

    def __init__(
        self,
        path: Path,
        owner: str = hosts_block.DEFAULT_OWNER,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self._markers, self._owner, self._clock = hosts_block.Markers(owner), owner, clock
        self._left: frozenset[str] = frozenset()
        self._tidy_at = 0.0
        self._seen: tuple[Sequence[tuple[str, str]], _Version] | None = None
        """What was wanted, and the version of the file that has it."""
        self._ours: frozenset[bytes] = frozenset()
        """The lines that our block may hold: those that we wrote last."""
        self._armed = False
        """Whether we wrote last: only then are lines of others in our block a new attack."""
        self._foreign: list[float] = []
        """When lines of another program stood in our block."""

    def write(self, wanted: Sequence[tuple[str, str]], ours: Callable[[str], bool]) -> bool:
        """Make our block hold the ``wanted`` (name, address); whether anything was written.

        ``ours`` says whether a name is in our domains, for blocks whose markers are torn.  A name on
        a line outside of our block is left out, with one warning.  The file is read only when its stat or
        ``wanted`` (by identity) changed.

        :raises NotWritten: it cannot be, or another webhook writes the same block.
        """
        version = self._version()
        if version is not None and self._seen is not None:
            before, seen = self._seen
            if before is wanted and seen == version and time.time() - version[1] / 1e9 > _SETTLED:
                return False
        self._tidy()
        rewritten = hosts_block.Rewritten(b"")

        def change(content: bytes) -> bytes:
            nonlocal rewritten
            rewritten = hosts_block.rewrite(content, wanted, ours, self._markers)
            self._refuse_to_fight(rewritten)
            return rewritten.content

        try:
            written = self._rewrite(change)
        except OSError as error:
            raise NotWritten(
                f"the hosts file {self.path} cannot be written: {error.strerror or error}"
            ) from None
        for name in sorted(set(rewritten.left_to_others) - self._left):
            log.warning("%s is not in our block of %s: a line of its own has it", name, self.path)
        self._left = frozenset(rewritten.left_to_others)
        self._ours, self._armed = rewritten.written, True
        after = self._version()
        # Changed between our reading and now, it is read again the next time.
        self._seen = (wanted, after) if after is not None and (written or after == version) else None
        return written

    def _refuse_to_fight(self, rewritten: hosts_block.Rewritten) -> None:
        """Another program that writes our block would undo us, and we it, for ever."""
        now = self._clock()
        recent = [when for when in self._foreign if now - when < _TRUCE]
        if recent and not self._armed:
            raise NotWritten(self._fight())
        if self._armed and rewritten.found - self._ours - rewritten.written:
            self._foreign = [*(self._foreign[-_FIGHT:] if self._fights() else recent), now]
            if len(self._foreign) >= _FIGHT:
                self._armed = False
                raise NotWritten(self._fight())

    def _fights(self) -> bool:
        """Whether another program wrote our block again and again, and not long ago."""
        return len(self._foreign) >= _FIGHT and self._clock() - self._foreign[-1] < 2 * _TRUCE

    def _fight(self) -> str:
        return (
            f"another program writes the block of the owner {self._owner} in {self.path}: give each webhook"
            " an --owner-id of its own"
        )

    def _version(self) -> _Version | None:
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size, found.st_ctime_ns

    def fault(self) -> str:
        """Why a change could not be written, as far as can be known without one; empty: it could."""
        if self._fights():
            return self._fight()
        missing = no_folder(self.path)
        if missing:
            return f"the hosts file {self.path} cannot be written: {missing}"
        target = Path(os.path.realpath(self.path))
        if os.access(target, os.W_OK):
            return ""
        try:
            # We do not replace another user's file by one of ours.
            replaceable = os.geteuid() in (0, target.stat().st_uid)
        except OSError:
            replaceable = True  # absent or hidden: the folder decides
        if replaceable and os.access(target.parent, os.W_OK | os.X_OK):
            return ""
        return f"the hosts file {self.path} cannot be written: give this user the right to write it"

    def _tidy(self) -> None:
        """Delete what killed writers left; at the start it may be too new, hence again later."""
        if time.monotonic() < self._tidy_at:
            return
        self._tidy_at = time.monotonic() + _TIDY
        for name in atomic.tidy(self.path):
            log.info("%s: deleted, left by an interrupted write of %s", name, self.path)

    def _rewrite(self, change: Callable[[bytes], bytes]) -> bool:
        if not os.path.lexists(self.path):
            if not change(b""):
                return False
            with open(self.path, "xb") as file:
                # Every user reads a hosts file, whatever our umask.
                os.fchmod(file.fileno(), 0o644)
        for attempt in range(_TRIES):
            try:
                if os.stat(self.path).st_nlink == 1:
                    return atomic.rewrite(self.path, change)
            except FileNotFoundError:
                raise
            except OSError as error:
                log.debug("%s is not replaced: %s", self.path, error)
                # Changed meanwhile: try again.  A mount of its own stays one.
                if error.errno == errno.EBUSY and attempt < _TRIES // 2:
                    continue
            written = _in_place(self.path, change)
            if written is not None:
                return written
        raise OSError(errno.EBUSY, "another process keeps changing it")


def _in_place(path: Path, change: Callable[[bytes], bytes]) -> bool | None:
    """The same in the file itself; None when another process changed it meanwhile."""
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
            # Most likely a full disk: the old content fits.
            with contextlib.suppress(OSError):
                _put(file, before)
            raise
    return True


def _put(file: FileIO, content: bytes) -> None:
    # Overwrite what will be truncated: if we are killed before, no old line of ours becomes the user's.
    surplus = os.fstat(file.fileno()).st_size - len(content)
    file.seek(0)
    rest = memoryview(content + b"\n".ljust(surplus) if surplus > 0 else content)
    while rest:
        rest = rest[file.write(rest) :]
    file.truncate(len(content))
    os.fsync(file.fileno())
