"""The webhook's state in a real etcd: atomic, repaired, safe for concurrent writers."""

import random
import time
from collections.abc import Iterable, Iterator
from typing import Any
from unittest.mock import Mock

import pytest

from kube2etcd.errors import EtcdUnavailable
from kube2etcd.etcd.client import EtcdConnection
from kube2etcd.external import Endpoint
from kube2etcd.settings import Etcd as EtcdSettings
from kube2etcd.webhook.state import NotStored, Overtaken, State
from kube2etcd.webhook.state_etcd import EtcdState
from tests.stack.harness import SLOW, Etcd
from tests.stack.watching import record_requests
from tests.stack.webhook import STATE, state_keys


def state_of(*endpoints: Endpoint) -> State:
    return State({one.key: one for one in endpoints})


def state(*names: str) -> State:
    return state_of(*(Endpoint(f"{name}.dtk.io", ("10.0.0.5",), "A") for name in names))


def numbered(count: int) -> State:
    return state(*(f"n{number}" for number in range(count)))


def texts(values: Iterable[str]) -> State:
    return state_of(*(Endpoint(f"t{at}.dtk.io", (value,), "TXT") for at, value in enumerate(values)))


def incompressible(count: int) -> State:
    """TXT records so large that a few fill a transaction."""
    chance = random.Random(1)
    return texts(f"{chance.getrandbits(200000):x}" for _ in range(count))


def deadline() -> float:
    return time.monotonic() + 10


@pytest.fixture
def connection(etcd: Etcd) -> Iterator[EtcdConnection]:
    with etcd.connection(timeout=2) as opened:
        yield opened


@pytest.fixture
def store(connection: EtcdConnection) -> EtcdState:
    state_of = EtcdState(connection, STATE)
    assert state_of.load() == State()
    return state_of


def reload(connection: EtcdConnection) -> State:
    return EtcdState(connection, STATE).load()


def test_saved_state_is_loaded(etcd: Etcd, connection: EtcdConnection, store: EtcdState) -> None:
    store.check(State(), deadline())
    # Written at the start, to notice an etcd that refuses writes before the first request.
    assert state_keys(etcd) == [f"{STATE}/head"]
    for kept in (state("a"), state("a", "b"), state("b"), State()):
        store.save(kept, deadline())
        assert reload(connection) == kept
    assert state_keys(etcd) == [f"{STATE}/head"]
    store.save(state("a"), deadline())
    assert sorted(state_keys(etcd)) == [f"{STATE}/endpoint/a.dtk.io/A/", f"{STATE}/head"]


def test_unchanged_state_writes_nothing(etcd: Etcd, store: EtcdState) -> None:
    store.save(state("a"), deadline())
    revision = etcd.revision()
    store.save(state("a"), deadline())
    assert store.check(state("a"), deadline()) == state("a")
    assert etcd.revision() == revision


def test_added_endpoint_is_one_small_transaction(etcd: Etcd, store: EtcdState) -> None:
    store.save(numbered(10000), deadline())
    revision = etcd.revision()
    began = time.monotonic()
    store.save(numbered(10001), deadline())
    assert time.monotonic() - began < 1 * SLOW
    assert etcd.revision() == revision + 1


def test_state_larger_than_a_transaction(connection: EtcdConnection, store: EtcdState) -> None:
    store.save(incompressible(150), deadline())
    assert reload(connection) == incompressible(150)


@pytest.mark.parametrize(
    ("old", "new"), [(state("a"), incompressible(100)), (numbered(150), State())], ids=["writes", "deletes"]
)
def test_killed_writer_leaves_the_old_state(
    etcd: Etcd,
    connection: EtcdConnection,
    store: EtcdState,
    monkeypatch: pytest.MonkeyPatch,
    old: State,
    new: State,
) -> None:
    store.save(old, deadline())
    keys = state_keys(etcd)

    def dies(number: int) -> None:
        if number == 2:
            raise EtcdUnavailable("killed")

    record_requests(connection, monkeypatch, dies)
    with pytest.raises(NotStored):
        store.save(new, deadline())
    monkeypatch.undo()
    assert state_keys(etcd) != keys, "the first transaction was applied"
    successor = EtcdState(connection, STATE)
    assert successor.load() == old
    successor.save(state("a", "b"), deadline())
    assert len(state_keys(etcd)) == 3
    assert reload(connection) == state("a", "b")


def test_compacted_partial_write_is_undone(etcd: Etcd, connection: EtcdConnection, store: EtcdState) -> None:
    store.save(state("a"), deadline())
    etcd.put(
        f"{STATE}/endpoint/b.dtk.io/A/", '{"dnsName":"b.dtk.io","targets":["10.0.0.5"],"recordType":"A"}'
    )
    assert reload(connection) == state("a")
    etcd.ctl("compact", str(etcd.revision()))
    assert reload(connection) == state("a", "b")
    assert store.check(state("a"), deadline()) == state("a")
    assert reload(connection) == state("a")


FOREIGN = {
    "endpoint/a.dtk.io/A/x": "garbage",
    "endpoint/other": "{}",
    "endpoint/deep": "[" * 5000,
    "note": "x",
}


def test_foreign_and_damaged_values_affect_no_others(
    etcd: Etcd,
    connection: EtcdConnection,
    store: EtcdState,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store.save(state("a", "b"), deadline())
    for key, value in FOREIGN.items():
        etcd.put(f"{STATE}/{key}", value)
    kept = state("a", "b")
    for _ in range(2):
        assert store.check(kept, deadline()) is kept
        assert [one.message for one in caplog.records] == [
            f"{STATE}: 4 foreign keys, left alone, the first is '{STATE}/endpoint/a.dtk.io/A/x'"
        ]
    # A damaged value of ours is rewritten, and until then the others are read.
    etcd.put(f"{STATE}/endpoint/b.dtk.io/A/", "garbage")
    etcd.ctl("compact", str(etcd.revision()))
    assert reload(connection) == state("a")
    assert store.check(kept, deadline()) is kept
    revision, asked = etcd.revision(), record_requests(connection, monkeypatch)
    assert store.check(kept, deadline()) is kept
    assert (etcd.revision(), asked) == (revision, ["Txn"]), "the state is not read again"
    monkeypatch.undo()
    store.save(state("a", "c"), deadline())
    assert reload(connection) == state("a", "c")
    for key, value in FOREIGN.items():
        assert etcd.ctl("get", "--print-value-only", "--", f"{STATE}/{key}").strip() == value


OLD, NEW = texts(["old"] * 250), texts(["new"] * 250)


def test_value_damaged_before_a_save_is_repaired_after_it(
    etcd: Etcd, connection: EtcdConnection, store: EtcdState
) -> None:
    store.save(state("a"), deadline())
    etcd.put(f"{STATE}/endpoint/a.dtk.io/A/", "garbage")
    store.save(state("a", "b"), deadline())
    assert store.check(state("a", "b"), deadline()) == state("a", "b")
    assert reload(connection) == state("a", "b")
    revision = etcd.revision()
    assert store.check(state("a", "b"), deadline()) == state("a", "b")
    assert etcd.revision() == revision


@pytest.mark.parametrize("before", [State(), OLD], ids=["new keys", "new values"])
def test_concurrent_writers_never_adopt_partial_state(
    connection: EtcdConnection, store: EtcdState, monkeypatch: pytest.MonkeyPatch, before: State
) -> None:
    store.save(before, deadline())
    other = EtcdState(connection, STATE)
    assert other.load() == before
    theirs = State({**before.endpoints, **state("b").endpoints})

    def between_two_transactions(number: int) -> None:
        if number == 2:
            other.save(theirs, deadline())

    record_requests(connection, monkeypatch, between_two_transactions)
    with pytest.raises(Overtaken):
        store.save(NEW, deadline())
    monkeypatch.undo()
    assert store.check(before, deadline()) == theirs
    assert reload(connection) == theirs
    store.save(NEW, deadline())
    assert other.check(theirs, deadline()) == NEW


@pytest.mark.parametrize("carried_out", [True, False])
def test_lost_response_restores_the_acknowledged_state(
    connection: EtcdConnection, store: EtcdState, monkeypatch: pytest.MonkeyPatch, carried_out: bool
) -> None:
    store.save(state("a"), deadline())
    real, sent = connection.start, []

    def start(method: str, request: Any) -> Any:
        sent.append(request)
        if carried_out:
            real(method, request).result()
        return Mock(result=Mock(side_effect=EtcdUnavailable("no answer")))

    monkeypatch.setattr(connection, "start", start)
    with pytest.raises(NotStored):
        store.save(state("b"), deadline())
    monkeypatch.undo()
    # "a" was acknowledged, so it is restored.
    assert store.check(state("a"), deadline()) == state("a")
    for request in sent:
        assert not connection.start("Txn", request).result().succeeded, "too late"
    assert reload(connection) == state("a")
    store.save(state("c"), deadline())
    assert reload(connection) == state("c")


def test_lost_data_is_restored(etcd: Etcd, connection: EtcdConnection, store: EtcdState) -> None:
    kept = state("a", "b")
    store.save(kept, deadline())
    for lost in ("", "/head", "/endpoint"):
        etcd.delete(STATE + lost)
        assert store.check(kept, deadline()) is kept
        assert reload(connection) == kept
    etcd.delete(STATE)
    store.save(state("c"), deadline())
    assert reload(connection) == state("c")


def test_restored_backup_is_overwritten(connection: EtcdConnection, store: EtcdState, etcd: Etcd) -> None:
    store.save(state("a"), deadline())
    old = etcd.ctl("get", "--print-value-only", "--", f"{STATE}/head").strip()
    store.save(state("b"), deadline())
    store.save(state("c"), deadline())
    etcd.put(f"{STATE}/head", old)
    assert store.check(state("c"), deadline()) == state("c")
    assert reload(connection) == state("c")


def test_newer_state_of_another_writer_is_kept(connection: EtcdConnection, store: EtcdState) -> None:
    store.save(state("a"), deadline())
    other = EtcdState(connection, STATE)
    other.load()
    other.save(state("a", "b"), deadline())
    with pytest.raises(NotStored, match="another webhook"):
        store.save(state("a", "c"), deadline())
    assert store.check(state("a"), deadline()) == state("a", "b")
    store.save(state("a", "b", "c"), deadline())
    assert other.check(state("a", "b"), deadline()) == state("a", "b", "c")


def test_unreadable_state_is_kept(etcd: Etcd, connection: EtcdConnection, store: EtcdState) -> None:
    store.save(state("a"), deadline())
    etcd.put(f"{STATE}/head", '{"version":2}')
    with pytest.raises(NotStored, match="--cleanup"):
        reload(connection)
    with pytest.raises(NotStored, match="--cleanup"):
        store.save(state("b"), deadline())
    assert '{"version":2}' in etcd.ctl("get", "--", f"{STATE}/head")
    store.clear()
    assert reload(connection) == State()


def test_other_servers_are_tried_until_the_deadline(etcd: Etcd) -> None:
    servers = ("http://127.0.0.1:1", etcd.url)
    with EtcdConnection(EtcdSettings(servers), timeout=2) as opened:
        store = EtcdState(opened, STATE)
        assert store.load() == State()
        store.save(state("a"), deadline())
    with (
        EtcdConnection(EtcdSettings(servers), timeout=2) as opened,
        pytest.raises(NotStored, match="too slow"),
    ):
        EtcdState(opened, STATE).check(state("a"), time.monotonic() - 1)
