"""Claims hold what a plain dictionary of all units' wishes says, however they are grouped and compressed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kube2etcd.kube.store import Unit
from kube2etcd.sync.claims import Claims, Rank
from tests.strategies import LAW
from tests.sync.publishing import GroupsBy

A, B, C = (Unit("services", namespace, "web") for namespace in "abc")


#: A group is the first label; what is below ``/p`` is alone.
GROUPS = GroupsBy(lambda key: key if key.startswith(b"/p") else b"/".join(key.split(b"/")[:2]))
#: Each key is a group.
ALONE = GroupsBy(lambda key: key)


def ranked(unit: Unit, _key: bytes, value: bytes) -> Rank:
    return (int(value[:1]), 0, "", "", "")


def test_the_smallest_rank_has_the_key() -> None:
    claims = Claims(GROUPS, ranked)
    assert claims.put(B, {b"/k": b"2b", b"/own": b"1b"}) == {b"/k": None, b"/own": None}
    assert claims.put(A, {b"/k": b"1a"}) == {b"/k": b"2b"}
    assert (claims.claimants(b"/k"), dict(claims.items())) == ([A, B], {b"/k": b"1a", b"/own": b"1b"})
    assert claims.put(A, {b"/k": b"1a"}) == {}
    assert claims.put(B, {b"/k": b"3b", b"/own": b"2b"}) == {b"/own": b"1b"}
    assert claims.put(A, {}) == {b"/k": b"1a"}
    assert (claims.claimants(b"/k"), claims[b"/k"]) == ([B], b"3b")
    assert claims.put(B, {}) == {b"/k": b"3b", b"/own": b"2b"}
    assert (claims.holder(b"/k"), claims.claimants(b"/k"), dict(claims.items())) == (None, [], {})


def test_of_one_rank_the_first_of_the_units_whoever_came_first() -> None:
    for order in ((A, B, C), (C, B, A)):
        claims = Claims(GROUPS, ranked)
        for unit in order:
            claims.put(unit, {b"/k": f"1{unit.namespace}".encode()})
        for left in (A, B, C):
            assert (claims.holder(b"/k"), claims[b"/k"]) == (left, f"1{left.namespace}".encode())
            claims.put(left, {})


KEYS = [b"/a", b"/a/x", b"/a/x/y", b"/b/x", b"/b/y", b"/p", b"/p/1", b"/p/2"]
_entries = st.dictionaries(st.sampled_from(KEYS), st.sampled_from([b"1", b"2", b"2x"]))


@LAW
@given(st.lists(st.tuples(st.sampled_from([A, B, C]), _entries), max_size=12))
def test_claims_are_what_all_units_want(steps: list[tuple[Unit, dict[bytes, bytes]]]) -> None:
    claims = Claims(GROUPS, ranked)
    wanted: dict[Unit, dict[bytes, bytes]] = {}
    before: dict[bytes, bytes] = {}
    for unit, entries in steps:
        changed = claims.put(unit, entries)
        wanted[unit] = entries
        held: dict[bytes, Unit] = {}
        for key in KEYS:
            rivals = [one for one in wanted if key in wanted[one]]
            if rivals:
                held[key] = min(rivals, key=lambda one: (wanted[one][key][:1], one))
            assert sorted(claims.claimants(key)) == sorted(rivals)
            assert claims.holder(key) == held.get(key)
        now = {key: wanted[unit][key] for key, unit in held.items()}
        assert (dict(claims.items()), len(claims)) == (now, len(now))
        assert changed == {key: before.get(key) for key in KEYS if before.get(key) != now.get(key)}
        before = now
    for groups in (ALONE, GROUPS):
        assert claims.regroup(groups) == {}
        assert (dict(claims.items()), len(claims)) == (before, len(before))


@LAW
@given(_entries, _entries, _entries, st.integers(1, 4))
def test_a_reading_finds_what_is_unlike_and_what_is_missing(
    one: dict[bytes, bytes], other: dict[bytes, bytes], there: dict[bytes, bytes], size: int
) -> None:
    claims = Claims(GROUPS, ranked)
    claims.put(A, one)
    claims.put(B, other)
    for found in ({}, there, dict(claims.items())):
        reading, unlike = claims.reading(), dict[bytes, bytes]()
        keys = sorted(found)
        for start in range(0, len(keys), size):
            unlike |= reading.unlike({key: found[key] for key in keys[start : start + size]})
        assert unlike == {key: value for key, value in found.items() if claims.get(key) != value}
        assert sorted(reading.missing()) == sorted(claims.keys() - found.keys())


def test_with_the_groups_the_ranks_are_those_of_now() -> None:
    rank = {A: 1, B: 2}
    claims = Claims(GROUPS, lambda unit, *_: (rank[unit], 0, "", "", ""))
    claims.put(A, {b"/k": b"a", b"/same": b"s"})
    claims.put(B, {b"/k": b"b", b"/same": b"s"})
    rank[A] = 3
    assert claims.regroup(ALONE) == {b"/k": b"a"}
    assert (claims[b"/k"], claims.holder(b"/same")) == (b"b", B)
