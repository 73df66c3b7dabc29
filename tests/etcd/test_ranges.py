"""Paged reads of a long range: complete, without overlap, linear cost."""

from __future__ import annotations

import contextlib
from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube2etcd.etcd.ranges import Patience, RangePage, Splits, successor, walk
from tests.strategies import LAW

SEGMENTS = st.sampled_from([b"a", b"b", b"z", b"svc", b"ns1", b"ns10", b"\xff", b"\xff\xff", b"\0", b"_tcp"])
KEYS = st.lists(SEGMENTS, min_size=1, max_size=5).map(lambda parts: b"/s/" + b"/".join(parts))


class FullRead:
    """A walk over sorted keys, answered as by etcd; ``walked`` counts the keys that etcd iterates over."""

    def __init__(self, keys: list[bytes], page: int, low: bytes = b"/s/", high: bytes = b"/s0") -> None:
        self.read: list[bytes] = []
        self.pages: list[RangePage] = []
        self.requests = self.walked = 0
        steps = walk(low, high, page)
        edge, answer = low, None
        with contextlib.suppress(StopIteration):
            while True:
                start, end = next(steps) if answer is None else steps.send(answer)
                assert start >= edge, "ranges overlap or go back"
                assert start < end <= high
                first, behind = bisect_left(keys, start), bisect_left(keys, end)
                found = keys[first : min(behind, first + page)]
                more = behind - first > page
                self.requests += 1
                self.walked += behind - first
                self.read += found
                edge = found[-1] + b"\0" if more else end
                answer = RangePage(b"", b"", 0, False)
                if found:
                    answer = RangePage(found[0], found[-1], len(found), more)
                    self.pages.append(answer)


@LAW
@given(st.sets(KEYS, max_size=200), st.integers(1, 40))
def test_every_key_is_read_once_and_in_order(keys: set[bytes], page: int) -> None:
    ordered = sorted(keys)
    assert FullRead(ordered, page).read == ordered


@LAW
@given(st.sets(KEYS, max_size=200), st.sets(KEYS, max_size=200), st.integers(1, 40))
def test_splits_cover_the_range_after_changes(before: set[bytes], later: set[bytes], page: int) -> None:
    splits = Splits(page)
    splits.remember(FullRead(sorted(before), page).pages)
    pieces = splits.pieces(b"/s/", b"/s0")
    assert pieces[0][0] == b"/s/"
    assert pieces[-1][1] == b"/s0"
    ordered = sorted(later)
    assert [key for ends in pieces for key in FullRead(ordered, page, *ends).read] == ordered


def _cluster(namespaces: int, services: int) -> list[bytes]:
    svc = [
        b"/s/local/cluster/svc/ns%04d/web%03d/%08x" % (namespace, service, service * 2654435761 % 2**32)
        for namespace in range(namespaces)
        for service in range(services)
    ]
    reverse = [b"/s/arpa/in-addr/10/%d/%d" % (number >> 8, number & 255) for number in range(len(svc))]
    return sorted(svc + reverse)


@pytest.mark.parametrize(("namespaces", "services"), [(500, 200), (1, 50_000), (5000, 10), (10, 3000)])
def test_cost_is_linear(namespaces: int, services: int) -> None:
    keys = _cluster(namespaces, services)
    full_read = FullRead(keys, 1000)
    assert full_read.read == keys
    pages = len(keys) / 1000
    # Plain paging walks the whole range pages/2 times: 50 times at 100,000 keys.
    assert full_read.walked <= 9 * len(keys)
    assert full_read.requests <= 4 * pages + 60

    splits = Splits(1000)
    splits.remember(full_read.pages)
    again = [FullRead(keys, 1000, *ends) for ends in splits.pieces(b"/s/", b"/s0")]
    assert sum(piece.walked for piece in again) <= 3 * len(keys)
    assert sum(piece.requests for piece in again) <= 4 * pages + 10


def test_small_range_is_one_request() -> None:
    assert FullRead([b"/s/a", b"/s/b"], 10).requests == 1
    assert FullRead([], 10).requests == 1


def test_successor() -> None:
    assert successor(b"/skydns/") == b"/skydns0"
    assert successor(b"a\xff\xff") == b"b"
    with pytest.raises(ValueError, match="no key"):
        successor(b"\xff")


@pytest.mark.parametrize(
    ("page", "late", "timely"),
    [
        (
            16_384,
            [(4096, 1), (1024, 1), (256, 1), (256, 1)],
            [(1024, 1), (4096, 1), (16_384, 8), (16_384, 8)],
        ),
        (100, [(100, 8)], [(100, 8)]),
    ],
    ids=["large pages", "small pages"],
)
def test_pages_shrink_after_timeouts_and_grow_again(
    page: int, late: list[tuple[int, int]], timely: list[tuple[int, int]]
) -> None:
    patience = Patience(page, 8, 6.4)
    assert (patience.page, patience.in_flight) == (page, 8)
    for expected in late:
        patience.lost()
        assert (patience.page, patience.in_flight) == expected
    patience.came(0.11)
    assert (patience.page, patience.in_flight) == expected, "not fast enough to grow"
    for expected in timely:
        patience.came(0.1)
        assert (patience.page, patience.in_flight) == expected
