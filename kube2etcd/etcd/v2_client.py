"""HTTP client of etcd's v2 keys API: one server at a time, a few concurrent requests.

The only module that imports ``requests``, which makes the connection pool.  Requests bypass
`requests.Session`, which would halve the number of keys per second.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import NamedTuple, TypeVar
from urllib.parse import quote, urlencode

import msgspec
import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.util import Url

from kube2etcd.errors import EtcdError, EtcdUnauthenticated, EtcdUnavailable, root_cause
from kube2etcd.etcd.changes import ServerHealth
from kube2etcd.etcd.failures import meaning, went_back
from kube2etcd.etcd.servers import TIMEOUT, Failover, closed_error, password, tls_files, try_each
from kube2etcd.settings import Etcd

_T = TypeVar("_T")
_R = TypeVar("_R")

#: Concurrent requests; etcd commits them together.
IN_FLIGHT = 8
# Connections for long polls: the current one, and former ones that have not timed out yet.
_POLLS = 4
# The encoding of a PUT's fields.
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
# Seconds until a wait notices that it is to end.
_TICK = 0.1

NOT_FOUND, COMPARE_FAILED, NOT_A_FILE, NOT_A_DIRECTORY, NOT_EMPTY = 100, 101, 102, 104, 108
# Codes about the state of the key or directory, which the caller handles; not errors.
_CONDITIONS = {
    "GET": {NOT_FOUND, NOT_A_DIRECTORY},
    "PUT": {NOT_FOUND, COMPARE_FAILED},
    "DELETE": {NOT_FOUND, COMPARE_FAILED, NOT_A_FILE, NOT_A_DIRECTORY, NOT_EMPTY},
}
# What other codes are called in `meaning`.
_FAILURES = {110: "UNAUTHENTICATED", 400: "WATCHER_CLEARED", 401: "OUT_OF_RANGE"}


class Node(msgspec.Struct, rename={"modified": "modifiedIndex"}):
    """A directory, or a key with its value."""

    key: str = ""
    value: str = ""
    dir: bool = False
    modified: int = 0
    nodes: list[Node] = []


class Reply(msgspec.Struct, rename={"code": "errorCode", "before": "prevNode", "version": "etcdserver"}):
    """A response or a watch event."""

    action: str = ""
    node: Node | None = None
    before: Node | None = None
    code: int = 0
    """etcd's error code; 0 for none."""
    message: str = ""
    cause: str = ""
    version: str = ""
    index: int = 0
    """etcd's index when it responded, or when a long poll began."""

    @property
    def made(self) -> int:
        """The index of the change made by the request; 0 for none."""
        return self.node.modified if self.node is not None and not self.code else 0

    def files(self) -> Iterator[Node]:
        """All listed keys with values."""
        waiting = [] if self.node is None else [self.node]
        while waiting:
            node = waiting.pop()
            if node.dir:
                waiting += node.nodes
            else:
                yield node

    def since(self, index: int) -> Reply:
        """The reply itself; EtcdUnavailable if etcd's index is below ``index``."""
        if self.index < index:
            raise went_back(index, self.index)
        return self


_decoder = msgspec.json.Decoder(Reply)


class _Server(NamedTuple):
    """Connections to one server, with the credentials read when it was chosen."""

    endpoint: Url
    pool: urllib3.HTTPConnectionPool
    headers: dict[str, str]

    def close(self) -> None:
        """Do nothing: other threads may be using the pool, and its connections end with it."""


class V2Connection(Failover[_Server]):
    """The configured servers as one, with a few threads for requests to them."""

    def __init__(self, settings: Etcd, timeout: float = TIMEOUT) -> None:
        super().__init__(settings, timeout)
        # They end with it, and once closed every request fails.
        self._threads = ThreadPoolExecutor(IN_FLIGHT + _POLLS, "etcd-v2")

    def get(self, path: str, **fields: str) -> Reply:
        """Read, trying each server once."""
        return try_each(len(self.endpoints), lambda: self.request("GET", path, **fields))

    def request(self, method: str, path: str, **fields: str | bytes) -> Reply:
        """Send one request about a key or directory; a failed write may have been executed.

        The reply has no node if a long poll (``wait``) saw no event within the timeout.

        :raises EtcdUnavailable: no usable response; the next request goes to the next server.
        :raises EtcdUnauthenticated: rejected, even with the password as now in its file.
        """
        return self._send(method, "/v2/keys" + quote(path, safe="/"), fields)

    def health(self) -> ServerHealth:
        """The status of the only server; the v2 API has neither sizes nor alarms.

        :raises EtcdError: it cannot be reached, does not accept us, or has no leader.
        """
        self.request("GET", "/", quorum="true")
        return ServerHealth(self._send("GET", "/version", {}).version or "unknown", 0, 0, True)

    def poll(self, path: str, index: int, stop: threading.Event) -> Reply | None:
        """The first change below ``path`` from ``index`` on; without a node if the timeout passes before.

        None soon after ``stop`` is set, EtcdUnavailable soon after `close`.
        """
        fields = {"wait": "true", "recursive": "true", "waitIndex": str(index)}
        polled = self._threads.submit(self.request, "GET", path, **fields)
        return polled.result() if self._wait(polled, stop) else None

    def together(self, work: Callable[[_T], _R], things: Iterable[_T]) -> Iterator[_R]:
        """The results of ``work`` for each of ``things``, in order, `IN_FLIGHT` of them concurrently.

        Raises the first error once nothing is in flight any more, or EtcdUnavailable soon after `close`.
        """
        rest, window = iter(things), deque[Future[_R]]()
        try:
            while True:
                started = islice(rest, IN_FLIGHT - len(window))
                window.extend(self._threads.submit(work, thing) for thing in started)
                if not window:
                    return
                self._wait(window[0])
                yield window.popleft().result()
        finally:
            for future in window:
                with contextlib.suppress(EtcdError):
                    self._wait(future)

    def _wait(self, future: Future[_R], stop: threading.Event | None = None) -> bool:
        """Wait for it; False if ``stop`` is set before, EtcdUnavailable if closed."""
        while not future.done():
            if self._closed:
                raise closed_error()
            if stop is not None and stop.is_set():
                return False
            wait((future,), _TICK)
        return True

    def _connect(self, endpoint: Url) -> _Server:
        settings = self.settings
        verify, cert = tls_files(settings) if endpoint.scheme == "https" else (True, None)
        # As bytes, because requests would encode text as Latin-1.
        auth = (settings.user.encode(), password(settings).encode()) if settings.user is not None else None
        request = requests.Request("GET", str(endpoint), _FORM, auth=auth).prepare()
        adapter = HTTPAdapter(pool_maxsize=IN_FLIGHT + _POLLS)
        pool = adapter.get_connection_with_tls_context(request, verify=verify, cert=cert)
        assert isinstance(pool, urllib3.HTTPConnectionPool)
        return _Server(endpoint, pool, dict(request.headers))

    def _send(self, method: str, url: str, fields: Mapping[str, str | bytes]) -> Reply:
        renewed = self.settings.user is None
        while True:
            server = self.current()
            try:
                return self._ask(server, method, url, fields)
            except EtcdUnauthenticated:
                if renewed:
                    raise
                # It was rejected before execution, so it may be resent.
                renewed = True
                self.leave(server, turn=0)
            except EtcdUnavailable:
                self.leave(server)
                raise

    def _ask(self, server: _Server, method: str, url: str, fields: Mapping[str, str | bytes]) -> Reply:
        form, response = urlencode(fields), None
        body, target = (form, url) if method == "PUT" else (None, f"{url}?{form}")
        try:
            response = server.pool.urlopen(
                method,
                target,
                body,
                server.headers,
                retries=False,
                redirect=False,
                timeout=self.timeout,
                preload_content=False,
            )
            reply = _reply(response, response.read())
            failure = _failure(method, response.status, reply)
        except urllib3.exceptions.ReadTimeoutError:
            if response is not None and "wait" in fields:
                return _reply(response, b"{}")
            failure = "DEADLINE_EXCEEDED", ""
        except urllib3.exceptions.HTTPError as error:
            cause = root_cause(error)
            failure = "UNAVAILABLE", str(cause) or type(cause).__name__
        if failure is not None:
            raise meaning(str(server.endpoint), method, *failure)
        return reply


def _reply(response: urllib3.BaseHTTPResponse, content: bytes) -> Reply:
    try:
        reply = _decoder.decode(content)
    except ValueError:
        if response.status < 300:
            raise urllib3.exceptions.HTTPError("the response is empty or not etcd's") from None
        reply = Reply(message=response.reason or "")
    index = response.headers.get("X-Etcd-Index", "")
    reply.index = int(index) if index.isdigit() else 0
    return reply


def _failure(method: str, status: int, reply: Reply) -> tuple[str, str] | None:
    """Code and words of a failure for `meaning`; None if the request was executed or a condition not met."""
    code = reply.code
    if code in _CONDITIONS[method] or (status < 300 and not code):
        return None
    if code == NOT_A_DIRECTORY:
        return "NOT_A_DIRECTORY", reply.cause
    name = _FAILURES.get(code, "INVALID_ARGUMENT")
    if not code and status in (401, 403, 404):
        name = "NO_V2" if status == 404 else "UNAUTHENTICATED"
    elif 300 <= status < 400 or status >= 500 or 300 <= code < 400:
        name = "UNKNOWN"
    return name, " ".join(filter(None, (str(status), reply.message, reply.cause and f"({reply.cause})")))
