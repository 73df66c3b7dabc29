"""Which claim stands at a key, and which keys may differ after one."""

from __future__ import annotations

from kube2etcd.kube.store import Unit
from kube2etcd.sync.claims import Claims, Rank

A, B, C = (Unit("services", "shop", name) for name in "abc")
FIRST: Rank = (0, 0, "", "", "")
SECOND: Rank = (1, 0, "", "", "")


def test_the_smallest_rank_stands() -> None:
    claims = Claims()
    assert claims.put(B, {b"k": (SECOND, b"b"), b"own": (FIRST, b"b")}) == {b"k", b"own"}
    assert claims.put(A, {b"k": (FIRST, b"a")}) == {b"k"}
    assert (claims.holder(b"k"), claims.value(b"k"), claims.value(b"own")) == (A, b"a", b"b")
    assert claims.put(A, {b"k": (FIRST, b"a")}) == set()
    assert claims.put(A, {}) == {b"k"}
    assert (claims.holder(b"k"), claims.value(b"k")) == (B, b"b")
    assert claims.put(B, {}) == {b"k", b"own"}
    assert (claims.holder(b"k"), claims.value(b"k")) == (None, None)


def test_of_one_rank_the_first_of_the_units_whoever_came_first() -> None:
    for order in ((A, B, C), (C, B, A)):
        claims = Claims()
        for unit in order:
            claims.put(unit, {b"k": (FIRST, unit.name.encode())})
        for left in (A, B, C):
            assert (claims.holder(b"k"), claims.value(b"k")) == (left, left.name.encode())
            claims.put(left, {})
