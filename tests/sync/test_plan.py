"""Plans: exactly the difference, ordered so that no name is missing in between; when deletions are held."""

from __future__ import annotations

from itertools import chain, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube2etcd.etcd import changes
from kube2etcd.sync.claims import Groups
from kube2etcd.sync.plan import Delete, Plan, applied, diff, generations, prune, to_hold
from kube2etcd.zones.services import ServicesZone
from skydns_compat.layout import Layout
from skydns_compat.message import Message, encode
from skydns_compat.names import Name
from tests.objects import PTR
from tests.strategies import LAW

OURS, THEIRS, UNOWNED, MALFORMED = (
    encode(Message(host="10.0.0.1", owner="us")),
    encode(Message(host="10.0.0.1", owner="them")),
    encode(Message(host="10.0.0.1")),
    b"{",
)
WANTED = encode(Message(host="10.0.0.2", owner="us"))
MARK = b'"owner":"us"'

KEYS = st.sampled_from(
    [f"/skydns/{zone}/{name}{leaf}".encode() for zone in "ab" for name in "xyz" for leaf in ("", "/A", "/B")]
)
DESIRED = st.dictionaries(KEYS, st.sampled_from([OURS, WANTED]), max_size=12)
EXISTING = st.dictionaries(KEYS, st.sampled_from([OURS, WANTED, THEIRS, UNOWNED, MALFORMED]), max_size=12)


@LAW
@given(EXISTING, DESIRED)
def test_diff_makes_existing_equal_to_desired(
    existing: dict[bytes, bytes], desired: dict[bytes, bytes]
) -> None:
    plan = diff(existing, desired, "us")
    after = applied(existing, plan.changes)
    foreign = {key: value for key, value in existing.items() if key not in desired and MARK not in value}
    assert after == {**desired, **foreign}
    assert plan.foreign == foreign.keys()
    assert plan.malformed == {key for key, value in foreign.items() if value == MALFORMED}
    assert diff(after, desired, "us").changes == ()
    keys = [change.key for change in plan.changes]
    assert keys == sorted(set(keys))
    for change in plan.changes:
        before, value = existing.get(change.key), getattr(change, "value", None)
        assert before == getattr(change, "before", None) != value == desired.get(change.key)
    assert diff(existing, desired, "us", existing.keys() | desired.keys()) == plan


@LAW
@given(EXISTING, DESIRED, st.frozensets(KEYS))
def test_plan_limited_to_keys(
    existing: dict[bytes, bytes], desired: dict[bytes, bytes], keys: frozenset[bytes]
) -> None:
    plan = diff(existing, desired, "us")
    rest = plan.without(keys)
    assert set(rest.changes) == {change for change in plan.changes if change.key not in keys}
    assert (rest.foreign, rest.malformed) == (plan.foreign, plan.malformed)
    some = diff(existing, desired, "us", keys)
    assert some.changes == tuple(change for change in plan.changes if change.key in keys)
    assert (some.foreign, some.malformed) == (plan.foreign & keys, plan.malformed & keys)


GROUPS = Groups(Layout(), [ServicesZone(Name.parse(zone), template="{service}") for zone in "ab"])


@LAW
@given(EXISTING, DESIRED, st.integers(1, 6))
def test_generations_keep_groups_together_and_add_before_delete(
    existing: dict[bytes, bytes], desired: dict[bytes, bytes], max_ops: int
) -> None:
    plan = diff(existing, desired, "us")
    adding, removing = generations(plan, GROUPS, max_ops)
    batches = adding + removing
    assert sorted(chain(*batches), key=lambda one: one.key) == list(plan.changes)
    assert all(0 < len(batch) <= max_ops for batch in batches)
    assert all(isinstance(one, changes.Delete) for batch in removing for one in batch)
    for some in (adding, removing):
        assert all(len(one) + len(other) > max_ops for one, other in pairwise(some))
    for group in {GROUPS.of(change.key) for change in plan.changes}:
        members = [change for change in plan.changes if GROUPS.of(change.key) == group]
        puts = [change for change in members if not isinstance(change, Delete)]
        if len(members) <= max_ops:  # one transaction
            assert sum(not set(batch).isdisjoint(members) for batch in batches) == 1
        elif puts:  # all puts come before the first deletion
            assert {one for batch in adding for one in batch if one in members} == set(puts)
    grown = diff({}, {b"/skydns/a/x/%d" % at: WANTED for at in range(len(desired))}, "us")
    assert len(generations(grown, GROUPS, max_ops)[0]) == -(-len(desired) // max_ops)


def names(count: int, *, value: bytes = OURS, leaf: str = "/10-0-0-1-H") -> dict[bytes, bytes]:
    return {f"/skydns/a/n{at:03}{leaf}".encode(): value for at in range(count)}


@pytest.mark.parametrize(
    ("existing", "desired", "held"),
    [
        pytest.param(names(9), {}, 0, id="nine of nine: below the minimum"),
        pytest.param(names(10), {}, 10, id="ten of ten"),
        pytest.param(names(100), dict(list(names(100).items())[30:]), 0, id="thirty of a hundred"),
        pytest.param(names(100), dict(list(names(100).items())[31:]), 31, id="thirty-one of a hundred"),
        pytest.param(names(20), names(20, value=WANTED), 0, id="only updates"),
        pytest.param(names(20), names(20, leaf="/10-0-0-2-H"), 0, id="same names, other addresses"),
        pytest.param(names(20), names(20, leaf=""), 0, id="leaves deleted, names stay"),
        pytest.param(
            {**names(20), **names(20, leaf="")},
            names(20, leaf=""),
            0,
            id="leaves deleted beside the names' own keys",
        ),
        pytest.param({**names(20), **names(20, leaf="/P")}, names(20), 0, id="one of two leaves deleted"),
        pytest.param(
            {b"/skydns/a/x/A%d-H" % at: OURS for at in range(20)}, {}, 0, id="many leaves of one name"
        ),
        pytest.param(
            {**names(12), **names(80, value=THEIRS, leaf="")}, {}, 12, id="foreign names do not count"
        ),
    ],
)
def test_to_hold(existing: dict[bytes, bytes], desired: dict[bytes, bytes], held: int) -> None:
    plan = diff(existing, desired, "us")
    found = to_hold(plan, existing, MARK)
    assert len(found) == held
    assert found <= plan.deletes


SHARED = b"/skydns/a/own_"


@pytest.mark.parametrize(
    ("key", "owner", "before", "planned"),
    [
        pytest.param(SHARED, "us", encode(Message(owner="them")), "contested", id="other id sorts first"),
        pytest.param(SHARED + b"/A", "us", THEIRS, "contested", id="other id sorts first, with data"),
        pytest.param(SHARED, "at", encode(Message(owner="them")), "updated", id="our id sorts first"),
        pytest.param(SHARED, "us", UNOWNED, "updated", id="no owner"),
        pytest.param(SHARED, "us", MALFORMED, "updated", id="malformed"),
        pytest.param(b"/skydns/a/b", "us", THEIRS, "updated", id="not a shared key"),
    ],
)
def test_smallest_owner_id_keeps_a_shared_key(key: bytes, owner: str, before: bytes, planned: str) -> None:
    wanted = encode(Message(host="10.0.0.9", owner=owner))
    plan = diff({key: before}, {key: wanted}, owner)
    assert (bool(plan.changes), bool(plan.contested)) == (planned == "updated", planned == "contested")
    assert plan.without(frozenset()) == plan
    assert not diff({key: wanted}, {}, "others").changes


@pytest.mark.parametrize(
    ("key", "value", "pruned"),
    [
        pytest.param(b"/skydns/local/cluster/svc/x", b'{"host":"192.0.2.1"}', True, id="no owner"),
        pytest.param(b"/skydns/local/cluster/svc/x", b'{"owner":"other"}', True, id="other owner"),
        pytest.param(b"/skydns/local/cluster/svc/x", b"{", True, id="malformed"),
        pytest.param(b"/skydns/local/cluster", b"{", True, id="malformed apex"),
        pytest.param(b"/skydns/local/cluster2", b"{", False, id="zone with the same prefix"),
        pytest.param(b"/skydns/test/x", b"{", False, id="outside our zones"),
        pytest.param(PTR, b"\\", True, id="PTR, malformed"),
        pytest.param(PTR, b'{"host":"192.0.2.1"}', True, id="PTR, no owner"),
        pytest.param(PTR, b'{"owner":"other"}', False, id="PTR, other owner"),
        pytest.param(PTR, b'{"owner":"kube2etcd/webhook"}', False, id="PTR of our webhook"),
        pytest.param(b"/skydns/arpa/other/x", b"{", False, id="below arpa, outside the reverse zones"),
        pytest.param(
            b"/skydns/local/cluster/x", b'{"owner":"kube2etcd/webhook"}', False, id="key of our webhook"
        ),
    ],
)
def test_prune(key: bytes, value: bytes, pruned: bool) -> None:
    existing = {key: value, b"/skydns/local/cluster/ours": b"{}"}
    found = prune([key], existing, Layout(), [Name.parse("cluster.local")])
    assert found == ((Delete(key, value),) if pruned else ())


class CountedDict(dict[bytes, bytes]):
    visited = 0

    def items(self) -> Any:
        for item in super().items():
            self.visited += 1
            yield item


def test_to_hold_stops_early_for_few_deletions() -> None:
    existing = CountedDict({f"/skydns/n{at}/{leaf}".encode(): OURS for at in range(10_000) for leaf in "AB"})
    gone = dict.fromkeys(list(existing)[:24], OURS)
    plan = Plan(tuple(Delete(key, value) for key, value in gone.items()))
    assert to_hold(plan, existing, MARK) == frozenset()
    assert existing.visited < 200
