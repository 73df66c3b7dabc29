"""The state in objects: stored in parts, merged with other writers, repaired."""

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
def _one_after_the_other() -> Iterator[None]:
    """So that a test can say what happens when."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_objects, "AT_ONCE", 1)
        yield


def soon() -> float:
    return time.monotonic() + 5


def state(*names: str, target: str = "10.0.0.1") -> State:
    endpoints = [Endpoint(f"{name}.dtk.io", (target,), "A") for name in names]
    return State({one.key: one for one in endpoints})


def test_another_store_loads_the_saved_state() -> None:
    api = FakeApi()
    kept = State(
        state("a", "b").endpoints, (Domain.parse("late.io"),), parse_cluster_address("192.0.2.1,2001:db8::1")
    )
    ObjectsState(api, "dns").save(kept, soon())
    other = ObjectsState(api, "dns")
    assert other.load() == kept
    assert len(api.objects) == 3
    assert {one["metadata"]["labels"]["app.kubernetes.io/managed-by"] for one in api.objects.values()} == {
        MANAGER
    }
    other.clear()
    assert ObjectsState(api, "dns").load() == State()


def test_an_empty_state_is_written_so_that_a_missing_right_or_namespace_shows() -> None:
    api = FakeApi()
    store = ObjectsState(api, "dns")
    assert store.check(store.load(), soon()) == State()
    assert list(api.objects) == [MANAGER]


def test_only_what_changes_is_written() -> None:
    api = FakeApi()
    store = ObjectsState(api, "dns")
    assert store.load() == State()
    store.save(state(*"abcdefgh"), soon())
    api.calls.clear()
    changed = State({**state(*"abcdefgh").endpoints, **state("c", target="10.0.0.9").endpoints})
    store.save(changed, soon())
    store.save(changed, soon())
    assert [call.split()[0] for call in api.calls] == ["PUT"]
    store.save(state("a"), soon())
    assert ObjectsState(api, "dns").load() == state("a")
    assert store.check(store.load(), soon()) == state("a")


def test_nothing_new_is_the_same_state() -> None:
    api = FakeApi()
    store = ObjectsState(api, "dns")
    kept = state("a", "b")
    store.save(kept, soon())
    assert store.check(kept, soon()) is kept
    # touched by somebody, and still what it was
    for one in api.objects.values():
        one["metadata"]["resourceVersion"] += "0"
    assert store.check(kept, soon()) is kept


def test_another_writers_objects_are_adopted_and_conflicts_refused() -> None:
    api = FakeApi()
    one, two = ObjectsState(api, "dns"), ObjectsState(api, "dns")
    one.save(state("a", "b"), soon())
    two.load()
    two.save(state("a", "b", target="10.0.0.2"), soon())
    with pytest.raises(NotStored, match="another webhook has changed"):
        one.save(state("a", "b", target="10.0.0.3"), soon())
    assert one.check(state("a", "b"), soon()) == state("a", "b", target="10.0.0.2")
    one.save(state("a", "b", target="10.0.0.3"), soon())
    assert two.check(state("a", "b", target="10.0.0.2"), soon()) == state("a", "b", target="10.0.0.3")


def test_a_stale_restore_by_another_writer_is_corrected() -> None:
    api = FakeApi()
    one, two = ObjectsState(api, "dns"), ObjectsState(api, "dns")
    before, after = state("a", "b"), state("b", "c", target="10.0.0.2")
    one.save(before, soon())
    assert two.load() == before
    two.save(after, soon())
    api.objects.clear()
    # It puts back what it knows, which is not what two has answered for since.
    assert one.check(before, soon()) == before
    assert two.check(after, soon()) is after
    assert one.check(before, soon()) == after
    assert ObjectsState(api, "dns").load() == after


def test_an_unconfirmed_write_does_not_age() -> None:
    api = FakeApi()
    one, two = ObjectsState(api, "dns"), ObjectsState(api, "dns")
    one.save(state("a"), soon())
    assert two.load() == state("a")
    api.unheard = "PUT"
    with pytest.raises(NotStored, match="lost"):
        one.save(state("a", target="10.0.0.2"), soon())
    api.unheard = ""
    # However often it asks in vain, what another is told meanwhile is not older for that.
    api.answer = ApiForbidden("not now")
    for _ in range(3):
        with pytest.raises(NotStored):
            one.save(state("a", target="10.0.0.3"), soon())
    api.answer = None
    assert two.check(state("a"), soon()) == state("a", target="10.0.0.2")
    with pytest.raises(NotStored):
        one.save(state("a"), soon())
    assert one.check(state("a"), soon()) == state("a", target="10.0.0.2")
    one.save(state("a"), soon())
    assert two.check(state("a", target="10.0.0.2"), soon()) == state("a")


@pytest.mark.parametrize("text", [None, "", "x", "-1", "9" * 16])
def test_an_object_without_generation_is_the_oldest(text: str | None) -> None:
    api = FakeApi()
    store = ObjectsState(api, "dns")
    store.save(state("a"), soon())
    for one in api.objects.values():
        one["metadata"]["resourceVersion"] += "0"
        if one["metadata"]["name"] != MANAGER:
            one["metadata"]["annotations"] = {} if text is None else {GENERATION: text}
    assert ObjectsState(api, "dns").load() == State()
    assert store.check(state("a"), soon()) == state("a")
    assert ObjectsState(api, "dns").load() == state("a")


def test_a_partial_save_is_rolled_back() -> None:
    api = FakeApi()
    store = ObjectsState(api, "dns")
    store.save(state(*"abcdefgh"), soon())
    left = [3]

    def fail_later() -> None:
        left[0] -= 1
        api.answer = ApiForbidden("no") if left[0] < 0 else None

    api.before = fail_later
    with pytest.raises(NotStored, match="no"):
        store.save(state(*"abcdefgh", target="10.0.0.2"), soon())
    api.before, api.answer = lambda: None, None
    assert store.check(state(*"abcdefgh"), soon()) == state(*"abcdefgh")
    assert ObjectsState(api, "dns").load() == state(*"abcdefgh")


def test_null_is_empty_and_a_deep_field_is_skipped() -> None:
    api = FakeApi()
    kept = state("a", "b")
    ObjectsState(api, "dns").save(kept, soon())
    for number, annotations in enumerate((None, {GENERATION: None})):
        meta = {"name": f"odd-{number}", "resourceVersion": "1", "annotations": annotations}
        api.objects[f"odd-{number}"] = {"metadata": meta, "spec": None}
    assert ObjectsState(api, "dns").load() == kept
    api.objects["odd-0"]["status"] = "DEEP"
    items = json.dumps({"items": list(api.objects.values())})
    api.answer = items.replace('"DEEP"', "[" * 5000 + "]" * 5000).encode()
    assert ObjectsState(api, "dns").load() == kept


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (ApiNotFound("no such kind"), "DNSEndpoint definition"),
        (ApiForbidden("not allowed"), "not allowed"),
        (ApiRefused("too odd", 422), "too odd"),
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
def test_an_unreadable_head_is_not_an_empty_state(damage: dict[str, Any]) -> None:
    api = FakeApi()
    ObjectsState(api, "dns").save(State(domains=(Domain.parse("late.io"),)), soon())
    api.objects[MANAGER]["metadata"].update(damage)
    with pytest.raises(NotStored, match=f"dns/{MANAGER} cannot be used"):
        ObjectsState(api, "dns").load()


def test_an_object_deleted_during_a_write_is_restored() -> None:
    api = FakeApi()
    store = ObjectsState(api, "dns")
    store.save(state("a"), soon())
    api.objects.clear()
    with pytest.raises(NotStored):
        store.save(state("a", target="10.0.0.2"), soon())
    store.save(state("a", target="10.0.0.2"), soon())
    assert ObjectsState(api, "dns").load() == state("a", target="10.0.0.2")
    assert store.check(state("a"), soon()) == state("a")
    assert ObjectsState(api, "dns").load() == state("a")


def test_a_deadline_that_has_passed() -> None:
    store = ObjectsState(FakeApi(), "dns")
    with pytest.raises(NotStored, match="too slow"):
        store.save(state("a"), time.monotonic() - 1)


def everywhere(target: str) -> State:
    return state(*map(str, range(1000)), target=target)


def test_parts_are_written_with_bounded_concurrency(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_objects, "AT_ONCE", 8)
    api, together, inside, most = FakeApi(), threading.Barrier(8, timeout=60), set(), []

    def together_or_never() -> None:
        inside.add(threading.get_ident())
        most.append(len(inside))
        together.wait()
        inside.discard(threading.get_ident())

    store = ObjectsState(api, "dns")
    store.save(State(), soon())
    api.calls.clear()
    api.before = together_or_never
    store.save(everywhere("10.0.0.1"), soon())
    api.before = lambda: None
    assert max(most) == 8
    assert len(api.calls) == 64
    assert ObjectsState(api, "dns").load() == everywhere("10.0.0.1")


@pytest.mark.parametrize("lost", [False, True])
def test_a_failed_part_spoils_no_other(monkeypatch: pytest.MonkeyPatch, lost: bool) -> None:
    monkeypatch.setattr(state_objects, "AT_ONCE", 8)
    api = FakeApi()
    one, two = ObjectsState(api, "dns"), ObjectsState(api, "dns")
    one.save(everywhere("10.0.0.1"), soon())
    theirs = two.load()
    if lost:
        part = f"{MANAGER}-07"
        api.unheard = f"PUT {part}"
        with pytest.raises(NotStored, match="lost"):
            one.save(everywhere("10.0.0.2"), soon())
        api.unheard = ""
        # What is there now may have been read by others already, so it stays.
        there = api.objects[part]["metadata"]["annotations"][ENDPOINTS]
        theirs = State({**theirs.endpoints, **decode_endpoints(unpack(there))})
    else:
        theirs = State({**theirs.endpoints, **state("5", target="10.0.0.9").endpoints})
        two.save(theirs, soon())
        with pytest.raises(Overtaken):
            one.save(everywhere("10.0.0.2"), soon())
    assert one.check(everywhere("10.0.0.1"), soon()) == theirs
    one.save(everywhere("10.0.0.2"), soon())
    assert two.check(theirs, soon()) == everywhere("10.0.0.2")
    assert ObjectsState(api, "dns").load() == everywhere("10.0.0.2")


@LAW
@given(st.data())
def test_deleted_objects_are_restored_without_loss(data: st.DataObject) -> None:
    """Two webhooks and somebody who deletes objects at any moment: all of the state is there in the end."""
    api = FakeApi()
    wanted = state(*"abcdefgh")
    stores = [ObjectsState(api, "dns"), ObjectsState(api, "dns")]
    stores[0].save(wanted, soon())
    states = [wanted, stores[1].load()]
    nested = False

    def disturb() -> None:
        nonlocal nested
        if nested:
            return
        what = data.draw(st.sampled_from(["nothing", "delete", "other"]))
        if what == "delete" and api.objects:
            api.objects.pop(data.draw(st.sampled_from(sorted(api.objects))))
        elif what == "other":
            nested = True
            look(1)
            nested = False

    def look(number: int) -> None:
        with contextlib.suppress(NotStored):
            states[number] = stores[number].check(states[number], soon())

    api.before = disturb
    for _ in range(4):
        look(0)
    api.before = lambda: None
    for _ in range(3):
        look(0)
        look(1)
    assert states == [wanted, wanted]
    assert ObjectsState(api, "dns").load() == wanted
