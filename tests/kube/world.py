"""A scripted API server without sockets, a fake clock, and the Reflector between them.

Nothing here sleeps or starts a thread: a function in the script acts as another thread.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from kube2etcd.errors import ApiError, ApiUnavailable
from kube2etcd.kube.client import Abort, ApiConnection
from kube2etcd.kube.failures import ApiSilent
from kube2etcd.kube.objects import KINDS, Changed, Failing, Healthy, Kind, KindEvent, Listed, Rejected
from kube2etcd.kube.reflector import INACTIVITY_TIMEOUT, Reflector
from tests.kube.bodies import SERVICES, body, line
from tests.sync.loop import Clock

VMIS = KINDS["virtualmachineinstances"]

WATCH_DURATION = 400.0
"""Duration in seconds of a watch that the server ends as requested."""

Step: TypeAlias = "bytes | Exception | float | Callable[[World], object]"
"""Part of a response, an error, seconds that pass, or an action of another thread."""

Request: TypeAlias = "tuple[str, tuple[Step, ...]]"


def lists(*steps: Step) -> Request:
    return "list", steps


def probes(*steps: Step) -> Request:
    """The request for the server's resourceVersion; without one in the script, it has not gone back."""
    return "probe", steps


def watches(*steps: Step) -> Request:
    return "watch", steps


def relist(world: World) -> None:
    world.reflector.relist("resync")


def relist_with_buffered_data(world: World) -> None:
    """The transport still delivers what it read before the abort."""
    relist(world)
    world.ignores_abort = True


def stop(world: World) -> None:
    world.reflector.stop()


class World(ApiConnection):
    """Plays a script to the Reflector, then stops it; a last successful watch need not be in the script."""

    def __init__(
        self,
        *script: Request,
        kind: Kind = SERVICES,
        on_pause: Callable[[World], object] = lambda world: None,
    ) -> None:
        self.clock = Clock()
        self.events: list[str] = []
        self.rejected: list[Rejected] = []
        self.failures: list[Failing] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.probes: list[tuple[str, dict[str, str]]] = []
        self.pauses: list[float] = []
        self.read_timeouts: list[float] = []
        self.ignores_abort = False
        self._script, self._on_pause, self._last = deque(script), on_pause, ""
        self.reflector = Reflector(
            kind,
            self,
            lambda event: self.deliver(event),
            clock=self.clock.monotonic,
            wait=self._wait,
            rng=random.Random(7),
        )

    def run(self) -> World:
        self.reflector.run()
        assert not self._script, f"not requested: {self._script}"
        return self

    @property
    def trace(self) -> str:
        """Every event delivered, and every watch with the resourceVersion that it started from."""
        return ", ".join(self.events)

    @property
    def errors(self) -> list[ApiError | None]:
        return [one.error for one in self.failures]

    def deliver(self, event: KindEvent) -> None:
        match event:
            case Listed():
                self.events.append(" ".join(["list", *(one.metadata.name for one in event.objects)]))
                self.rejected += event.rejected
            case Changed():
                self.events.append(f"{event.event.type} {event.event.name}")
                self.rejected += filter(None, [event.event.rejected])
            case Failing():
                self.events.append("absent" if event.absent else "failing")
                self.failures.append(event)
            case Healthy():
                self.events.append("healthy")

    def request(
        self, method: str, path: str, params: Mapping[str, str], *, abort: Abort | None = None, **_: Any
    ) -> bytes:
        assert method == "GET"
        assert abort is not None
        assert not abort.triggered
        assert "resourceVersion" not in params, "the list may come from a stale cache"
        upcoming = self._script[0][0] if self._script else ""
        if params.get("limit") == "1" and "continue" not in params and upcoming != "list":
            self.probes.append((path, dict(params)))
            if upcoming != "probe":
                return body([], self.reflector.kind.kind, resourceVersion="999999")
            return b"".join(self._play(self._script.popleft()[1], None))
        self.requests.append((path, dict(params)))
        return b"".join(self._play(self._next("list"), None))

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
        assert abort is not None
        assert not abort.triggered
        self.requests.append((path, dict(params)))
        self.read_timeouts.append(read_timeout)
        steps = self._next("watch")
        self.events.append(f"watch {params['resourceVersion']}")
        if steps and isinstance(steps[0], Exception):
            raise steps[0]
        yield self._play(steps, abort)

    def _play(self, steps: tuple[Step, ...], abort: Abort | None) -> Iterator[bytes]:
        for step in steps:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, bytes):
                yield step
            elif isinstance(step, float):
                self.clock.now += step
            else:
                step(self)
                if abort is not None:
                    assert abort.triggered
                    if not self.ignores_abort:
                        raise ApiUnavailable("the request was aborted")

    def _next(self, verb: str) -> tuple[Step, ...]:
        last, self._last = self._last, verb
        if self._script:
            expected, steps = self._script.popleft()
            assert verb == expected, f"the script says {expected}, the reflector requested {verb}"
            return steps
        if (last, verb) == ("list", "watch"):
            return (WATCH_DURATION,)
        self.reflector.stop()
        raise ApiUnavailable("end of script")

    def _wait(self, until: threading.Event, seconds: float) -> None:
        self.pauses.append(seconds)
        self._on_pause(self)
        self.clock.now += seconds / 2 if until.is_set() else seconds


def play(*script: Request, **how: Any) -> World:
    return World(*script, **how).run()


def obj(name: str, version: str = "1", **more: Any) -> dict[str, Any]:
    meta = {"namespace": "demo", "name": name, "resourceVersion": version}
    return {"metadata": meta, **more}


def page(*names: str | dict[str, Any], version: str = "10", token: str = "", kind: str = "Service") -> bytes:
    items = [obj(one) if isinstance(one, str) else one for one in names]
    return body(items, kind, resourceVersion=version, **({"continue": token} if token else {}))


def event(type_: str, name: str, version: str, **more: Any) -> bytes:
    return line(type_, {"kind": "Service", **obj(name, version, **more)})


def bookmark(version: str) -> bytes:
    meta = {"resourceVersion": version, "creationTimestamp": None}
    return line("BOOKMARK", {"kind": "Service", "metadata": meta})


def error_event(code: int, message: str = "server message") -> bytes:
    return line("ERROR", {"kind": "Status", "status": "Failure", "code": code, "message": message})


DOWN, CUT = ApiUnavailable("down"), ApiUnavailable("cut")
SILENT = watches(INACTIVITY_TIMEOUT, ApiSilent("silent"))
