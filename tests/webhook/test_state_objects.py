"""The state in objects: stored in parts, merged with that of other writers, repaired."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube2etcd.errors import ApiForbidden, ApiNotFound
from kube2etcd.external import Domain, Endpoint, parse_cluster_address
from kube2etcd.kube.failures import ApiRefused
from kube2etcd.kube.wire import ENDPOINTS, GENERATION, unpack
from kube2etcd.webhook import state_objects
from kube2etcd.webhook.state import NotStored, Overtaken, State, decode_endpoints
from kube2etcd.webhook.state_objects import MANAGER, ObjectsState
from tests.strategies import LAW
from tests.webhook.fakes import FakeApi


@pytest.fixture(autouse=True, scope="module")
def _sequential_requests() -> Iterator[None]:
    """For a defined order of events."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_objects, "AT_ONCE", 1)
        yield


def deadline() -> float:
    return time.monotonic() + 5


def state(*names: str, target: str = "10.0.0.1") -> State:
    endpoints = [Endpoint(f"{name}.dtk.io", (target,), "A") for name in names]
    return State({one.key: one for one in endpoints})


def test_another_store_loads_the_saved_state() -> None:
    api = FakeApi()
    saved = State(
        state("a", "b").endpoints, (Domain.parse("late.io"),), parse_cluster_address("192.0.2.1,2001:db8::1")
    )
    ObjectsState(api, "dns").save(saved, deadline())
    other = ObjectsState(api, "dns")
    assert other.load() == saved
    assert len(api.objects) == 3
    assert {one["metadata"]["labels"]["app.kubernetes.io/managed-by"] for one in api.objects.values()} == {
        MANAGER
    }
    other.clear()
    assert ObjectsState(api, "dns").load() == State()


def test_empty_state_is_written_so_that_missing_permissions_show() -> None:
    api = FakeApi()
    store = ObjectsState(api, "dns")
    assert store.check(store.load(), deadline()) == State()
    assert list(api.objects) == [MANAGER]


def test_only_what_changes_is_written() -> None:
    api = FakeApi()
    store = ObjectsState(api, "dns")
    assert store.load() == State()
    store.save(state(*"abcdefgh"), deadline())
    api.calls.clear()
    changed = State({**state(*"abcdefgh").endpoints, **state("c", target="10.0.0.9").endpoints})
    store.save(changed, deadline())
    store.save(changed, deadline())
    assert [call.split()[0] for call in api.calls] == ["PUT"]
    store.save(state("a"), deadline())
    assert ObjectsState(api, "dns").load() == state("a")
    assert store.check(store.load(), deadline()) == state("a")


def test_check_without_changes_returns_the_same_state() -> None:
    api = FakeApi()
    store = ObjectsState(api, "dns")
    saved = state("a", "b")
    store.save(saved, deadline())
    assert store.check(saved, deadline()) is saved
    # new resource versions, same content
    for one in api.objects.values():
        one["metadata"]["resourceVersion"] += "0"
    assert store.check(saved, deadline()) is saved


def test_objects_of_another_writer_are_adopted_and_conflicts_refused() -> None:
    api = FakeApi()
    one, two = ObjectsState(api, "dns"), ObjectsState(api, "dns")
    one.save(state("a", "b"), deadline())
    two.load()
    two.save(state("a", "b", target="10.0.0.2"), deadline())
    with pytest.raises(NotStored, match="another webhook has changed"):
        one.save(state("a", "b", target="10.0.0.3"), deadline())
    assert one.check(state("a", "b"), deadline()) == state("a", "b", target="10.0.0.2")
    one.save(state("a", "b", target="10.0.0.3"), deadline())
    assert two.check(state("a", "b", target="10.0.0.2"), deadline()) == state("a", "b", target="10.0.0.3")


def test_stale_restore_by_another_writer_is_corrected() -> None:
    api = FakeApi()
    one, two = ObjectsState(api, "dns"), ObjectsState(api, "dns")
    before, after = state("a", "b"), state("b", "c", target="10.0.0.2")
    one.save(before, deadline())
    assert two.load() == before
    two.save(after, deadline())
    api.objects.clear()
    # It restores what it knows, which is older than what the other has acknowledged.
    assert one.check(before, deadline()) == before
    assert two.check(after, deadline()) is after
    assert one.check(before, deadline()) == after
    assert ObjectsState(api, "dns").load() == after


def test_unconfirmed_write_does_not_become_stale() -> None:
    api = FakeApi()
    one, two = ObjectsState(api, "dns"), ObjectsState(api, "dns")
    one.save(state("a"), deadline())
    assert two.load() == state("a")
    api.lose_response = "PUT"
    with pytest.raises(NotStored, match="lost"):
        one.save(state("a", target="10.0.0.2"), deadline())
    api.lose_response = ""
    # Failed attempts do not raise the generation above that of the other writer.
    api.answer = ApiForbidden("not now")
    for _ in range(3):
        with pytest.raises(NotStored):
            one.save(state("a", target="10.0.0.3"), deadline())
    api.answer = None
    assert two.check(state("a"), deadline()) == state("a", target="10.0.0.2")
    with pytest.raises(NotStored):
        one.save(state("a"), deadline())
    assert one.check(state("a"), deadline()) == state("a", target="10.0.0.2")
    one.save(state("a"), deadline())
    assert two.check(state("a", target="10.0.0.2"), deadline()) == state("a")


@pytest.mark.parametrize("text", [None, "", "x", "-1", "9" * 16])
def test_object_without_generation_is_the_oldest(text: str | None) -> None:
    api = FakeApi()
    store = ObjectsState(api, "dns")
    store.save(state("a"), deadline())
    for one in api.objects.values():
        one["metadata"]["resourceVersion"] += "0"
        if one["metadata"]["name"] != MANAGER:
            one["metadata"]["annotations"] = {} if text is None else {GENERATION: text}
    assert ObjectsState(api, "dns").load() == State()
    assert store.check(state("a"), deadline()) == state("a")
    assert ObjectsState(api, "dns").load() == state("a")


def test_partial_save_is_rolled_back() -> None:
    api = FakeApi()
    store = ObjectsState(api, "dns")
    store.save(state(*"abcdefgh"), deadline())
    remaining = [3]

    def fail_after_three() -> None:
        remaining[0] -= 1
        api.answer = ApiForbidden("no") if remaining[0] < 0 else None

    api.before = fail_after_three
    with pytest.raises(NotStored, match="no"):
        store.save(state(*"abcdefgh", target="10.0.0.2"), deadline())
    api.before, api.answer = lambda: None, None
    assert store.check(state(*"abcdefgh"), deadline()) == state(*"abcdefgh")
    assert ObjectsState(api, "dns").load() == state(*"abcdefgh")


def test_null_fields_are_empty_and_deep_fields_skipped() -> None:
    api = FakeApi()
    saved = state("a", "b")
    ObjectsState(api, "dns").save(saved, deadline())
    for number, annotations in enumerate((None, {GENERATION: None})):
        meta = {"name": f"null-{number}", "resourceVersion": "1", "annotations": annotations}
        api.objects[f"null-{number}"] = {"metadata": meta, "spec": None}
    assert ObjectsState(api, "dns").load() == saved
    api.objects["null-0"]["status"] = "DEEP"
    items = json.dumps({"items": list(api.objects.values())})
    api.answer = items.replace('"DEEP"', "[" * 5000 + "]" * 5000).encode()
    assert ObjectsState(api, "dns").load() == saved


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (ApiNotFound("no such kind"), "DNSEndpoint definition"),
        (ApiForbidden("not allowed"), "not allowed"),
        (ApiRefused("invalid", 422), "invalid"),
        (b"{", "no such object"),
        (b"[]", "no such object"),
        (b"{}", "`items`"),
        (b'{"items":7}', "`int`"),
        (b'{"items":[7]}', "`int`"),
    ],
)
def test_unusable_answers(answer: bytes | Exception, hint: str) -> None:
    api = FakeApi()
    api.answer = answer
    with pytest.raises(NotStored, match=hint):
        ObjectsState(api, "dns").load()


@pytest.mark.parametrize(
    "damage",
    [
        {"annotations": {"kube2etcd/webhook": "{"}},
        {"annotations": {"kube2etcd/webhook": "[" * 5000}},
        {"annotations": {}},
    ],
)
def test_unreadable_head_is_not_an_empty_state(damage: dict[str, Any]) -> None:
    api = FakeApi()
    ObjectsState(api, "dns").save(State(domains=(Domain.parse("late.io"),)), deadline())
    api.objects[MANAGER]["metadata"].update(damage)
    with pytest.raises(NotStored, match=f"dns/{MANAGER} cannot be used"):
        ObjectsState(api, "dns").load()


def test_object_deleted_during_a_write_is_restored() -> None:
    api = FakeApi()
    store = ObjectsState(api, "dns")
    store.save(state("a"), deadline())
    api.objects.clear()
    with pytest.raises(NotStored):
        store.save(state("a", target="10.0.0.2"), deadline())
    store.save(state("a", target="10.0.0.2"), deadline())
    assert ObjectsState(api, "dns").load() == state("a", target="10.0.0.2")
    assert store.check(state("a"), deadline()) == state("a")
    assert ObjectsState(api, "dns").load() == state("a")


def test_passed_deadline() -> None:
    store = ObjectsState(FakeApi(), "dns")
    with pytest.raises(NotStored, match="too slow"):
        store.save(state("a"), time.monotonic() - 1)


def in_every_part(target: str) -> State:
    return state(*map(str, range(1000)), target=target)


def test_parts_are_written_with_limited_concurrency(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_objects, "AT_ONCE", 8)
    api, all_inside, inside, counts = FakeApi(), threading.Barrier(8, timeout=60), set(), []

    def wait_for_all() -> None:
        inside.add(threading.get_ident())
        counts.append(len(inside))
        all_inside.wait()
        inside.discard(threading.get_ident())

    store = ObjectsState(api, "dns")
    store.save(State(), deadline())
    api.calls.clear()
    api.before = wait_for_all
    store.save(in_every_part("10.0.0.1"), deadline())
    api.before = lambda: None
    assert max(counts) == 8
    assert len(api.calls) == 64
    assert ObjectsState(api, "dns").load() == in_every_part("10.0.0.1")


@pytest.mark.parametrize("lost", [False, True], ids=["conflict", "lost response"])
def test_failed_part_affects_no_other(monkeypatch: pytest.MonkeyPatch, lost: bool) -> None:
    monkeypatch.setattr(state_objects, "AT_ONCE", 8)
    api = FakeApi()
    one, two = ObjectsState(api, "dns"), ObjectsState(api, "dns")
    one.save(in_every_part("10.0.0.1"), deadline())
    other = two.load()
    if lost:
        part = f"{MANAGER}-07"
        api.lose_response = f"PUT {part}"
        with pytest.raises(NotStored, match="lost"):
            one.save(in_every_part("10.0.0.2"), deadline())
        api.lose_response = ""
        # Others may have read what was written, so it stays.
        stored = api.objects[part]["metadata"]["annotations"][ENDPOINTS]
        other = State({**other.endpoints, **decode_endpoints(unpack(stored))})
    else:
        other = State({**other.endpoints, **state("5", target="10.0.0.9").endpoints})
        two.save(other, deadline())
        with pytest.raises(Overtaken):
            one.save(in_every_part("10.0.0.2"), deadline())
    assert one.check(in_every_part("10.0.0.1"), deadline()) == other
    one.save(in_every_part("10.0.0.2"), deadline())
    assert two.check(other, deadline()) == in_every_part("10.0.0.2")
    assert ObjectsState(api, "dns").load() == in_every_part("10.0.0.2")


@LAW
@given(st.data())
def test_deleted_objects_are_restored_without_loss(data: st.DataObject) -> None:
    """While two webhooks run and objects are deleted at any moment, no part of the state is lost."""
    api = FakeApi()
    expected = state(*"abcdefgh")
    stores = [ObjectsState(api, "dns"), ObjectsState(api, "dns")]
    stores[0].save(expected, deadline())
    states = [expected, stores[1].load()]
    nested = False

    def disturb() -> None:
        nonlocal nested
        if nested:
            return
        action = data.draw(st.sampled_from(["nothing", "delete", "other"]))
        if action == "delete" and api.objects:
            api.objects.pop(data.draw(st.sampled_from(sorted(api.objects))))
        elif action == "other":
            nested = True
            check(1)
            nested = False

    def check(number: int) -> None:
        with contextlib.suppress(NotStored):
            states[number] = stores[number].check(states[number], deadline())

    api.before = disturb
    for _ in range(4):
        check(0)
    api.before = lambda: None
    for _ in range(3):
        check(0)
        check(1)
    assert states == [expected, expected]
    assert ObjectsState(api, "dns").load() == expected
