"""HTTP client of etcd's v2 keys API: one server at a time, a few concurrent requests.

The only module that imports ``requests``, which makes the connection pool.  Requests bypass
`requests.Session`, which would halve the number of keys per second (tests/bench/v2_keys.py).
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec
import requests
import urllib3
from requests.adapters import HTTPAdapter

from kube2etcd.errors import EtcdCompacted, EtcdError, EtcdRefused, EtcdUnauthenticated, EtcdUnavailable
from kube2etcd.etcd.servers import (
    TIMEOUT,
    EtcdServer,
    Failover,
    closed_error,
    password,
    tls_files,
    try_each,
)
from kube2etcd.settings import Etcd

_T = TypeVar("_T")
_R = TypeVar("_R")

#: Concurrent requests; etcd commits them together.
IN_FLIGHT = 8
# Connections for long polls: the current one, and former ones that have not timed out yet.
_POLLS = 4
# The encoding of a PUT's fields.
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
# Seconds that `V2Connection.done` waits.
_TICK = 0.1

NOT_FOUND, COMPARE_FAILED, NOT_A_FILE, NOT_A_DIRECTORY, NOT_EMPTY = 100, 101, 102, 104, 108
_DENIED, _WATCHER_CLEARED, _INDEX_CLEARED = 110, 400, 401
# Codes about the state of the key or directory, which the caller handles; not errors.
_CONDITIONS = {
    "GET": {NOT_FOUND, NOT_A_DIRECTORY},
    "PUT": {NOT_FOUND, COMPARE_FAILED},
    "DELETE": {NOT_FOUND, COMPARE_FAILED, NOT_A_FILE, NOT_A_DIRECTORY, NOT_EMPTY},
}


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
            raise EtcdUnavailable(
                f"etcd's index went back from {index} to {self.index}: it lost its data; reading it again"
            )
        return self


_decoder = msgspec.json.Decoder(Reply)


@dataclass(frozen=True, slots=True)
class _Server:
    """Connections to one server, with the credentials read when it was chosen."""

    endpoint: EtcdServer
    pool: urllib3.HTTPConnectionPool
    headers: dict[str, str]
    timeout: float

    def ask(self, method: str, url: str, fields: Mapping[str, str | bytes]) -> Reply:
        """Send one request; returns etcd's reply or raises one of our errors."""
        form, response = urlencode(fields), None
        body, target = (form, url) if method == "PUT" else (None, f"{url}?{form}")
        try:
            response = self.pool.urlopen(
                method,
                target,
                body,
                self.headers,
                retries=False,
                redirect=False,
                timeout=self.timeout,
                preload_content=False,
            )
            content = response.read()
        except urllib3.exceptions.ReadTimeoutError:
            if response is not None and "wait" in fields:
                return Reply(index=_index(response))
            raise EtcdUnavailable(
                f"etcd at {self.endpoint} did not answer in time ({method}): check its load and its disk"
            ) from None
        except urllib3.exceptions.HTTPError as error:
            raise self._unreachable(method, _reason(error)) from error
        try:
            reply = _decoder.decode(content)
        except ValueError:
            if response.status < 300:
                raise self._unreachable(method, "the response is empty or not etcd's") from None
            reply = Reply(message=response.reason or "")
        reply.index = _index(response)
        if (response.status >= 300 or reply.code) and reply.code not in _CONDITIONS[method]:
            raise _meaning(str(self.endpoint), method, response.status, reply)
        return reply

    def _unreachable(self, method: str, reason: str) -> EtcdUnavailable:
        return EtcdUnavailable(
            f"etcd at {self.endpoint} cannot be reached ({method}: {reason}): check that it runs and the URL"
            " is right"
        )


class V2Connection(Failover[_Server]):
    """The configured servers as one, with a few threads for requests to them."""

    def __init__(self, settings: Etcd, timeout: float = TIMEOUT) -> None:
        super().__init__(settings, timeout)
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

    def version(self) -> str:
        """The server's version."""
        return self._send("GET", "/version", {}).version or "unknown"

    def submit(self, work: Callable[..., _R], *args: Any, **fields: str) -> Future[_R]:
        """Run ``work`` in one of the threads."""
        try:
            return self._threads.submit(work, *args, **fields)
        except RuntimeError:  # the pool is shut down
            raise closed_error() from None

    def done(self, future: Future[_R]) -> bool:
        """Whether it is done, after at most a tenth of a second; EtcdUnavailable if closed meanwhile."""
        wait((future,), _TICK)
        if future.cancelled() or (self._closed and not future.done()):
            raise closed_error()
        return future.done()

    def together(self, work: Callable[[_T], _R], things: Iterable[_T]) -> Iterator[_R]:
        """The results of ``work`` for each of ``things``, in order, `IN_FLIGHT` of them concurrently.

        Raises the first error once nothing is in flight any more.
        """
        window: deque[Future[_R]] = deque()

        def first() -> _R:
            future = window.popleft()
            while not self.done(future):
                pass
            return future.result()

        try:
            for thing in things:
                window.append(self.submit(work, thing))
                if len(window) == IN_FLIGHT:
                    yield first()
            while window:
                yield first()
        finally:
            while window:
                with contextlib.suppress(EtcdError):
                    first()

    def close(self) -> None:
        """Close; whatever is in flight fails at once as EtcdUnavailable."""
        super().close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _connect(self, endpoint: EtcdServer) -> _Server:
        settings = self.settings
        verify, cert = tls_files(settings) if endpoint.tls else (True, None)
        # As bytes, because requests would encode text as Latin-1.
        auth = (settings.user.encode(), password(settings).encode()) if settings.user is not None else None
        request = requests.Request("GET", str(endpoint), _FORM, auth=auth).prepare()
        adapter = HTTPAdapter(pool_maxsize=IN_FLIGHT + _POLLS)
        pool = adapter.get_connection_with_tls_context(request, verify=verify, cert=cert)
        assert isinstance(pool, urllib3.HTTPConnectionPool)
        return _Server(endpoint, pool, dict(request.headers), self.timeout)

    def _send(self, method: str, url: str, fields: Mapping[str, str | bytes]) -> Reply:
        renewed = self.settings.user is None
        while True:
            server = self.current()
            try:
                return server.ask(method, url, fields)
            except EtcdUnauthenticated:
                if renewed:
                    raise
                # It was rejected before execution, so it may be resent.
                renewed = True
                self.leave(server, turn=0)
            except EtcdUnavailable:
                self.leave(server)
                raise


def _meaning(server: str, method: str, status: int, reply: Reply) -> EtcdError:
    """The error for an HTTP status and etcd's reply; its code is 0 where the body had none."""
    where, code = f"etcd at {server}", reply.code
    words = " ".join(filter(None, (str(status), reply.message, reply.cause and f"({reply.cause})")))
    if code == _INDEX_CLEARED:
        return EtcdCompacted(f"{where} no longer has that index ({words}): read a new snapshot")
    if code == _WATCHER_CLEARED:
        return EtcdUnavailable(f"{where} ended the watch ({words}): watch again")
    if code == _DENIED or (status in (401, 403) and not code):
        return EtcdUnauthenticated(
            f"{where} does not accept our user or its rights ({method}: {words}): check the etcd user,"
            " its password file and its role"
        )
    if status == 404 and not code:
        return EtcdRefused(
            f"{where} has no v2 API: start etcd 3.2 to 3.5 with --enable-v2 (3.6 and later have none),"
            " or use --etcd-api v3"
        )
    if code == NOT_A_DIRECTORY:
        return EtcdRefused(
            f"{reply.cause or 'a key above it'} holds a value, and a value has no keys below it"
        )
    if 300 <= status < 400 or status >= 500 or 300 <= code < 400:
        return EtcdUnavailable(
            f"{where} failed ({method}: {words}): see its log, and whether it has a leader"
        )
    return EtcdRefused(f"{where} refuses the request ({method}: {words})")


def _index(response: urllib3.BaseHTTPResponse) -> int:
    index = response.headers.get("X-Etcd-Index", "")
    return int(index) if index.isdigit() else 0


def _reason(error: BaseException) -> str:
    """The innermost reason, without object addresses."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    words = str(error) or type(error).__name__
    return words if len(words) <= 200 else f"{words[:199]}…"
