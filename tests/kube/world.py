"""A scripted API server without sockets, a fake clock, and the Reflector between them.

Nothing here sleeps and nothing runs in a second thread: the server plays a script, and what "another
thread" does is a callable in that script.  The bodies are those of the true protocol.
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from kube2etcd.errors import ApiError, ApiUnavailable
from kube2etcd.kube.client import Abort, ApiConnection
from kube2etcd.kube.objects import KINDS, Changed, Failing, Healthy, Kind, KindEvent, Listed, Rejected
from kube2etcd.kube.reflector import Reflector
from tests.sync import loop

SERVICES = KINDS["services"]
VMIS = KINDS["virtualmachineinstances"]

Step: TypeAlias = "bytes | Exception | Callable[[], object]"


class Clock(loop.Clock):
    def passes(self, seconds: float) -> Callable[[], None]:
        def step() -> None:
            self.now += seconds

        return step


class Sink:
    """Writes down what it is told, in order."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.rejected: list[Rejected] = []
        self.errors: list[ApiError | None] = []
        self.since: list[float] = []
        self.absent: set[bool] = set()

    def deliver(self, event: KindEvent) -> None:
        match event:
            case Listed():
                self.told.append(("replace", [one.metadata.name for one in event.objects]))
                self.rejected += event.rejected
            case Changed():
                self.told.append((event.event.type, event.event.name))
                self.rejected += filter(None, [event.event.rejected])
            case Failing():
                self.told.append("failing")
                self.errors.append(event.error)
                self.since.append(event.since)
                self.absent.add(event.absent)
            case Healthy():
                self.told.append("healthy")

    @property
    def lists(self) -> list[Any]:
        return [t for t in self.told if t[0] == "replace"]


class World(ApiConnection):
    """A scripted API server, a clock, and the Reflector that talks to it."""

    def __init__(self, kind: Kind = SERVICES) -> None:
        self.kind = kind
        self.clock = Clock()
        self.sink = Sink()
        self.script: deque[tuple[str, list[Step]]] = deque()
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.waits: list[float] = []
        self.on_wait: deque[Callable[[], object]] = deque()
        self.read_timeouts: list[float] = []
        self.deaf = False
        """Whether the transport does not notice that a request was called off."""
        self.reflector = Reflector(
            kind,
            self,
            lambda event: self.sink.deliver(event),
            clock=self.clock.monotonic,
            wait=self._wait,
            rng=random.Random(7),
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
        self,
        path: str,
        params: Mapping[str, str],
        *,
        timeout: float,
        abort: Abort | None = None,
        max_bytes: int | None = None,
    ) -> bytes:
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
        return body

    @contextlib.contextmanager
    def stream(
        self,
        path: str,
        params: Mapping[str, str],
        *,
        connect_timeout: float,
        read_timeout: float,
        abort: Abort | None = None,
    ) -> Iterator[Iterator[bytes]]:
        self.asked.append(("watch", dict(params)))
        self.read_timeouts.append(read_timeout)
        steps = self._next("watch")
        if steps and isinstance(steps[0], Exception):
            raise steps[0]
        yield self._lines(steps, abort)

    def _lines(self, steps: list[Step], abort: Abort | None) -> Iterator[bytes]:
        for step in steps:
            if isinstance(step, Exception):
                raise step
            if callable(step):
                step()
                if abort is not None and abort.triggered and not self.deaf:
                    raise ApiUnavailable("the request was aborted")
            else:
                yield step

    def _next(self, verb: str) -> list[Step]:
        if not self.script:
            self.reflector.stop()
            raise ApiUnavailable("the script is over")
        expected, steps = self.script.popleft()
        assert verb == expected, f"the script says {expected}, the reflector asked for {verb}"
        return steps

    def _wait(self, until: threading.Event, seconds: float) -> None:
        self.waits.append(seconds)
        if self.on_wait:
            self.on_wait.popleft()()
        self.clock.now += seconds / 2 if until.is_set() else seconds

    # shorthands

    @property
    def lived(self) -> Callable[[], None]:
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


def bookmark(version: str) -> bytes:
    meta = {"resourceVersion": version, "creationTimestamp": None}
    return json.dumps({"type": "BOOKMARK", "object": {"kind": "Service", "metadata": meta}}).encode()


def error_event(code: int, message: str = "said the server") -> bytes:
    status = {"kind": "Status", "status": "Failure", "code": code, "message": message}
    return json.dumps({"type": "ERROR", "object": status}).encode()
