"""HTTP client of etcd's v2 keys API: failover between servers, reloaded credentials, parallel requests.

The only module that imports ``requests``, which makes the pool of connections.  Requests go straight to that
pool: a `requests.Session` would halve the number of keys a second (tests/bench/v2_keys.py).
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec
import requests
import urllib3
from requests.adapters import HTTPAdapter

from kube2etcd.errors import EtcdCompacted, EtcdError, EtcdRefused, EtcdUnauthenticated, EtcdUnavailable
from kube2etcd.etcd.servers import EtcdServer, EtcdSettings, try_each

_T = TypeVar("_T")
_R = TypeVar("_R")

#: Requests under way at once; etcd commits them together.
IN_FLIGHT = 8
# Long polls beside them: the current one, and former ones that run into their timeout.
_POLLS = 4

NOT_FOUND, COMPARE_FAILED, NOT_A_FILE, NOT_A_DIRECTORY, NOT_EMPTY = 100, 101, 102, 104, 108
_DENIED, _WATCHER_CLEARED, _INDEX_CLEARED = 110, 400, 401
# What the key or directory is like: for the caller to judge, and no error.
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
    nodes: list[Node] | None = None

    def files(self) -> Iterator[Node]:
        """The keys with values at and below this node, as far as they are listed."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            if node.dir:
                waiting += node.nodes or ()
            else:
                yield node


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
        """The index of the change that the request made; 0 for none."""
        return self.node.modified if self.node is not None and not self.code else 0

    def not_older_than(self, index: int) -> None:
        """EtcdUnavailable when etcd has gone back behind ``index``."""
        if self.index < index:
            raise EtcdUnavailable(
                f"etcd's index went back from {index} to {self.index}: it lost its data; reading it again"
            )


_decoder = msgspec.json.Decoder(Reply)


@dataclass(frozen=True, slots=True)
class _Server:
    """Connections to one server, with the credentials as they were when it was chosen."""

    endpoint: EtcdServer
    pool: urllib3.HTTPConnectionPool
    headers: dict[str, str]


def _connect(endpoint: EtcdServer, settings: EtcdSettings) -> _Server:
    """Read the TLS files (OSError) and the password file (EtcdUnauthenticated); sends nothing yet."""
    verify: str | bool = True
    cert = auth = None
    if endpoint.tls:
        verify, cert = settings.tls_files()
    if settings.user is not None:
        # As bytes: requests would encode text as Latin-1.
        auth = (settings.user.encode(), settings.password().encode())
    request = requests.Request("GET", str(endpoint), auth=auth).prepare()
    adapter = HTTPAdapter(pool_maxsize=IN_FLIGHT + _POLLS)
    pool = adapter.get_connection_with_tls_context(request, verify=verify, cert=cert)
    assert isinstance(pool, urllib3.HTTPConnectionPool)
    return _Server(endpoint, pool, dict(request.headers))


class V2Connection:
    """The servers of the settings as one; connects when first used.  Safe between threads."""

    def __init__(self, settings: EtcdSettings) -> None:
        self.settings = settings
        self.endpoints = settings.endpoints()
        self._lock = threading.Lock()
        self._current: _Server | None = None
        self._turn = 0
        self._closed: Future[None] = Future()
        self._threads = ThreadPoolExecutor(IN_FLIGHT + _POLLS, "etcd-v2")

    # -- requests

    def get(self, path: str, **params: str) -> Reply:
        """Read; each server is tried once."""
        return try_each(len(self.endpoints), lambda: self.request("GET", path, None, **params))

    def get_since(self, index: int, path: str) -> Reply:
        """Everything listed below ``path``, at ``index`` or later.

        A quorum read costs an entry in etcd's log, so only a member that lags is asked for one.

        :raises EtcdUnavailable: etcd has not reached ``index``.
        """
        reply = self.get(path, recursive="true")
        if reply.index < index:
            reply = self.get(path, recursive="true", quorum="true")
            reply.not_older_than(index)
        return reply

    def poll(self, path: str, start: int) -> Reply:
        """One long poll: the first event at or below ``path`` from ``start`` on.

        Without a node: no event came within the timeout.
        """
        return self.request("GET", path, wait="true", recursive="true", waitIndex=str(start))

    def version(self) -> str:
        """The server's version."""
        return self._send("GET", "/version", {}).version or "unknown"

    def request(self, method: str, path: str, value: bytes | None = None, **params: str) -> Reply:
        """One request; a write that failed may have been carried out.

        :raises EtcdUnavailable: no usable response; the next request goes to the next server.
        :raises EtcdUnauthenticated: not with the password as it is in its file now, either.
        """
        return self._send(method, "/v2/keys" + quote(path, safe="/"), params, value)

    def _send(self, method: str, url: str, params: Mapping[str, str], value: bytes | None = None) -> Reply:
        renewed = self.settings.user is None
        while True:
            server = self._server()
            try:
                return self._exchange(server, method, url, params, value)
            except EtcdUnauthenticated:
                if renewed:
                    raise
                # Rejected before it was carried out, so it may be sent again.
                renewed = True
                self._leave(server, turn=0)
            except EtcdUnavailable:
                self._leave(server, turn=1)
                raise

    def _exchange(
        self, server: _Server, method: str, url: str, params: Mapping[str, str], value: bytes | None
    ) -> Reply:
        body, headers, response = None, server.headers, None
        if value is not None:
            headers = headers | {"Content-Type": "application/x-www-form-urlencoded"}
            body = urlencode({"value": value})
        try:
            response = server.pool.urlopen(
                method,
                f"{url}?{urlencode(params)}" if params else url,
                body=body,
                headers=headers,
                retries=False,
                redirect=False,
                timeout=self.settings.timeout,
                preload_content=False,
            )
            content = response.read()
        except urllib3.exceptions.ReadTimeoutError:
            if response is not None and "wait" in params:
                return Reply(index=_index(response))
            raise EtcdUnavailable(
                f"etcd at {server.endpoint} did not answer in time ({method}): check its load and its disk"
            ) from None
        except urllib3.exceptions.HTTPError as error:
            raise _unreachable(server.endpoint, method, _reason(error)) from error
        return _reply(server.endpoint, method, response, content)

    def _server(self) -> _Server:
        with self._lock:
            if self._closed.done():
                raise _closed_error()
            if self._current is None:
                endpoint = self.endpoints[self._turn % len(self.endpoints)]
                try:
                    self._current = _connect(endpoint, self.settings)
                except OSError as error:
                    # Perhaps in the middle of a rotation: the next attempt reads the files again.
                    raise EtcdUnavailable(
                        f"the TLS files for etcd at {endpoint} cannot be read: {error}"
                    ) from error
            return self._current

    def _leave(self, server: _Server, turn: int) -> None:
        """Replace ``server`` if it is the current one, by the next one or by a new login."""
        with self._lock:
            if server is self._current:
                self._turn += turn
                self._current = None

    # -- threads

    def submit(self, work: Callable[..., _R], *args: Any) -> Future[_R]:
        """Run ``work`` in one of a few threads."""
        try:
            return self._threads.submit(work, *args)
        except RuntimeError:  # the pool is shut down
            raise _closed_error() from None

    def done(self, future: Future[_R], timeout: float | None = None) -> bool:
        """Wait for ``future``; False after ``timeout`` seconds.  EtcdUnavailable when closed meanwhile."""
        both: list[Future[Any]] = [future, self._closed]
        wait(both, timeout, FIRST_COMPLETED)
        if future.cancelled() or (self._closed.done() and not future.done()):
            raise _closed_error()
        return future.done()

    def together(
        self, work: Callable[[_T], _R], things: Iterable[_T]
    ) -> Iterator[tuple[_T, _R | EtcdRefused]]:
        """Do ``work`` with each of ``things``, `IN_FLIGHT` at once; the results in order.

        The first error but EtcdRefused is raised, when nothing is under way any more.
        """
        window: deque[tuple[_T, Future[_R]]] = deque()

        def first() -> tuple[_T, _R | EtcdRefused]:
            thing, future = window.popleft()
            self.done(future)
            error = future.exception()
            return thing, error if isinstance(error, EtcdRefused) else future.result()

        try:
            for thing in things:
                window.append((thing, self.submit(work, thing)))
                if len(window) == IN_FLIGHT:
                    yield first()
            while window:
                yield first()
        finally:
            with contextlib.suppress(EtcdUnavailable):
                for _, future in window:
                    self.done(future)

    def close(self) -> None:
        """Whatever is under way fails as EtcdUnavailable for its caller, at once."""
        with self._lock:
            if not self._closed.done():
                self._closed.set_result(None)
            self._current = None
        self._threads.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> V2Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _reply(endpoint: EtcdServer, method: str, response: urllib3.BaseHTTPResponse, content: bytes) -> Reply:
    """etcd's reply; an error of ours for anything else."""
    try:
        reply = _decoder.decode(content)
    except ValueError:
        if response.status < 300:
            raise _unreachable(endpoint, method, "the response is empty or not etcd's") from None
        reply = Reply(message=response.reason or "")
    reply.index = _index(response)
    if (response.status >= 300 or reply.code) and reply.code not in _CONDITIONS[method]:
        raise _meaning(str(endpoint), method, response.status, reply)
    return reply


def _meaning(server: str, method: str, status: int, reply: Reply) -> EtcdError:
    """The error for an HTTP status and etcd's reply; its code is 0 where the body had none."""
    where, code = f"etcd at {server}", reply.code
    words = " ".join(filter(None, [f"{status}", reply.message, f"({reply.cause})" if reply.cause else ""]))
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
    if code == NOT_A_FILE:
        return EtcdRefused(f"{reply.cause or 'it'} is a directory, which cannot hold a value")
    if 300 <= status < 400 or status >= 500 or 300 <= code < 400:
        return EtcdUnavailable(
            f"{where} failed ({method}: {words}): see its log, and whether it has a leader"
        )
    return EtcdRefused(f"{where} refuses the request ({method}: {words})")


def _unreachable(endpoint: EtcdServer, method: str, reason: str) -> EtcdUnavailable:
    return EtcdUnavailable(
        f"etcd at {endpoint} cannot be reached ({method}: {reason}): check that it runs and the URL is right"
    )


def _closed_error() -> EtcdUnavailable:
    return EtcdUnavailable("the connection to etcd is closed")


def _index(response: urllib3.BaseHTTPResponse) -> int:
    index = response.headers.get("X-Etcd-Index", "")
    return int(index) if index.isdigit() else 0


def _reason(error: BaseException) -> str:
    """The innermost reason, without object addresses."""
    for _ in range(8):
        inner = error.__cause__ or error.__context__
        if inner is None:
            break
        error = inner
    words = str(error) or type(error).__name__
    return words if len(words) <= 200 else f"{words[:199]}…"
