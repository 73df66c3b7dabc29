"""A hosts file shared with others, one block of which is ours.

    # BEGIN kube2etcd ...
    192.168.122.167 foo.dtk.io
    # END kube2etcd

Each owner id but the default has its own block, ``# BEGIN kube2etcd owner=ID ...``.  Every byte outside of
the block is preserved.  Broken or duplicate markers are repaired without losing a line that may not be ours.
A name on any other line is left out of the block.

The file is replaced atomically by a rename; where that is impossible (a bind mount, a read-only directory, a
second hard link) it is written in place.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Final
from urllib.parse import quote

from kube2etcd import atomic
from kube2etcd.errors import Kube2EtcdError
from kube2etcd.external import plain_name
from skydns_compat.names import InvalidAddress, parse_address

log = logging.getLogger(__name__)

#: The owner id whose markers name no owner.
DEFAULT_OWNER: Final = "kube2etcd"
_BOM: Final = b"\xef\xbb\xbf"
_MARKER: Final = re.compile(rb"(?:\xef\xbb\xbf)?# (BEGIN|END) kube2etcd(?!\S)(?: owner=(\S+))?")
_BEGIN_LINE: Final = "# BEGIN kube2etcd{} webhook: written by a program, changes in here do not last"
_END_LINE: Final = "# END kube2etcd{}"
#: A line as we write it: one address, one space, one name.
_WRITTEN: Final = re.compile(rb"(?:[0-9]+(?:\.[0-9]+){3}|[0-9a-f:.]*:[0-9a-f:.]*) [^\s#]+\r?\n?\Z")

#: Attempts while another process changes the file.
_TRIES: Final = 5
#: How often within `_CONFLICT_PAUSE` seconds another program may write our block before that is a conflict.
_CONFLICT_WRITES: Final = 3
#: Seconds for which we then do not write, and within which such writes count.
_CONFLICT_PAUSE: Final = 60.0


# --- the block: bytes in, bytes out


@dataclass(slots=True)
class Rewritten:
    """The new content, and the names that other lines have."""

    content: bytes
    left_to_others: list[str] = field(default_factory=list)
    found: frozenset[bytes] = frozenset()
    """The lines of our block before."""
    written: frozenset[bytes] = frozenset()
    """The lines of our block now."""


class HostsBlock:
    """The block of one owner."""

    def __init__(self, owner: str = DEFAULT_OWNER) -> None:
        self._owner = quote(owner, safe="").encode() if owner != DEFAULT_OWNER else None
        mark = f" owner={self._owner.decode()}" if self._owner else ""
        self._first, self._last = _BEGIN_LINE.format(mark).encode(), _END_LINE.format(mark).encode()

    def rewrite(
        self, content: bytes, wanted: Sequence[tuple[str, str]], ours: Callable[[str], bool]
    ) -> Rewritten:
        """``content`` with a block of the ``wanted`` (name, address), or without a block if there are none.

        ``ours`` says whether a name may be ours, for lines after a BEGIN without END.
        """
        before, old, after = self._parts(content, ours)
        others = before + after
        taken = {name for line in others for name in _names(line)}
        block = [f"{address} {name}".encode("ascii") for name, address in wanted if name not in taken]
        left = list(dict.fromkeys(name for name, _ in wanted if name in taken))
        bom = _BOM if content.startswith(_BOM) and not (others and others[0].startswith(_BOM)) else b""
        lines: list[bytes] = []
        if block:
            end = _line_end(others or content.splitlines(keepends=True))
            if not after and before and not before[-1].endswith(b"\n"):
                # An editor may have dropped the LF of a CRLF.
                before[-1] += b"\n" if before[-1].endswith(b"\r") else end
            lines = [line + end for line in (self._first, *block, self._last)]
        found = frozenset(line.rstrip(b"\r\n") for line in old)
        return Rewritten(bom + b"".join([*before, *lines, *after]), left, found, frozenset(block))

    def _parts(
        self, content: bytes, ours: Callable[[str], bool]
    ) -> tuple[list[bytes], list[bytes], list[bytes]]:
        """The foreign lines before the block, the lines in it, and the foreign lines after it."""
        lines = [line for line in re.split(rb"(?<=\n)", content) if line]
        before: list[bytes] = []
        block: list[bytes] = []
        after: list[bytes] = []
        others = before
        inside = whole = False
        for position, line in enumerate(lines, 1):
            kind = self._kind(line)
            if kind:
                inside = kind == b"BEGIN"
                # Whether it ends before another block begins.
                marker = next(filter(_MARKER.match, lines[position:]), b"") if inside else b""
                whole = self._kind(marker) == b"END"
                others = after if inside else others
            elif inside and (_WRITTEN.match(line) if whole else _is_ours(line, ours)):
                block.append(line)
            else:
                # A foreign line moves behind a complete block, and ends one without END.
                inside = whole
                others.append(line)
        return before, block, after

    def _kind(self, line: bytes) -> bytes:
        """``BEGIN`` or ``END`` for our marker, of any version; else empty."""
        found = _MARKER.match(line)
        return found[1] if found is not None and found[2] == self._owner else b""


def _words(line: bytes) -> list[str]:
    return [word.decode("ascii", "replace") for word in line.split()]


def _is_ours(line: bytes, ours: Callable[[str], bool]) -> bool:
    """Whether a line after a BEGIN without END consists of an address and names of ours."""
    address, *names = _words(line) or [""]
    try:
        parse_address(address)
    except InvalidAddress:
        return False
    return bool(names) and all(ours(plain_name(name)) for name in names)


def _names(line: bytes) -> list[str]:
    """The names on a foreign line, in normal form."""
    return [plain_name(word) for word in _words(line.removeprefix(_BOM).partition(b"#")[0])[1:]]


def _line_end(lines: Iterable[bytes]) -> bytes:
    """The line end of the majority of lines."""
    ends = [line for line in lines if line.endswith((b"\n", b"\r"))]
    windows = sum(line.endswith((b"\r\n", b"\r")) for line in ends)
    return b"\r\n" if 2 * windows > len(ends) else b"\n"


# --- the file


class NotWritten(Kube2EtcdError):
    """The hosts file cannot be read or written at present; the message says why."""


def folder_fault(path: Path) -> str:
    """The error if the hosts file's folder does not exist; empty if it does, or if we may not look."""
    folder = atomic.missing_folder(path)
    return f"there is no folder {folder}; make it, or write another --hosts-file" if folder else ""


class HostsFile:
    """One hosts file, and the block of one ``owner`` in it.  Used by one thread at a time."""

    def __init__(
        self, path: Path, owner: str = DEFAULT_OWNER, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.path = path
        self._block, self._owner, self._clock = HostsBlock(owner), owner, clock
        self._wanted: Sequence[tuple[str, str]] = ()
        """The lines wanted last."""
        self._last = Rewritten(b"")
        """What came of them."""
        self._last_write_succeeded = False
        """Whether our last write succeeded: only then are foreign lines in our block a new conflict."""
        self._foreign: list[float] = []
        """Times at which another program had written our block."""

    def write(self, wanted: Sequence[tuple[str, str]], ours: Callable[[str], bool]) -> bool:
        """Make our block hold the ``wanted`` (name, address); returns whether anything was written.

        ``ours`` says whether a name is in our domains, for blocks without END.  A name on a line outside of
        our block is left out, with one warning.

        :raises NotWritten: the file cannot be written, or another webhook writes the same block.
        """
        # On each write, since at the start the remains of a writer that was just killed may be too new.
        for name in atomic.tidy(self.path):
            log.info("%s: deleted, left by an interrupted write of %s", name, self.path)
        rewritten, foreign = self._last, self._foreign

        def change(content: bytes) -> bytes:
            nonlocal rewritten
            # A write may need several attempts, as a file that is a mount does; a conflict counts once.
            rewritten, self._foreign = self._last, foreign
            # Parsed only after a change: a user's file may have a hundred thousand lines.
            if (content, wanted) != (rewritten.content, self._wanted):
                rewritten = self._block.rewrite(content, wanted, ours)
                self._check_conflict(rewritten)
            return rewritten.content

        try:
            written = self._rewrite(change)
        except OSError as error:
            raise NotWritten(
                f"the hosts file {self.path} cannot be written: {error.strerror or error}"
            ) from None
        for name in sorted({*rewritten.left_to_others} - {*self._last.left_to_others}):
            log.warning("%s is not in our block of %s: another line has it", name, self.path)
        self._wanted, self._last, self._last_write_succeeded = wanted, rewritten, True
        return written

    def _check_conflict(self, rewritten: Rewritten) -> None:
        """Raise `NotWritten` if another program keeps rewriting our block."""
        now = self._clock()
        recent = [when for when in self._foreign if now - when < _CONFLICT_PAUSE]
        if recent and not self._last_write_succeeded:
            raise NotWritten(self._conflict())
        if self._last_write_succeeded and rewritten.found - self._last.written - rewritten.written:
            self._foreign = [*(self._foreign[-_CONFLICT_WRITES:] if self._in_conflict() else recent), now]
            if len(self._foreign) >= _CONFLICT_WRITES:
                self._last_write_succeeded = False
                raise NotWritten(self._conflict())

    def _in_conflict(self) -> bool:
        """Whether another program recently wrote our block repeatedly."""
        return (
            len(self._foreign) >= _CONFLICT_WRITES and self._clock() - self._foreign[-1] < 2 * _CONFLICT_PAUSE
        )

    def _conflict(self) -> str:
        """What to tell the user about it."""
        return (
            f"another program writes the block of the owner {self._owner} in {self.path}: give each webhook"
            " an --owner-id of its own"
        )

    def fault(self) -> str:
        """Why a change could not be written, as far as is known without trying; empty if it could."""
        if self._in_conflict():
            return self._conflict()
        missing = folder_fault(self.path)
        if missing:
            return f"the hosts file {self.path} cannot be written: {missing}"
        target = Path(os.path.realpath(self.path))
        if os.access(target, os.W_OK):
            return ""
        try:
            # A file of another user cannot be replaced, as its owner could not be preserved.
            replaceable = os.geteuid() in (0, target.stat().st_uid)
        except OSError:
            replaceable = True  # absent or not visible: the folder decides
        if replaceable and os.access(target.parent, os.W_OK | os.X_OK):
            return ""
        return f"the hosts file {self.path} cannot be written: give this user the right to write it"

    def _rewrite(self, change: Callable[[bytes], bytes]) -> bool:
        """Replace the content by ``change(content)``; returns whether that wrote anything.

        :raises OSError: it cannot be written, or other processes keep changing it.
        """
        if not os.path.lexists(self.path):
            if not change(b""):
                return False
            with open(self.path, "xb") as file:
                # World-readable whatever our umask.
                os.fchmod(file.fileno(), 0o644)
        for attempt in range(_TRIES):
            try:
                if os.stat(self.path).st_nlink == 1:
                    return atomic.rewrite(self.path, change)
            except FileNotFoundError:
                raise
            except OSError as error:
                log.debug("%s is not replaced: %s", self.path, error)
                # Changed meanwhile: try again.  A bind mount keeps failing.
                if error.errno == errno.EBUSY and attempt < _TRIES // 2:
                    continue
            written = _in_place(self.path, change)
            if written is not None:
                return written
        raise OSError(errno.EBUSY, "another process keeps changing it")


def _in_place(path: Path, change: Callable[[bytes], bytes]) -> bool | None:
    """As `atomic.rewrite`, but in place; None if another process changed the file meanwhile."""
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
            # Probably a full disk: restore the old content, which fits.
            with contextlib.suppress(OSError):
                _put(file, before)
            raise
    return True


def _put(file: FileIO, content: bytes) -> None:
    # Blank the surplus before truncating it: if we are killed in between, no stale line of ours is left.
    surplus = os.fstat(file.fileno()).st_size - len(content)
    file.seek(0)
    rest = memoryview(content + b"\n".ljust(surplus) if surplus > 0 else content)
    while rest:
        rest = rest[file.write(rest) :]
    file.truncate(len(content))
    os.fsync(file.fileno())
