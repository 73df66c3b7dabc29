"""In-memory API server, state store and hosts file that can fail, and a client without a socket."""

import io
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from werkzeug.test import TestResponse, create_environ, run_wsgi_app
from werkzeug.wrappers import Request

from kube2etcd.app import build
from kube2etcd.errors import ApiForbidden, ApiNotFound
from kube2etcd.external import Domain
from kube2etcd.kube.client import ApiConnection
from kube2etcd.kube.failures import ApiRefused
from kube2etcd.kube.objects import DnsEndpoint
from kube2etcd.metrics import Metrics
from kube2etcd.settings import Settings
from kube2etcd.webhook.api import MEDIA_TYPE, Api
from kube2etcd.webhook.app import Feed
from kube2etcd.webhook.hosts import HostsFile, NotWritten
from kube2etcd.webhook.provider import Effective, Options, Provider
from kube2etcd.webhook.state import REQUEST_TIMEOUT, NotStored, State, decode, encode
from skydns_compat.names import Address

JSON = dict[str, Any]
PATH = "/apis/externaldns.k8s.io/v1alpha1/namespaces/dns/dnsendpoints"
UNSERVABLE = partial(build.unservable, Settings())


class FakeApi(ApiConnection):
    """Objects of one namespace, with increasing resource versions."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.objects: dict[str, dict[str, Any]] = {}
        self.version = 0
        self.calls: list[str] = []
        self.before: Callable[[], None] = lambda: None
        self.answer: bytes | Exception | None = None
        self.lose_response = ""
        """Prefix of the calls that are carried out but whose response is lost."""

    def request(self, method: str, path: str, *args: Any, **given: Any) -> bytes:
        self.before()
        with self.lock:
            answer = self._answer(method, path, *args, **given)
        if self.lose_response and f"{method} {path[len(PATH) + 1 :]}".startswith(self.lose_response):
            raise ApiForbidden("the response is lost")
        return answer

    def _answer(
        self, method: str, path: str, params: Mapping[str, str], *, body: bytes | None = None, **how: Any
    ) -> bytes:
        assert how["timeout"] <= REQUEST_TIMEOUT
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is not None:
            return self.answer
        assert path.startswith(PATH)
        name = path.removeprefix(PATH).removeprefix("/")
        self.calls.append(f"{method} {name}".strip())
        sent = json.loads(body) if body is not None else {}
        meta = sent.get("metadata", {})
        if method == "GET":
            assert params == {"labelSelector": "app.kubernetes.io/managed-by=kube2etcd-webhook"}
            parts = {"metadata"} if "Partial" in how.get("accept", "") else {"metadata", "spec"}
            items = [{key: one[key] for key in one if key in parts} for one in self.objects.values()]
            return json.dumps({"items": items or None}).encode()
        if method == "DELETE":
            self.objects.clear()
            return b"{}"
        if method == "POST":
            name = meta["name"]
            if name in self.objects:
                raise ApiRefused("exists", 409)
        elif name not in self.objects:
            raise ApiNotFound("not found")
        elif self.objects[name]["metadata"]["resourceVersion"] != meta["resourceVersion"]:
            raise ApiRefused("conflict", 409)
        self.version += 1
        self.objects[name] = {**sent, "metadata": {**meta, "resourceVersion": str(self.version)}}
        return json.dumps(self.objects[name]).encode()


class MemoryStore:
    """Stores the encoded state, as the real stores do."""

    def __init__(self) -> None:
        self.data: bytes | None = None
        self.outage = ""
        self.lose_responses = False
        self.saves = 0

    def load(self) -> State:
        self._fail_if_down()
        return State() if self.data is None else decode(self.data)

    def save(self, state: State, deadline: float) -> None:
        self._fail_if_down()
        self.data = encode(state)
        self.saves += 1
        if self.lose_responses:
            raise NotStored("no response")

    def check(self, state: State, deadline: float) -> State:
        self._fail_if_down()
        if self.data != encode(state):
            self.save(state, deadline)
        return state

    def clear(self) -> None:
        self.data = None

    def _fail_if_down(self) -> None:
        if self.outage:
            raise NotStored(self.outage)


class MemoryHosts(HostsFile):
    """The lines that the hosts file would have."""

    def __init__(self) -> None:
        self.lines: Sequence[tuple[str, str]] = []
        self.outage = ""

    def write(self, wanted: Sequence[tuple[str, str]], ours: Callable[[str], bool]) -> bool:
        changed = wanted != self.lines
        if self.outage and changed:
            raise NotWritten(self.outage)
        assert all(ours(name) for name, _ in wanted)
        self.lines = wanted
        return changed

    def fault(self) -> str:
        return ""


@dataclass
class Client:
    store: MemoryStore = field(default_factory=MemoryStore)
    hosts: MemoryHosts = field(default_factory=MemoryHosts)
    domains: tuple[str, ...] = ("dtk.io",)
    cluster: tuple[Address, ...] = ()
    published: list[Any] = field(default_factory=list)
    metrics: Metrics = field(default_factory=Metrics)
    feed: Feed | None = None

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Start a new process with the stored state."""
        self._names: dict[str, DnsEndpoint | None] = {}
        options = Options(
            tuple(Domain.parse(text) for text in self.domains), self.cluster, "desk", UNSERVABLE
        )
        self.provider = Provider(self.store, options, self.hosts, self._publish, self.metrics)
        self.application = Api(self.provider, self.metrics)
        self.provider.repair()

    def _publish(self, current: Effective, names: Mapping[str, DnsEndpoint | None], relist: bool) -> None:
        self._names = {**({} if relist else self._names), **names}
        endpoints = {name: one.endpoints for name, one in sorted(self._names.items()) if one is not None}
        self.published.append(({name: some for name, some in endpoints.items() if some}, current))
        if self.feed is not None:
            self.feed(current, names, relist)

    def call(
        self, method: str, path: str, body: bytes = b"", content_type: str | None = MEDIA_TYPE, **headers: str
    ) -> Any:
        environ = create_environ(
            method=method,
            input_stream=io.BytesIO(body),
            content_length=len(body),
            environ_overrides={"PATH_INFO": path},
        )
        if content_type is not None:
            environ["CONTENT_TYPE"] = content_type
        environ |= {f"HTTP_{name.upper()}": value for name, value in headers.items()}
        return TestResponse(*run_wsgi_app(self.application, environ), request=Request(environ))

    def send(self, call: str, body: bytes = b"") -> tuple[int, Any]:
        """Status and JSON of a call such as ``GET /domains``, with a body as sent by `curl -d`."""
        method, path = call.split()
        answer = self.call(method, path, body, "application/x-www-form-urlencoded")
        return answer.status_code, answer.json

    def metric(self, name: str) -> float | None:
        """The value of a sample on the metrics page; None if it is missing."""
        for line in self.metrics.page().decode().splitlines():
            if line.startswith(f"kube2etcd_webhook_{name} "):
                return float(line.rpartition(" ")[2])
        return None

    def apply(self, **lists: list[JSON]) -> int:
        return int(self.call("POST", "/records", json.dumps(lists).encode()).status_code)

    def records(self) -> list[JSON]:
        answer = self.call("GET", "/records")
        assert answer.status_code == 200
        found: list[JSON] = answer.json
        return found


def a(name: str, *targets: str, **more: Any) -> JSON:
    return {"dnsName": name, "targets": list(targets) or ["10.0.0.5"], "recordType": "A", **more}


def alias(name: str, target: str) -> JSON:
    return {"dnsName": name, "targets": [target], "recordType": "CNAME"}
