"""Our block in a hosts file: bytes in, bytes out.  Pure.

    # BEGIN kube2etcd ...
    192.168.122.167 foo.dtk.io
    # END kube2etcd

Everything else is somebody's own and stays to the byte.  Markers that an editor tore or doubled are
put right without losing a line that may not be ours.  A name on a line of the user's is the user's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from kube2etcd.external import plain_name
from skydns_compat.names import InvalidAddress, parse_address

BEGIN: Final = b"# BEGIN kube2etcd"
END: Final = b"# END kube2etcd"
_FIRST: Final = BEGIN + b" webhook: written by a program, changes in here do not last"


@dataclass(slots=True)
class Rewritten:
    """The file as it is to be, and the names that are left to the user's own lines."""

    content: bytes
    left_to_user: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Parted:
    """A file without our lines, and where our block stands between the others."""

    before: list[bytes] = field(default_factory=list)
    after: list[bytes] = field(default_factory=list)
    found: bool = False

    def add(self, line: bytes) -> None:
        (self.after if self.found else self.before).append(line)


def rewrite(content: bytes, wanted: Iterable[tuple[str, str]], ours: Callable[[str], bool]) -> Rewritten:
    """``content`` with a block of the ``wanted`` (name, address), or without one where none is.

    ``ours`` says of a name whether it may have been written by us: only asked where markers are torn.
    """
    parted = _part(content, ours)
    own = parted.before + parted.after
    taken = {name for line in own for name in _names(line)}
    lines: list[str] = []
    left: list[str] = []
    for name, address in wanted:
        if name not in taken:
            lines.append(f"{address} {name}")
        elif name not in left[-1:]:
            left.append(name)
    if not lines:
        return Rewritten(b"".join(own), left)
    end = _line_end(own or content.splitlines(keepends=True))
    if not parted.after and parted.before and not parted.before[-1].endswith(b"\n"):
        # Half of a line end is there already where an editor lost the other half.
        parted.before[-1] += b"\n" if parted.before[-1].endswith(b"\r") else end
    block = [_FIRST, *(line.encode("ascii") for line in lines), END]
    return Rewritten(b"".join([*parted.before, *(line + end for line in block), *parted.after]), left)


def _part(content: bytes, ours: Callable[[str], bool]) -> _Parted:
    lines = content.split(b"\n")
    last = lines.pop()
    lines = [line + b"\n" for line in lines] + ([last] if last else [])
    parted = _Parted()
    position = 0
    while position < len(lines):
        line = lines[position]
        position += 1
        if line.startswith(END):
            continue
        if not line.startswith(BEGIN):
            parted.add(line)
            continue
        parted.found = True
        end = _end_of(lines, position)
        if end is None:
            while position < len(lines) and _is_ours(lines[position], ours):
                position += 1
        else:
            # What we never wrote was put there by somebody: it moves behind the block.
            for inside in lines[position:end]:
                if not _is_written(inside):
                    parted.add(inside)
            position = end + 1
    return parted


def _end_of(lines: list[bytes], start: int) -> int | None:
    """Where the block that began before ``start`` ends; None when it does not."""
    for position in range(start, len(lines)):
        if lines[position].startswith(END):
            return position
        if lines[position].startswith(BEGIN):
            return None
    return None


def _is_written(line: bytes) -> bool:
    """Whether a line within markers has the form that we write: one address, one blank, one name."""
    words = line.rstrip(b"\r\n").split(b" ")
    return len(words) == 2 and bool(words[1]) and b"#" not in words[1] and _is_address(words[0])


def _is_ours(line: bytes, ours: Callable[[str], bool]) -> bool:
    """Whether a line without its END consists of an address and names of ours."""
    words = line.split()
    return (
        len(words) > 1
        and _is_address(words[0])
        and all(ours(plain_name(word.decode("ascii", "replace"))) for word in words[1:])
    )


@lru_cache(maxsize=2**18)
def _is_address(word: bytes) -> bool:
    try:
        parse_address(word.decode("ascii", "replace"))
    except InvalidAddress:
        return False
    return True


def _names(line: bytes) -> Collection[str]:
    """The names that a line of the user's gives an address."""
    words = line.partition(b"#")[0].split()
    return [plain_name(word.decode("ascii", "replace")) for word in words[1:]]


def _line_end(lines: Iterable[bytes]) -> bytes:
    """What most of the file's lines end with."""
    windows = unix = 0
    for line in lines:
        if line.endswith((b"\r\n", b"\r")):
            windows += 1
        elif line.endswith(b"\n"):
            unix += 1
    return b"\r\n" if windows > unix else b"\n"
