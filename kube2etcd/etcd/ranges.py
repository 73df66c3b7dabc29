"""Reading a long range of keys in bounded pieces.  Pure.

etcd walks the *whole* requested range to count it, whatever the ``limit``, so paging through one long range
costs the square of its length: 200,000 keys in pages of 500 take 40 times as long as in one piece, and one
piece costs memory on both sides.  So ``walk`` also bounds the range from above, where the keys of a page
begin to differ.  ``Splits`` remembers where to cut, so that the next read has several pieces in flight;
``Patience`` makes the pieces smaller, and sequential, when responses do not arrive in time.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from itertools import pairwise

import msgspec

# Keys in one response: some 350 kB of typical records, with several responses in flight at once.
PAGE = 2_048


class RangePage(msgspec.Struct, frozen=True):
    """The response to one read: first and last key, number of keys, and whether the limit cut it short."""

    first: bytes
    last: bytes
    count: int
    more: bool


def successor(prefix: bytes) -> bytes:
    """The smallest key above all keys with the prefix."""
    stem = prefix.rstrip(b"\xff")
    if not stem:
        raise ValueError("no key is above this prefix")
    return stem[:-1] + bytes([stem[-1] + 1])


def _shared(one: bytes, other: bytes) -> bytes:
    """The longest common prefix of two keys."""
    for position, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return one[:position]
    return min(one, other)


def walk(low: bytes, high: bytes, page: int = PAGE) -> Generator[tuple[bytes, bytes], RangePage, None]:
    """Yields the (key, range_end) to read next with ``limit=page``; receives the `RangePage` read.

    The ranges are in order, do not overlap, and cover [low, high).
    """
    bound = high
    climb = 1
    while low < high:
        answer = yield low, bound
        if answer.more:
            # The keys of this page share a prefix; stay within it for the next page.
            low = answer.last + b"\0"
            shared = _shared(answer.first, answer.last)
            bound = successor(shared) if shared.strip(b"\xff") else high
            climb = 1
        else:
            low = bound
            if answer.count >= page // 8:
                # A good size: the sibling is next.
                bound = successor(low) if low.strip(b"\xff") else high
                climb = 1
            else:
                # (Nearly) empty: read the rest of the parent's branch, climbing twice as far each time.
                parent = low[:-climb]
                bound = successor(parent) if parent.strip(b"\xff") else high
                climb *= 2
        bound = min(bound, high)


class Splits:
    """Remembers where to cut a range into pieces of about half a page."""

    def __init__(self, page: int = PAGE) -> None:
        self._step = max(1, page // 2)
        self._cuts: list[bytes] = []

    def pieces(self, low: bytes, high: bytes) -> list[tuple[bytes, bytes]]:
        """[low, high), cut at the remembered keys."""
        edges = [low, *(cut for cut in self._cuts if low < cut < high), high]
        return list(pairwise(edges))

    def remember(self, pages: Iterable[RangePage]) -> None:
        """Replace the cuts by new ones from the pages of a read."""
        cuts: list[bytes] = []
        gathered = 0
        for page in sorted(pages, key=lambda page: page.first):
            gathered += page.count
            if gathered >= self._step:
                cuts.append(page.last + b"\0")
                gathered = 0
        self._cuts = cuts


# Factor by which pages shrink and grow, and the fewest keys of one.
_FACTOR = 4
_LEAST_PAGE = 256


class Patience:
    """Adapts page size and pieces in flight so that responses arrive within the timeout (seconds).

    A slow line cannot carry eight pieces of megabytes each within one request's timeout.
    """

    def __init__(self, page: int, in_flight: int, timeout: float) -> None:
        self.page = self._whole = page
        self._most_in_flight = in_flight
        # Responses this fast take half of the timeout even at the next page size with all others in flight.
        self._quick = timeout / (2 * _FACTOR * in_flight)

    @property
    def in_flight(self) -> int:
        """Number of pieces to request concurrently."""
        return self._most_in_flight if self.page == self._whole else 1

    def lost(self) -> None:
        """A response did not arrive in time."""
        self.page = min(self.page, max(_LEAST_PAGE, self.page // _FACTOR))

    def came(self, slowest: float) -> None:
        """All responses arrived, each within ``slowest`` seconds."""
        if slowest <= self._quick:
            self.page = min(self._whole, self.page * _FACTOR)
