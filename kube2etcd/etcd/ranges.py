"""How to read a long range of keys in bounded pieces: pure, no I/O.

etcd walks the *whole* range that it is asked for, to count it, even when ``limit`` lets only a
page of it through.  Pages of one long range therefore cost the square of its length: 200,000 keys
in pages of 500 take 40 times as long as in one piece.  One piece costs memory on both sides.  So the
range is bounded from above as well: ``walk`` looks at where the keys of a page begin to differ and
from then on asks for that much of the key space and no more.  Once the keys have been seen,
``Splits`` remembers where to cut, and the next reading has several pieces in flight at once.  Where
answers do not come in time, ``Patience`` has them asked for in smaller pieces, one after the other.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from itertools import pairwise

# Keys in one answer: some 3 MB of typical records.
PAGE = 16_384


@dataclass(frozen=True, slots=True)
class Page:
    """What the answer to one read was: its outermost keys, how many, and whether the limit cut it."""

    first: bytes
    last: bytes
    count: int
    more: bool


def successor(prefix: bytes) -> bytes:
    """The smallest key above all that begin with the prefix."""
    stem = prefix.rstrip(b"\xff")
    if not stem:
        raise ValueError("no key is above this prefix")
    return stem[:-1] + bytes([stem[-1] + 1])


def distinct(prefixes: Iterable[bytes]) -> list[bytes]:
    """The prefixes in order, without those that another one covers."""
    kept: list[bytes] = []
    for prefix in sorted(set(prefixes)):
        if not kept or not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return kept


def _shared(one: bytes, other: bytes) -> bytes:
    """The leading bytes in which two keys agree."""
    for position, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return one[:position]
    return min(one, other)


def walk(low: bytes, high: bytes, page: int = PAGE) -> Generator[tuple[bytes, bytes], Page, None]:
    """Yields (key, range_end) to read next with ``limit=page``; is sent what came of it.

    The ranges are in order, do not overlap, and cover [low, high).
    """
    bound = high
    climb = 1
    while low < high:
        answer = yield low, bound
        if answer.more:
            # The keys of this page agree in some leading bytes; so will the next page's,
            # up to where those bytes end.  (The page's last key lies below that bound.)
            low = answer.last + b"\0"
            shared = _shared(answer.first, answer.last)
            bound = successor(shared) if shared.strip(b"\xff") else high
            climb = 1
        else:
            low = bound
            if answer.count >= page // 8:
                # A good size: its neighbour of the same depth next.
                bound = successor(low) if low.strip(b"\xff") else high
                climb = 1
            else:
                # (Nearly) nothing: the rest of the branch above, and quickly further up.
                parent = low[:-climb]
                bound = successor(parent) if parent.strip(b"\xff") else high
                climb *= 2
        bound = min(bound, high)


class Splits:
    """Where to cut a range so that the pieces have about half a page each."""

    def __init__(self, page: int = PAGE) -> None:
        self._step = max(1, page // 2)
        self._cuts: list[bytes] = []

    def pieces(self, low: bytes, high: bytes) -> list[tuple[bytes, bytes]]:
        """[low, high), cut at the keys remembered."""
        edges = [low, *(cut for cut in self._cuts if low < cut < high), high]
        return list(pairwise(edges))

    def remember(self, pages: Iterable[Page]) -> None:
        """Forget the old cuts; take new ones from the pages that a reading met."""
        cuts: list[bytes] = []
        gathered = 0
        for page in sorted(pages, key=lambda page: page.first):
            gathered += page.count
            if gathered >= self._step:
                cuts.append(page.last + b"\0")
                gathered = 0
        self._cuts = cuts


# Pages are made so many times smaller, down to so many keys, and so many times larger again.
_FACTOR = 4
_LEAST_PAGE = 256


class Patience:
    """How much to ask for at once, so that the answers come within the timeout (seconds).

    Three megabytes each, and eight of them on their way: more than a slow line carries in the time that
    one request is given, however often it is asked.
    """

    def __init__(self, page: int, in_flight: int, timeout: float) -> None:
        self.page = self._whole = page
        self._most_in_flight = in_flight
        # With a page so many times larger, and all others beside it, half of the time is left.
        self._quick = timeout / (2 * _FACTOR * in_flight)

    @property
    def in_flight(self) -> int:
        """Pieces on their way at once."""
        return self._most_in_flight if self.page == self._whole else 1

    def lost(self) -> None:
        """An answer did not come in time."""
        self.page = min(self.page, max(_LEAST_PAGE, self.page // _FACTOR))

    def came(self, slowest: float) -> None:
        """All answers came, none later than after ``slowest`` seconds."""
        if slowest <= self._quick:
            self.page = min(self._whole, self.page * _FACTOR)
