"""Our block in a hosts file: bytes in, bytes out.  Pure.

    # BEGIN kube2etcd ...
    192.168.122.167 foo.dtk.io
    # END kube2etcd

A webhook with an owner id of its own has a block of its own, ``# BEGIN kube2etcd owner=ID ...``.  Everything
else belongs to others and is preserved to the byte.  Torn or doubled markers are repaired without losing
a line that may not be ours.  A name on any other line stays there alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from kube2etcd.external import plain_name
from skydns_compat.names import InvalidAddress, parse_address

#: The owner id whose block carries no owner.
DEFAULT_OWNER: Final = "kube2etcd"
_BOM: Final = b"\xef\xbb\xbf"
_MARKER: Final = re.compile(rb"(?:\xef\xbb\xbf)?# (BEGIN|END) kube2etcd(?: owner=(\S+))?")
_FIRST: Final = "# BEGIN kube2etcd{} webhook: written by a program, changes in here do not last"
_LAST: Final = "# END kube2etcd{}"
#: A line as we write it: one address, one blank, one name.
_WRITTEN: Final = re.compile(rb"(?:[0-9]+(?:\.[0-9]+){3}|[0-9a-f:.]*:[0-9a-f:.]*) [^\s#]+\r?\n?\Z")


class Markers:
    """The first and last line of one owner's block."""

    def __init__(self, owner: str = DEFAULT_OWNER) -> None:
        self._owner = quote(owner, safe="").encode() if owner != DEFAULT_OWNER else None
        mark = f" owner={self._owner.decode()}" if self._owner else ""
        self.first, self.last = _FIRST.format(mark).encode(), _LAST.format(mark).encode()

    def begins(self, line: bytes) -> bool:
        """Whether ``line`` begins our block, or did in another version."""
        return self._is(line, b"BEGIN")

    def ends(self, line: bytes) -> bool:
        """Whether ``line`` ends our block."""
        return self._is(line, b"END")

    def _is(self, line: bytes, which: bytes) -> bool:
        found = _MARKER.match(line)
        return found is not None and found[1] == which and found[2] == self._owner


@dataclass(slots=True)
class Rewritten:
    """The new content, and the names that are left to other lines."""

    content: bytes
    left_to_others: list[str] = field(default_factory=list)
    found: frozenset[bytes] = frozenset()
    """The lines that our block held before."""
    written: frozenset[bytes] = frozenset()
    """The lines that it holds now."""


@dataclass(slots=True)
class _Parted:
    """A file without our block, cut where that stood."""

    before: list[bytes] = field(default_factory=list)
    after: list[bytes] = field(default_factory=list)
    block: list[bytes] = field(default_factory=list)
    """The lines of our block, markers aside."""
    found: bool = False

    def add(self, line: bytes) -> None:
        (self.after if self.found else self.before).append(line)


def rewrite(
    content: bytes,
    wanted: Iterable[tuple[str, str]],
    ours: Callable[[str], bool],
    markers: Markers | None = None,
) -> Rewritten:
    """``content`` with our block holding the ``wanted`` (name, address); without a block where none is.

    ``ours`` says whether a name may be one of ours; it decides about lines after a BEGIN without END.
    """
    markers = markers or Markers()
    parted = _part(content, ours, markers)
    own = parted.before + parted.after
    taken = {name for line in own for name in _names(line)}
    lines: list[str] = []
    left: list[str] = []
    for name, address in wanted:
        if name not in taken:
            lines.append(f"{address} {name}")
        elif name not in left[-1:]:
            left.append(name)
    bom = _BOM if content.startswith(_BOM) and not (own and own[0].startswith(_BOM)) else b""
    block = [line.encode("ascii") for line in lines]
    found = frozenset(line.rstrip(b"\r\n") for line in parted.block)
    if not lines:
        return Rewritten(bom + b"".join(own), left, found, frozenset())
    end = _line_end(own or content.splitlines(keepends=True))
    if not parted.after and parted.before and not parted.before[-1].endswith(b"\n"):
        # Half of a line end is there already where an editor lost the other half.
        parted.before[-1] += b"\n" if parted.before[-1].endswith(b"\r") else end
    whole = [line + end for line in (markers.first, *block, markers.last)]
    new = bom + b"".join([*parted.before, *whole, *parted.after])
    return Rewritten(new, left, found, frozenset(block))


def _part(content: bytes, ours: Callable[[str], bool], markers: Markers) -> _Parted:
    lines = content.split(b"\n")
    last = lines.pop()
    lines = [line + b"\n" for line in lines] + ([last] if last else [])
    parted = _Parted()
    position = 0
    while position < len(lines):
        line = lines[position]
        position += 1
        if markers.ends(line):
            continue
        if not markers.begins(line):
            parted.add(line)
            continue
        parted.found = True
        end = _end_of(lines, position, markers)
        if end is None:
            while position < len(lines) and _is_ours(lines[position], ours):
                parted.block.append(lines[position])
                position += 1
        else:
            # A line that we never wrote moves behind the block.
            for inside in lines[position:end]:
                if _WRITTEN.match(inside):
                    parted.block.append(inside)
                else:
                    parted.add(inside)
            position = end + 1
    return parted


def _end_of(lines: list[bytes], start: int, markers: Markers) -> int | None:
    """Where the block that began before ``start`` ends; None when another begins first."""
    for position in range(start, len(lines)):
        if markers.ends(lines[position]):
            return position
        if _MARKER.match(lines[position]):
            return None
    return None


def _is_ours(line: bytes, ours: Callable[[str], bool]) -> bool:
    """Whether a line after a BEGIN without END consists of an address and names of ours."""
    words = line.split()
    return (
        len(words) > 1
        and _is_address(words[0])
        and all(ours(plain_name(word.decode("ascii", "replace"))) for word in words[1:])
    )


def _is_address(word: bytes) -> bool:
    try:
        parse_address(word.decode("ascii", "replace"))
    except InvalidAddress:
        return False
    return True


def _names(line: bytes) -> Collection[str]:
    """The names on a line outside of our block."""
    words = line.removeprefix(_BOM).partition(b"#")[0].split()
    return [plain_name(word.decode("ascii", "replace")) for word in words[1:]]


def _line_end(lines: Iterable[bytes]) -> bytes:
    """The line end of most lines."""
    windows = unix = 0
    for line in lines:
        if line.endswith((b"\r\n", b"\r")):
            windows += 1
        elif line.endswith(b"\n"):
            unix += 1
    return b"\r\n" if windows > unix else b"\n"
