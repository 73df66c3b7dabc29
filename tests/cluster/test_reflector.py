"""The Reflector in every situation that client-go's tests name, on true protocol bodies and a fake clock.

Nothing here sleeps and nothing runs in a second thread: the fake server plays a script, and what
"another thread" does is a callable in that script.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import pytest

from kube2etcd.cluster.abort import Abort
from kube2etcd.cluster.backoff import BACKOFF_FIRST, BACKOFF_LIMIT
from kube2etcd.cluster.connection import Response
from kube2etcd.cluster.failures import ApiRefused, ApiSilent
from kube2etcd.cluster.lister import PAGE_SIZE
from kube2etcd.cluster.objects import INITIAL_EVENTS_END, KINDS, ApiObject, Event, Kind, Rejected
from kube2etcd.cluster.reflector import INACTIVITY_TIMEOUT, OPTIONAL_RETRY, RETRY_AFTER_LIMIT, Reflector
from kube2etcd.errors import (
    ApiError,
    ApiForbidden,
    ApiGone,
    ApiNotFound,
    ApiTooMany,
    ApiTruncated,
    ApiUnavailable,
)

SERVICES = KINDS["services"]
VMIS = KINDS["virtualmachineinstances"]

Step: TypeAlias = "bytes | Exception | Callable[[], object]"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def passes(self, seconds: float) -> Callable[[], None]:
        def step() -> None:
            self.now += seconds

        return step


class Sink:
    """Writes down what it is told, in order."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.rejected: list[Rejected] = []
        self.errors: list[ApiError] = []
        self.since: list[float] = []

    def replace(
        self, kind: Kind, objects: list[ApiObject], resource_version: str, rejected: list[Rejected]
    ) -> None:
        self.told.append(("replace", [o.metadata.name for o in objects], resource_version))
        self.rejected += rejected

    def apply(self, kind: Kind, event: Event) -> None:
        self.told.append((event.type, event.name))
        if event.rejected:
            self.rejected.append(event.rejected)

    def failing(self, kind: Kind, since: float, error: ApiError) -> None:
        self.told.append("failing")
        self.errors.append(error)
        self.since.append(since)

    def healthy(self, kind: Kind) -> None:
        self.told.append("healthy")

    @property
    def lists(self) -> list[Any]:
        return [t for t in self.told if t[0] == "replace"]


class World:
    """A scripted API server, a clock, and the Reflector that talks to it."""

    def __init__(self, kind: Kind = SERVICES, **options: Any) -> None:
        self.kind = kind
        self.clock = Clock()
        self.sink = Sink()
        self.script: deque[tuple[str, list[Step]]] = deque()
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.waits: list[float] = []
        self.on_wait: deque[Callable[[], object]] = deque()
        self.read_timeouts: list[float] = []
        self.reflector = Reflector(
            kind, self, self.sink, clock=self.clock, wait=self._wait, rng=random.Random(7), **options
        )

    # what a test says

    def lists(self, *steps: Step) -> World:
        self.script.append(("list", list(steps)))
        return self

    def watches(self, *steps: Step) -> World:
        self.script.append(("watch", list(steps)))
        return self

    def run(self) -> World:
        self.reflector.run()
        assert not self.script, f"not asked for: {self.script}"
        return self

    # what the Reflector does

    def get(
        self, path: str, params: Mapping[str, str], *, timeout: float, abort: Abort | None = None
    ) -> Response:
        self.path = path
        self.asked.append(("list", dict(params)))
        body = b""
        for step in self._next("list"):
            if isinstance(step, Exception):
                raise step
            if callable(step):
                step()
            else:
                body += step
        return Response(200, {}, body)

    @contextlib.contextmanager
    def stream(
        self,
        path: str,
        params: Mapping[str, str],
        *,
        connect_timeout: float,
        read_timeout: float,
        abort: Abort | None = None,
    ) -> Iterator[Iterable[bytes]]:
        self.asked.append(("watch", dict(params)))
        self.read_timeouts.append(read_timeout)
        steps = self._next("watch")
        if steps and isinstance(steps[0], Exception):
            raise steps[0]
        yield self._lines(steps)

    def _lines(self, steps: list[Step]) -> Iterator[bytes]:
        for step in steps:
            if isinstance(step, Exception):
                raise step
            if callable(step):
                step()
                if self.reflector._abort.triggered:
                    raise ApiUnavailable("the request was called off")
            else:
                yield step

    def _next(self, verb: str) -> list[Step]:
        if not self.script:
            self.reflector.stop()
            raise ApiUnavailable("the script is over")
        expected, steps = self.script.popleft()
        assert verb == expected, f"the script says {expected}, the reflector asked for {verb}"
        return steps

    def _wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        if self.on_wait:
            self.on_wait.popleft()()
            self.clock.now += seconds / 2
        else:
            self.clock.now += seconds

    # shorthands

    @property
    def lived(self) -> Callable[[], None]:
        """An ordinary life of a watch."""
        return self.clock.passes(400)

    def versions(self) -> list[str | None]:
        return [params.get("resourceVersion") for verb, params in self.asked if verb == "watch"]


def obj(name: str, version: str = "1", **more: Any) -> dict[str, Any]:
    meta = {"namespace": "demo", "name": name, "resourceVersion": version}
    return {"metadata": meta, **more}


def page(*names: str, version: str = "10", token: str = "", kind: str = "Service") -> bytes:
    meta = {"resourceVersion": version, **({"continue": token} if token else {})}
    return json.dumps({"kind": f"{kind}List", "metadata": meta, "items": [obj(n) for n in names]}).encode()


def event(type_: str, name: str, version: str) -> bytes:
    return json.dumps({"type": type_, "object": {"kind": "Service", **obj(name, version)}}).encode()


def bookmark(version: str, *, end: bool = False) -> bytes:
    annotations = {INITIAL_EVENTS_END: "true"} if end else None
    meta = {"resourceVersion": version, "creationTimestamp": None, "annotations": annotations}
    return json.dumps({"type": "BOOKMARK", "object": {"kind": "Service", "metadata": meta}}).encode()


def error_event(code: int, message: str = "said the server") -> bytes:
    status = {"kind": "Status", "status": "Failure", "code": code, "message": message}
    return json.dumps({"type": "ERROR", "object": status}).encode()


# --- the ordinary life ---


def test_list_and_watch() -> None:
    world = World()
    world.lists(page("a", "b"))
    world.watches(event("ADDED", "c", "11"), event("DELETED", "a", "12"), world.lived)
    world.run()
    assert world.sink.told == [
        ("replace", ["a", "b"], "10"),
        "healthy",
        ("ADDED", "c"),
        ("DELETED", "a"),
    ]
    assert world.path == "/api/v1/services"
    assert world.asked[0] == ("list", {"limit": str(PAGE_SIZE)})
    verb, params = world.asked[1]
    seconds = int(params.pop("timeoutSeconds"))
    assert verb == "watch"
    assert params == {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": "10"}
    assert 300 <= seconds <= 600
    assert world.read_timeouts[0] == INACTIVITY_TIMEOUT


def test_a_watch_that_ends_is_resumed_from_the_last_version_without_a_pause() -> None:
    world = World()
    world.lists(page("a"))
    world.watches(event("MODIFIED", "a", "17"), world.lived)
    world.watches(world.lived)
    world.run()
    assert world.versions()[:3] == ["10", "17", "17"]
    assert world.waits == []
    assert world.sink.told.count("healthy") == 1


def test_bookmarks_move_the_version_and_are_not_delivered() -> None:
    world = World().lists(page())
    world.watches(bookmark("99"), world.lived).watches(world.lived)
    world.run()
    assert world.versions()[1] == "99"
    assert world.sink.told == [("replace", [], "10"), "healthy"]


def test_a_bookmark_without_a_version_moves_nothing() -> None:
    world = World().lists(page())
    world.watches(bookmark(""), world.lived).watches(world.lived).run()
    assert world.versions()[1] == "10"


def test_pages_are_one_list() -> None:
    world = World()
    world.lists(page("a", token="t1")).lists(page("b", token="t2")).lists(page("c")).watches(world.lived)
    world.run()
    assert world.sink.lists == [("replace", ["a", "b", "c"], "10")]
    assert [p.get("continue") for verb, p in world.asked if verb == "list"] == [None, "t1", "t2"]
    assert world.reflector.lists == 1


def test_selectors_and_namespace_are_asked_for() -> None:
    world = World(KINDS["pods"], namespace="demo")
    world.lists(page(kind="Pod")).watches(world.lived).run()
    assert world.path == "/api/v1/namespaces/demo/pods"
    assert all("status.phase!=Failed" in params["fieldSelector"] for _, params in world.asked)


def test_counters_grow() -> None:
    world = World()
    body, line = page("a"), event("ADDED", "b", "11")
    world.lists(body).watches(line, bookmark("12"), world.lived).run()
    r = world.reflector
    assert (r.lists, r.watches, r.events, r.errors, r.expired) == (1, 1, 1, 0, 0)
    assert r.bytes_read == len(body) + len(line) + len(bookmark("12")) + 2


# --- a version that is gone ---


@pytest.mark.parametrize(
    "gone",
    [ApiGone("410: too old resource version"), error_event(410, "too old resource version: 10 (99)")],
    ids=["status", "event"],
)
def test_full_list_if_expired(gone: Step) -> None:
    world = World()
    world.lists(page("a")).watches(gone)
    world.lists(page("b", version="100")).watches(world.lived)
    world.run()
    assert [t[1:] for t in world.sink.lists] == [(["a"], "10"), (["b"], "100")]
    assert world.versions()[1] == "100"
    assert "resourceVersion" not in world.asked[2][1]
    assert world.sink.errors == []
    assert world.waits == []
    assert world.reflector.expired == 1


def test_expired_again_right_after_a_list_backs_off() -> None:
    world = World()
    for _ in range(4):
        world.lists(page()).watches(ApiGone("too old"))
    world.run()
    assert len(world.waits) == 3
    assert len(world.sink.errors) == 3
    assert "already too old" in str(world.sink.errors[0])


def test_expired_once_in_a_while_is_never_a_failure() -> None:
    world = World()
    for _ in range(4):
        world.lists(page()).watches(world.lived, error_event(410))
    world.run()
    assert world.sink.errors == []
    assert world.waits == []


def test_expired_continue_token_lists_in_one_piece() -> None:
    world = World()
    world.lists(page("a", token="t")).lists(ApiGone("the provided continue parameter is too old"))
    world.lists(page("a", "b", version="50")).watches(world.lived)
    world.run()
    assert world.sink.lists == [("replace", ["a", "b"], "50")]
    assert world.asked[2] == ("list", {})


@pytest.mark.parametrize("tokens", [["t", "t"], ["t", "u", "t"], ["t", "u", "v", "u"]])
def test_pages_that_repeat_are_no_list(tokens: list[str]) -> None:
    world = World()
    for token in tokens:
        world.lists(page("a", token=token))
    world.lists(page("a")).watches(world.lived)
    world.run()
    assert world.sink.lists == [("replace", ["a"], "10")]
    assert "repeat" in str(world.sink.errors[0])


# --- errors are no lists ---


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (ApiUnavailable("500"), ApiUnavailable),
        (ApiForbidden("403"), ApiForbidden),
        (ApiNotFound("404"), ApiNotFound),
        (ApiTruncated("cut"), ApiTruncated),
        (page("a", "b")[:-20], ApiTruncated),
        (b"", ApiTruncated),
        (b"<html>welcome to the wifi</html>", ApiTruncated),
        (b"{}", ApiUnavailable),
        (b'{"kind":"Status","status":"Failure","code":500}', ApiUnavailable),
        (b'{"kind":"ServiceList","metadata":{"resourceVersion":"1"}}', ApiUnavailable),
        (b'{"kind":"ServiceList","metadata":{},"items":[]}', ApiUnavailable),
        (page("a", kind="Pod"), ApiUnavailable),
    ],
    ids=[
        "500",
        "403",
        "404",
        "cut",
        "half a body",
        "no body",
        "a web page",
        "an empty document",
        "a status",
        "no items",
        "no version",
        "another kind",
    ],
)
def test_an_error_is_never_an_empty_list(failure: Step, error: type[ApiError]) -> None:
    world = World()
    world.lists(failure).lists(page("a")).watches(world.lived)
    world.run()
    assert world.sink.told == ["failing", ("replace", ["a"], "10"), "healthy"]
    assert type(world.sink.errors[0]) is error
    assert len(world.waits) == 1


def test_an_error_in_the_second_page_delivers_nothing_of_the_first() -> None:
    world = World()
    world.lists(page("a", token="t")).lists(ApiUnavailable("500"))
    world.lists(page("a", token="t")).lists(page("b")).watches(world.lived)
    world.run()
    assert world.sink.told == ["failing", ("replace", ["a", "b"], "10"), "healthy"]


def test_an_empty_list_is_a_list() -> None:
    world = World()
    null_items = b'{"kind":"ServiceList","metadata":{"resourceVersion":"5"},"items":null}'
    world.lists(null_items).watches(world.lived).run()
    assert world.sink.lists == [("replace", [], "5")]


def test_one_odd_object_costs_only_itself() -> None:
    odd = json.dumps(
        {
            "kind": "ServiceList",
            "metadata": {"resourceVersion": "10"},
            "items": [obj("a"), obj("odd", spec={"ports": "eighty"}), obj("b")],
        }
    ).encode()
    odd_event = json.dumps({"type": "MODIFIED", "object": obj("b", "11", spec=[])}).encode()
    world = World()
    world.lists(odd).watches(odd_event, event("ADDED", "c", "12"), world.lived).run()
    assert world.sink.told == [
        ("replace", ["a", "b"], "10"),
        "healthy",
        ("MODIFIED", "b"),
        ("ADDED", "c"),
    ]
    assert [r.name for r in world.sink.rejected] == ["odd", "b"]


# --- a watch that fails ---


@pytest.mark.parametrize(
    "failure",
    [
        ApiUnavailable("connection refused"),
        ApiTooMany("429", 3),
        ApiTruncated("in the middle of a line"),
        error_event(500),
        error_event(429),
        b'{"type":"ADDED","object":{"metadata":{"na',
        b"<html>",
    ],
    ids=["refused", "too many", "cut", "error 500", "error 429", "half a line", "no event"],
)
def test_a_failing_watch_is_resumed_without_a_list(failure: Step) -> None:
    world = World()
    world.lists(page("a")).watches(event("ADDED", "b", "11"), world.lived)
    world.watches(failure).watches(world.lived)
    world.run()
    assert len(world.sink.lists) == 1
    assert world.versions()[:3] == ["10", "11", "11"]
    assert len(world.sink.errors) == 1
    assert world.sink.told[-1] == "healthy"


@pytest.mark.parametrize(
    "failure",
    [ApiForbidden("403"), ApiNotFound("404"), error_event(401), error_event(403)],
    ids=["403", "404", "error 401", "error 403"],
)
def test_after_a_refusal_the_list_is_made_anew(failure: Step) -> None:
    world = World()
    world.lists(page("a")).watches(failure).lists(page("b", version="20")).watches(world.lived)
    world.run()
    assert len(world.sink.lists) == 2
    assert len(world.sink.errors) == 1


def test_unknown_event_types_are_left_out_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    strange = json.dumps({"type": "RENAMED", "object": obj("x", "11")}).encode()
    world = World()
    world.lists(page()).watches(strange, strange, event("ADDED", "b", "12"), world.lived).run()
    assert ("ADDED", "b") in world.sink.told
    assert ("RENAMED", "x") not in world.sink.told
    assert sum("RENAMED" in r.getMessage() for r in caplog.records) == 1


def test_a_silent_watch_is_opened_anew_without_alarm() -> None:
    world = World()
    world.lists(page("a"))
    for _ in range(3):
        world.watches(world.clock.passes(INACTIVITY_TIMEOUT), ApiSilent("nothing came for 90 s"))
    world.watches(world.lived).run()
    assert world.sink.told == [("replace", ["a"], "10"), "healthy"]
    assert world.versions()[:4] == ["10"] * 4
    assert world.waits == []


def test_very_short_watches_back_off() -> None:
    world = World()
    world.lists(page())
    for _ in range(12):
        world.watches()
    world.run()
    assert len(world.waits) == 12
    assert max(world.waits) > BACKOFF_FIRST
    assert max(world.waits) <= BACKOFF_LIMIT
    assert "ended after" in str(world.sink.errors[0])
    # Opening alone is no health: that would alternate for ever.
    assert world.sink.told == [("replace", [], "10"), "healthy"] + ["failing"] * 12
    assert set(world.sink.since) == {1000.0}


def test_after_very_short_watches_health_shows_with_the_first_line_of_a_longer_one() -> None:
    world = World()
    world.lists(page()).watches()
    world.watches(bookmark("11"), world.clock.passes(60), bookmark("12"), world.lived)
    world.run()
    assert world.sink.told == [("replace", [], "10"), "healthy", "failing", "healthy"]


def test_events_before_an_error_are_delivered_once() -> None:
    world = World()
    world.lists(page()).watches(event("ADDED", "a", "11"), ApiUnavailable("cut"))
    world.watches(event("ADDED", "b", "12"), world.lived)
    world.run()
    assert [t for t in world.sink.told if t[0] == "ADDED"] == [("ADDED", "a"), ("ADDED", "b")]
    assert world.versions()[1] == "11"


# --- backing off ---


def test_backoff_starts_afresh_after_a_healthy_watch() -> None:
    world = World()
    for _ in range(8):
        world.lists(ApiUnavailable("down"))
    world.lists(page()).watches(world.lived, ApiUnavailable("cut")).watches(world.lived)
    world.run()
    assert len(world.waits) == 9
    assert world.waits[8] <= BACKOFF_FIRST


def test_since_is_the_first_failure_and_forgotten_when_healthy() -> None:
    world = World()
    world.lists(ApiUnavailable("down")).lists(ApiUnavailable("down")).lists(page())
    world.watches(world.lived, ApiUnavailable("cut")).watches(world.lived)
    world.run()
    assert world.sink.since[:2] == [1000.0, 1000.0]
    assert world.sink.since[2] > 1400


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [(0.0, 0.0, 0.8), (5.0, 5.0, 5.8), (86400.0, RETRY_AFTER_LIMIT, RETRY_AFTER_LIMIT + 0.8)],
    ids=["none", "seconds", "a day"],
)
def test_backoff_on_too_many_requests(asked: float, least: float, most: float) -> None:
    world = World()
    world.lists(ApiTooMany("429", asked)).lists(page()).watches(world.lived)
    world.run()
    assert least <= sum(world.waits) <= most


def test_an_absent_optional_kind_is_looked_for_steadily_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    world = World(VMIS)
    for _ in range(5):
        world.lists(ApiNotFound("not installed"))
    world.lists(page("vm", kind="VirtualMachineInstance")).watches(world.lived)
    world.run()
    assert world.waits == [OPTIONAL_RETRY] * 5
    assert sum("not installed" in r.getMessage() for r in caplog.records) == 1
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert world.sink.told == ["failing"] * 5 + [("replace", ["vm"], "10"), "healthy"]


def test_the_same_failure_is_logged_once_and_another_again(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    for text in ("down", "down", "down", "forbidden", "down"):
        world.lists(ApiUnavailable(text))
    world.lists(page()).watches(world.lived).run()
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING] == [
        "services: down",
        "services: forbidden",
        "services: down",
    ]


# --- other threads ---


def test_relist_cuts_the_watch_short() -> None:
    world = World()
    world.lists(page("a")).watches(lambda: world.reflector.relist("resync"))
    world.lists(page("b", version="20")).watches(world.lived)
    world.run()
    assert [t[1] for t in world.sink.lists] == [["a"], ["b"]]
    assert world.sink.errors == []
    assert world.waits == []
    assert world.versions()[1] == "20"


def test_relist_while_lines_arrive_takes_effect_before_the_next_event() -> None:
    world = World()

    def relist() -> None:
        world.reflector.relist("resync")
        world.reflector._abort = Abort()  # a transport that does not notice it

    world.lists(page()).watches(relist, event("ADDED", "x", "11"))
    world.lists(page("x", version="20")).watches(world.lived)
    world.run()
    assert ("ADDED", "x") not in world.sink.told
    assert len(world.sink.lists) == 2


def test_relist_during_a_list_makes_another_one() -> None:
    world = World()
    world.lists(lambda: world.reflector.relist("held plan"), page("a"))
    world.lists(page("b", version="20")).watches(world.lived)
    world.run()
    assert [t[1] for t in world.sink.lists] == [["a"], ["b"]]


def test_relist_when_the_watch_has_just_ended_well_is_no_very_short_watch() -> None:
    world = World()

    def relist() -> None:
        world.reflector.relist("resync")
        world.reflector._abort = Abort()

    world.lists(page("a")).watches(relist).lists(page("b")).watches(world.lived).run()
    assert [t[1] for t in world.sink.lists] == [["a"], ["b"]]
    assert world.sink.errors == []


def test_a_failed_relist_is_tried_again() -> None:
    world = World()
    world.lists(page("a")).watches(lambda: world.reflector.relist("resync"))
    world.lists(ApiUnavailable("500")).lists(page("b")).watches(world.lived).run()
    assert len(world.sink.lists) == 2
    assert len(world.waits) == 1


def test_stop_ends_a_watch_and_nothing_is_delivered_after() -> None:
    world = World()
    world.lists(page()).watches(world.reflector.stop, event("ADDED", "late", "11"))
    world.run()
    assert world.reflector.stopped
    assert ("ADDED", "late") not in world.sink.told
    assert world.sink.errors == []


def test_stop_during_a_list_delivers_nothing() -> None:
    world = World()
    world.lists(world.reflector.stop, page("a")).run()
    assert world.sink.told == []


@pytest.mark.parametrize("error", [ApiUnavailable("x"), ApiTooMany("x", 50)], ids=["backoff", "retry-after"])
def test_stop_ends_a_pause(error: ApiError) -> None:
    world = World()
    world.on_wait.append(world.reflector.stop)
    world.lists(error).run()
    assert len(world.waits) == 1


def test_relist_does_not_shorten_a_pause_that_the_server_asked_for() -> None:
    world = World()
    world.on_wait.append(lambda: world.reflector.relist("resync"))
    world.lists(ApiTooMany("429", 20)).lists(page()).watches(world.lived)
    world.run()
    assert len(world.waits) == 2
    assert world.clock.now >= 1020


def test_a_sink_that_fails_gets_everything_again(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    original = world.sink.apply
    calls: list[str] = []

    def apply(kind: Kind, event: Event) -> None:
        calls.append(event.name)
        if len(calls) == 1:
            raise RuntimeError("a fault of ours")
        original(kind, event)

    world.sink.apply = apply  # type: ignore[method-assign]
    world.lists(page("a")).watches(event("ADDED", "b", "11"), world.lived)
    world.lists(page("a", "b", version="20")).watches(event("ADDED", "c", "21"), world.lived)
    world.run()
    assert [t[1] for t in world.sink.lists] == [["a"], ["a", "b"]]
    assert ("ADDED", "c") in world.sink.told
    assert "internal error" in str(world.sink.errors[0])
    assert any(r.exc_info for r in caplog.records)


def test_a_sink_that_fails_while_stopping_is_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    world = World()

    def replace(*args: object) -> None:
        world.reflector.stop()
        raise RuntimeError("torn down")

    world.sink.replace = replace  # type: ignore[assignment,method-assign]
    world.lists(page("a")).run()
    assert world.sink.told == []
    assert not caplog.records


def test_start_runs_it_in_a_daemon_thread_and_stop_joins_it() -> None:
    world = World()
    world.lists(page("a"))
    world.reflector.start()
    thread = world.reflector._thread
    assert thread is not None
    assert thread.daemon
    assert thread.name == "reflector-services"
    thread.join(10)
    world.reflector.stop()
    assert not thread.is_alive()
    assert world.sink.lists


# --- streamed lists ---


def test_streamed_list_and_watch_are_one_request() -> None:
    world = World(streamed=True)
    world.watches(
        event("ADDED", "a", "3"),
        event("ADDED", "b", "4"),
        bookmark("10", end=True),
        event("ADDED", "c", "11"),
        world.lived,
    )
    world.watches(world.lived).run()
    assert world.sink.told == [("replace", ["a", "b"], "10"), "healthy", ("ADDED", "c")]
    first, second = (params for _, params in world.asked[:2])
    assert first["sendInitialEvents"] == "true"
    assert first["resourceVersionMatch"] == "NotOlderThan"
    assert "resourceVersion" not in first
    assert "sendInitialEvents" not in second
    assert second["resourceVersion"] == "11"
    assert (world.reflector.lists, world.reflector.watches) == (1, 2)


def test_streamed_list_takes_changes_on_the_way_and_odd_objects() -> None:
    odd = json.dumps({"type": "ADDED", "object": obj("odd", "3", spec=[])}).encode()
    odd_then_gone = json.dumps({"type": "ADDED", "object": obj("fleeting", "3", spec=[])}).encode()
    world = World(streamed=True)
    world.watches(
        event("ADDED", "a", "3"),
        event("ADDED", "b", "4"),
        odd,
        odd_then_gone,
        event("DELETED", "a", "5"),
        event("DELETED", "fleeting", "5"),
        json.dumps({"type": "RENAMED", "object": obj("x")}).encode(),
        bookmark("10", end=True),
        world.lived,
    ).run()
    assert world.sink.lists == [("replace", ["b"], "10")]
    assert [r.name for r in world.sink.rejected] == ["odd"]


@pytest.mark.parametrize(
    "answer",
    [
        [ApiRefused("sendInitialEvents is forbidden for watch", 422)],
        [ApiRefused("bad request", 400)],
        [event("ADDED", "a", "3"), bookmark("10")],
        [event("ADDED", "a", "3"), ApiSilent("nothing more")],
        [event("ADDED", "a", "3")],
    ],
    ids=["422", "400", "ignored: ordinary bookmark", "ignored: silence", "ended early"],
)
def test_streamed_list_falls_back_to_pages(answer: list[Step]) -> None:
    world = World(streamed=True)
    world.watches(*answer).lists(page("a", "b")).watches(world.lived)
    world.run()
    assert world.sink.told == [("replace", ["a", "b"], "10"), "healthy"]
    assert world.waits == []


def test_streamed_list_that_fails_is_tried_again() -> None:
    world = World(streamed=True)
    world.watches(event("ADDED", "a", "3"), error_event(500)).watches(ApiUnavailable("refused"))
    world.watches(event("ADDED", "a", "3"), bookmark("10", end=True), world.lived).run()
    assert world.sink.told == ["failing", "failing", ("replace", ["a"], "10"), "healthy"]


def test_streamed_list_without_a_version_is_no_list() -> None:
    world = World(streamed=True)
    world.watches(event("ADDED", "a", "3"), bookmark("", end=True))
    world.watches(event("ADDED", "a", "3"), bookmark("10", end=True), world.lived).run()
    assert world.sink.told == ["failing", ("replace", ["a"], "10"), "healthy"]


def test_streamed_relist_on_demand() -> None:
    world = World(streamed=True)
    world.watches(bookmark("10", end=True), lambda: world.reflector.relist("resync"))
    world.watches(event("ADDED", "a", "3"), bookmark("20", end=True), world.lived).run()
    assert [t[2] for t in world.sink.lists] == ["10", "20"]
    assert world.sink.errors == []


def test_a_refused_ordinary_watch_is_a_failure() -> None:
    world = World()
    world.lists(page()).watches(ApiRefused("bad request", 400)).watches(world.lived).run()
    assert len(world.sink.errors) == 1
