"""Claims against a plain dictionary, groups of keys, and holders of exclusive names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kube2etcd.kube.store import Unit
from kube2etcd.sync import claims as module
from kube2etcd.sync.claims import Claims, ExclusiveNames, Groups, Rank
from kube2etcd.zones.base import Zone
from kube2etcd.zones.cluster import ClusterZone
from kube2etcd.zones.services import ServicesZone
from skydns_compat.layout import Layout
from skydns_compat.names import Name
from tests.objects import PTR, ZONE, external_zone, flat
from tests.strategies import LAW

A, B, C = (Unit("services", namespace, "web") for namespace in "abc")


#: A group is the subtree of the label below the zone; a key outside the zone is a group of its own.
GROUPS = Groups(Layout(), [ServicesZone(Name.parse("z"), template="{service}")])
UNGROUPED = Groups(Layout())


@pytest.fixture(autouse=True, scope="module")
def compressed() -> Iterator[None]:
    """Compress nearly all groups, as in a large cluster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FRESH", 1)
        yield


def rank(unit: Unit, _key: bytes, value: bytes) -> Rank:
    return (int(value[:1]), 0, "", "", "")


AX = b"/skydns/z/a/x"
KEYS = [b"/skydns/z/a", AX, AX + b"/y", b"/skydns/z/b/x", b"/skydns/z/b/y", b"/skydns/p", b"/skydns/p/1"]
_entries = st.dictionaries(st.sampled_from(KEYS), st.sampled_from([b"1", b"2", b"2x"]))


@LAW
@given(st.lists(st.tuples(st.sampled_from([A, B, C]), _entries), max_size=12))
def test_claims_equal_a_plain_dictionary(steps: list[tuple[Unit, dict[bytes, bytes]]]) -> None:
    claims = Claims(GROUPS, rank)
    wanted: dict[Unit, dict[bytes, bytes]] = {}
    before: dict[bytes, bytes] = {}
    for unit, entries in steps:
        changed = flat(claims.put(unit, entries))
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
    for groups in (UNGROUPED, GROUPS):
        assert claims.regroup(groups) == {}
        assert (dict(claims.items()), len(claims)) == (before, len(before))


@LAW
@given(
    st.lists(st.tuples(st.sampled_from([A, B, C]), _entries, st.booleans()), max_size=8),
    st.booleans(),
)
@example(
    [(A, {AX: b"1"}, False), (B, {AX: b"1"}, True), (C, {AX: b"1"}, True), (A, {}, False)],
    False,
)
def test_claims_recover_from_an_error_in_rank(
    steps: list[tuple[Unit, dict[bytes, bytes], bool]], regrouped: bool
) -> None:
    failing = False

    def fallible_rank(unit: Unit, key: bytes, value: bytes) -> Rank:
        if failing:
            raise ZeroDivisionError
        return rank(unit, key, value)

    claims, last, changed = (
        Claims(GROUPS, fallible_rank),
        dict[Unit, dict[bytes, bytes]](),
        dict[bytes, dict[bytes, bytes | None]](),
    )
    for unit, entries, raises in steps:
        failing = raises
        with contextlib.suppress(ZeroDivisionError):
            claims.put(unit, entries, changed)
        last[unit] = entries
        assert len(claims) == len(dict(claims.items()))
        assert set(claims.groups()) == set(map(GROUPS.of, claims))
    failing = False
    if regrouped:
        for group, former in claims.regroup(UNGROUPED).items():
            changed.setdefault(group, {}).update(former)
    for unit, entries in last.items():
        claims.put(unit, entries, changed)
    plain = Claims(GROUPS, rank)
    for unit, entries in last.items():
        plain.put(unit, entries)
    assert dict(claims.items()) == dict(plain.items())
    assert len(claims) == len(plain)
    assert flat(changed).keys() >= claims.keys()
    for unit in last:
        claims.put(unit, {})
    assert (dict(claims.items()), len(claims)) == ({}, 0)


@LAW
@given(_entries, _entries, _entries, st.integers(1, 4))
def test_comparison_finds_differing_and_missing_keys(
    one: dict[bytes, bytes], other: dict[bytes, bytes], existing: dict[bytes, bytes], size: int
) -> None:
    claims = Claims(GROUPS, rank)
    claims.put(A, one)
    claims.put(B, other)
    for found in ({}, existing, dict(claims.items())):
        comparison, differing = claims.compare(), dict[bytes, bytes]()
        keys = sorted(found)
        for start in range(0, len(keys), size):
            differing |= comparison.differing({key: found[key] for key in keys[start : start + size]})
        assert differing == {key: value for key, value in found.items() if claims.get(key) != value}
        assert sorted(comparison.missing()) == sorted(claims.keys() - found.keys())


OWN = b"/skydns/io/dtk/b/own_"


def by_service(zone: str) -> Zone:
    return ServicesZone(Name.parse(zone), template="{service}")


ZONED = Groups(
    Layout(), [ZONE, by_service("example.org"), by_service("eu.shop.example.org"), external_zone("dtk.io")]
)


@pytest.mark.parametrize(
    ("key", "group"),
    [
        (b"/skydns/local/cluster/svc/shop/web", b"/skydns/local/cluster/svc/shop/web"),
        (b"/skydns/local/cluster/svc/shop/web/_tcp/_http/A", b"/skydns/local/cluster/svc/shop/web"),
        (b"/skydns/local/cluster/nt_/svc/shop", b"/skydns/local/cluster/nt_/svc/shop"),
        (b"/skydns/local/cluster", b"/skydns/local/cluster"),
        (PTR, PTR),
        (b"/skydns/example/a/b/c/d/e/f", b"/skydns/example/a/b/c/d/e/f"),
        (b"/skydns/org/example/shop/A", b"/skydns/org/example/shop"),
        (b"/skydns/org/example/shop/eu", b"/skydns/org/example/shop"),
        (b"/skydns/org/example/shop/eu/web/A", b"/skydns/org/example/shop/eu/web"),
        (OWN, OWN),
        (OWN + b"/C", OWN),
    ],
)
def test_group_of_a_key(key: bytes, group: bytes) -> None:
    assert ZONED.of(key) == group


def test_group_with_a_deep_prefix_and_zone() -> None:
    groups = Groups(Layout("/a/b"), [ClusterZone(Name.parse("x.y.z"))])
    assert groups.of(b"/a/b/z/y/x/svc/shop/web/_tcp/_http/A") == b"/a/b/z/y/x/svc/shop/web"


_labels = st.sampled_from([b"a", b"eu", b"own_", b"_tcp", b"A-H"])
_tops = st.sampled_from(
    [
        b"/skydns",
        b"/skydns/local/cluster/svc/shop",
        b"/skydns/org/example/shop",
        b"/skydns/org/example/shop/eu",
        b"/skydns/io/dtk",
        b"/skydns/arpa/in-addr/10",
    ]
)
ZONED_KEYS = st.builds(lambda top, below: b"/".join([top, *below]), _tops, st.lists(_labels, max_size=4))


@LAW
@given(st.lists(ZONED_KEYS), st.booleans())
def test_runs_and_common_agree_with_of(keys: list[bytes], presorted: bool) -> None:
    ordered = sorted(keys) if presorted else keys
    pairs = [(group, key) for group, run in ZONED.runs(ordered) for key in run]
    assert pairs == [(ZONED.of(key), key) for key in ordered]
    common = ZONED.common(ordered) if ordered else None
    assert common is None or {ZONED.of(key) for key in ordered} == {common}


WEB, DB = Name.parse("web.test"), Name.parse("db.test")


def seniority(unit: Unit, age: str) -> tuple[str, str, str]:
    return (age, unit.namespace, unit.name)


@LAW
@given(
    st.lists(
        st.tuples(
            st.sampled_from([A, B, C]), st.dictionaries(st.sampled_from([WEB, DB]), st.sampled_from("123"))
        )
    )
)
def test_exclusive_name_goes_to_the_most_senior_and_changes_are_reported(
    steps: list[tuple[Unit, dict[Name, str]]],
) -> None:
    exclusive = ExclusiveNames()
    wanting_now: dict[Unit, dict[Name, str]] = {}
    for unit, wanted in steps:
        before = {name: exclusive.holder(name) for name in (WEB, DB)}
        exclusive.want(unit, {name: seniority(unit, age) for name, age in wanted.items()})
        wanting_now[unit] = wanted
        affected: set[Unit | None] = set()
        for name, holder in before.items():
            order = sorted(
                (seniority(one, ages[name]), one) for one, ages in wanting_now.items() if name in ages
            )
            wanting = [one for _, one in order]
            heir = next(iter(wanting), None)
            assert (exclusive.holder(name), exclusive.losers(name)) == (heir, wanting[1:])
            affected |= {holder, heir} - {unit, None} if heir != holder else set()
            affected |= {unit} if unit in wanting[1:] else set()
        assert exclusive.changed == affected
        exclusive.changed.clear()
