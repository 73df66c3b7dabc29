"""Time limits of the state stores: the timeouts of several requests do not add up."""

import contextlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from kube2etcd.errors import ApiUnavailable, EtcdUnavailable
from kube2etcd.etcd import servers
from kube2etcd.etcd.servers import try_each
from kube2etcd.etcd.wire import rpc
from kube2etcd.external import Endpoint
from kube2etcd.webhook import state_etcd, state_objects
from kube2etcd.webhook.provider import ANSWER_WITHIN
from kube2etcd.webhook.state import REQUEST_TIMEOUT, Head, NotStored, State, StateStore
from kube2etcd.webhook.state_etcd import EtcdState
from kube2etcd.webhook.state_objects import ObjectsState
from tests.webhook.fakes import FakeApi

#: Seconds that the provider gives a store for a call.
PATIENCE = ANSWER_WITHIN - REQUEST_TIMEOUT


class Clock:
    """Time passes only during requests to a server."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        for module in (servers, state_etcd, state_objects):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))
        # One transaction per part.
        monkeypatch.setattr(state_etcd, "MAX_BYTES", 1)
        monkeypatch.setattr(state_objects, "AT_ONCE", 1)

    def advance(self, seconds: float) -> None:
        assert seconds <= REQUEST_TIMEOUT, "longer than a request may take"
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


class SlowEtcd:
    """``count`` servers that take ``seconds`` per request, and hang after ``answers`` of them."""

    def __init__(self, clock: Clock, seconds: float, *, count: int = 1, answers: int = 1000) -> None:
        self.settings = SimpleNamespace(timeout=REQUEST_TIMEOUT)
        self.answers = answers
        hang = REQUEST_TIMEOUT if answers else 0
        self.endpoints = tuple(range(count))
        self.head = b""
        self.succeeded = True

        def respond() -> None:
            self.answers -= 1
            clock.advance(seconds if self.answers >= 0 else max(seconds, hang))
            if self.answers < 0:
                raise EtcdUnavailable("etcd cannot be reached")

        self._respond = respond

    def call(self, method: str, request: Any, until: float) -> Any:
        try_each(len(self.endpoints), self._respond, until)
        if method == "Txn":
            return rpc.TxnResponse(succeeded=self.succeeded, responses=[rpc.ResponseOp()] * 2)
        answer = rpc.RangeResponse()
        if self.head:
            answer.kvs.add(key=b"/kube2etcd/webhook/head", value=self.head, mod_revision=7, version=7)
        return answer


def slow_api(clock: Clock, seconds: float, answers: int) -> FakeApi:
    """An API server that takes ``seconds`` per request, and hangs after ``answers`` of them."""
    api, hang = FakeApi(), REQUEST_TIMEOUT if answers else 0

    def before() -> None:
        nonlocal answers
        answers -= 1
        clock.advance(seconds if answers >= 0 else max(seconds, hang))
        if answers < 0:
            raise ApiUnavailable("the API server cannot be reached")

    api.before = before
    return api


def large(count: int = 700) -> State:
    found = [Endpoint(f"n{number}.dtk.io", ("10.0.0.1",), "A") for number in range(count)]
    return State({one.key: one for one in found})


Make = Callable[[Clock, float, int], StateStore]
STORES: list[Make] = [
    lambda clock, seconds, answers: EtcdState(SlowEtcd(clock, seconds, answers=answers), "/k"),  # type: ignore[arg-type]
    lambda clock, seconds, answers: EtcdState(SlowEtcd(clock, seconds, count=5, answers=answers), "/k"),  # type: ignore[arg-type]
    lambda clock, seconds, answers: ObjectsState(slow_api(clock, seconds, answers), "dns"),
]


UNREACHABLE, SLOW = "cannot be reached", "too slow"


@pytest.mark.parametrize("make", STORES)
@pytest.mark.parametrize(
    ("call", "seconds", "answers", "message"),
    [
        *(
            (call, seconds, 0, UNREACHABLE)
            for call in ("save", "check")
            for seconds in (0.7, 1.1, REQUEST_TIMEOUT)
        ),
        *(("save", 0.55, answers, UNREACHABLE) for answers in (1, 3, 5)),
        ("save", 1.0, 1000, SLOW),
    ],
)
def test_store_gives_up_in_time(
    clock: Clock, make: Make, call: str, seconds: float, answers: int, message: str
) -> None:
    store, start = make(clock, seconds, answers), clock.now
    with pytest.raises(NotStored, match=message):
        getattr(store, call)(large(), clock.now + PATIENCE)
    assert clock.now - start <= ANSWER_WITHIN < 5


@pytest.mark.parametrize("make", STORES)
def test_encoding_does_not_count(clock: Clock, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    store, head_of = make(clock, 0.04, 1000), Head.of

    def slow_head(state: State) -> Head:
        clock.now += 20
        return head_of(state)

    monkeypatch.setattr(Head, "of", slow_head)
    store.save(large(60), clock.now + PATIENCE)


@pytest.mark.parametrize("seconds", [0.5, 1.0, 1.4])
def test_another_writer_ahead_takes_no_longer(clock: Clock, seconds: float) -> None:
    etcd = SlowEtcd(clock, seconds)
    store = EtcdState(etcd, "/kube2etcd/webhook")  # type: ignore[arg-type]
    etcd.head = b'{"version":1,"domains":[],"clusterIP":"","generation":9,"writer":"x"}'
    etcd.succeeded = False
    for call in (store.save, store.check):
        start = clock.now
        with contextlib.suppress(NotStored):
            call(State(), clock.now + PATIENCE)
        assert clock.now - start <= ANSWER_WITHIN
