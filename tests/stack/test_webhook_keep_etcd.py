"""The state in a real etcd: whole or not at all, whatever was lost, and whoever else writes."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from kube2etcd.errors import EtcdUnavailable
from kube2etcd.etcd.client import EtcdConnection, connect
from kube2etcd.etcd.settings import EtcdSettings
from kube2etcd.external import Endpoint
from kube2etcd.webhook.keep import NotKept
from kube2etcd.webhook.keep_etcd import EtcdKeeper
from kube2etcd.webhook.state import State
from tests.stack.harness import SLOW, Etcd

PREFIX = "/kube2etcd/webhook"


def state(*names: str, text: str = "") -> State:
    found = [Endpoint(f"{name}.dtk.io", (text or "10.0.0.5",), "TXT" if text else "A") for name in names]
    return State({one.key: one for one in found})


def soon() -> float:
    return time.monotonic() + 10


@pytest.fixture
def connection(etcd: Etcd) -> Iterator[EtcdConnection]:
    with connect(EtcdSettings((etcd.url,), timeout=2)) as opened:
        yield opened


@pytest.fixture
def keeper(connection: EtcdConnection) -> EtcdKeeper:
    made = EtcdKeeper(connection, PREFIX)
    assert made.load() == State()
    return made


def fresh(connection: EtcdConnection) -> State:
    return EtcdKeeper(connection, PREFIX).load()


def keys(etcd: Etcd) -> list[str]:
    return etcd.ctl("get", "--prefix", "--keys-only", "--", PREFIX).split()


def test_kept_and_read_again(etcd: Etcd, connection: EtcdConnection, keeper: EtcdKeeper) -> None:
    keeper.check(State(), soon())
    assert keys(etcd) == []
    for kept in (state("a"), state("a", "b"), state("b"), State()):
        keeper.save(kept, soon())
        assert fresh(connection) == kept
    # Nothing of former states is left but the manifest.
    assert keys(etcd) == [f"{PREFIX}/manifest"]


def test_the_same_again_writes_nothing(etcd: Etcd, keeper: EtcdKeeper) -> None:
    keeper.save(state("a"), soon())
    revision = etcd.revision()
    keeper.save(state("a"), soon())
    assert keeper.check(state("a"), soon()) == state("a")
    assert etcd.revision() == revision


def test_one_endpoint_more_is_one_small_transaction(etcd: Etcd, keeper: EtcdKeeper) -> None:
    many = [f"n{number}" for number in range(10000)]
    keeper.save(state(*many), soon())
    revision = etcd.revision()
    began = time.monotonic()
    keeper.save(state(*many, "more"), soon())
    assert time.monotonic() - began < 1 * SLOW
    assert etcd.revision() == revision + 1


def test_more_than_a_transaction_takes(connection: EtcdConnection, keeper: EtcdKeeper) -> None:
    chance = random.Random(1)
    large = state(*(f"t{number}" for number in range(150)), text=f"{chance.getrandbits(200000):x}")
    incompressible = State(
        {
            key: Endpoint(one.dns_name, (f"{chance.getrandbits(200000):x}",), "TXT")
            for key, one in large.endpoints.items()
        }
    )
    keeper.save(incompressible, soon())
    assert fresh(connection) == incompressible


def test_a_writer_that_died_in_between_leaves_the_old_state(
    etcd: Etcd, connection: EtcdConnection, keeper: EtcdKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper.save(state("a"), soon())
    chance = random.Random(2)
    names = [f"t{number}" for number in range(100)]
    large = State(
        {
            (one := Endpoint(f"{name}.dtk.io", (f"{chance.getrandbits(200000):x}",), "TXT")).key: one
            for name in names
        }
    )
    real, asked = keeper._ask, []

    def dies(method: str, request: Any, deadline: float) -> Any:
        asked.append(method)
        if len(asked) == 2:
            raise NotKept("killed")
        return real(method, request, deadline)

    monkeypatch.setattr(keeper, "_ask", dies)
    with pytest.raises(NotKept):
        keeper.save(large, soon())
    assert len(keys(etcd)) > 2
    successor = EtcdKeeper(connection, PREFIX)
    assert successor.load() == state("a")
    successor.save(state("a", "b"), soon())
    assert len(keys(etcd)) <= 3


@pytest.mark.parametrize("carried_out", [True, False])
def test_an_answer_that_was_not_heard(
    connection: EtcdConnection, keeper: EtcdKeeper, monkeypatch: pytest.MonkeyPatch, carried_out: bool
) -> None:
    keeper.save(state("a"), soon())
    real = connection.start

    class Unheard:
        def result(self) -> Any:
            raise EtcdUnavailable("no answer")

    def start(method: str, request: Any) -> Any:
        if carried_out:
            real(method, request).result()
        return Unheard()

    monkeypatch.setattr(connection, "start", start)
    with pytest.raises(NotKept):
        keeper.save(state("b"), soon())
    monkeypatch.undo()
    # What was answered for is "a", and that is what is kept again.
    assert keeper.check(state("a"), soon()) == state("a")
    assert fresh(connection) == state("a")
    keeper.save(state("c"), soon())
    assert fresh(connection) == state("c")


def test_a_transaction_that_is_carried_out_late_changes_nothing(
    connection: EtcdConnection, keeper: EtcdKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper.save(state("a"), soon())
    late: list[Any] = []

    class Unheard:
        def result(self) -> Any:
            raise EtcdUnavailable("no answer")

    def start(method: str, request: Any) -> Any:
        late.append(request)
        return Unheard()

    monkeypatch.setattr(connection, "start", start)
    with pytest.raises(NotKept):
        keeper.save(state("b"), soon())
    monkeypatch.undo()
    keeper.check(state("a"), soon())
    for request in late:
        assert not connection.start("Txn", request).result().succeeded
    assert fresh(connection) == state("a")


def test_data_that_were_lost_are_back(etcd: Etcd, connection: EtcdConnection, keeper: EtcdKeeper) -> None:
    kept = state("a", "b")
    keeper.save(kept, soon())
    for lost in ("", "/manifest", "/piece"):
        etcd.delete(PREFIX + lost)
        assert keeper.check(kept, soon()) is kept
        assert fresh(connection) == kept
    etcd.delete(PREFIX)
    keeper.save(state("c"), soon())
    assert fresh(connection) == state("c")


def test_a_backup_that_is_put_back_is_older(
    connection: EtcdConnection, keeper: EtcdKeeper, etcd: Etcd
) -> None:
    keeper.save(state("a"), soon())
    old = etcd.ctl("get", "--print-value-only", "--", f"{PREFIX}/manifest").strip()
    keeper.save(state("b"), soon())
    keeper.save(state("c"), soon())
    etcd.put(f"{PREFIX}/manifest", old)
    assert keeper.check(state("c"), soon()) == state("c")
    assert fresh(connection) == state("c")


def test_another_writer_who_is_ahead_is_not_written_over(
    connection: EtcdConnection, keeper: EtcdKeeper
) -> None:
    keeper.save(state("a"), soon())
    other = EtcdKeeper(connection, PREFIX)
    other.load()
    other.save(state("a", "b"), soon())
    with pytest.raises(NotKept, match="another webhook"):
        keeper.save(state("a", "c"), soon())
    assert keeper.check(state("a"), soon()) == state("a", "b")
    keeper.save(state("a", "b", "c"), soon())
    assert other.check(state("a", "b"), soon()) == state("a", "b", "c")


def test_what_cannot_be_read_is_told_and_left_alone(
    etcd: Etcd, connection: EtcdConnection, keeper: EtcdKeeper
) -> None:
    keeper.save(state("a"), soon())
    etcd.put(f"{PREFIX}/manifest", '{"version":2}')
    with pytest.raises(NotKept, match="--cleanup"):
        fresh(connection)
    with pytest.raises(NotKept, match="--cleanup"):
        keeper.save(state("b"), soon())
    assert '{"version":2}' in etcd.ctl("get", "--", f"{PREFIX}/manifest")
    keeper.clear()
    assert fresh(connection) == State()


def test_other_servers_are_tried_while_there_is_time(etcd: Etcd) -> None:
    servers = ("http://127.0.0.1:1", etcd.url)
    with connect(EtcdSettings(servers, timeout=2)) as opened:
        keeper = EtcdKeeper(opened, PREFIX)
        assert keeper.load() == State()
        keeper.save(state("a"), soon())
    with connect(EtcdSettings(servers, timeout=2)) as opened:
        keeper = EtcdKeeper(opened, PREFIX)
        with pytest.raises(NotKept, match="too slow"):
            keeper.check(state("a"), time.monotonic() - 1)
