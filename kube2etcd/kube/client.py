"""Requests to the API server, over an HTTP pool with explicit timeouts.

Only a 401 is retried here, once, with fresh credentials.  The environment's proxy and CA variables are
ignored, and messages contain no secrets.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    InsecureRequestWarning,
    ProtocolError,
    ReadTimeoutError,
)

from kube2etcd import __version__
from kube2etcd.errors import ApiTooLarge, ApiUnavailable, SettingsError
from kube2etcd.kube.credentials import Access, fingerprint, read_access
from kube2etcd.kube.failures import (
    ApiSilent,
    check_urls,
    ends_handshake,
    explain_failure,
    public_url,
    refusal,
)
from kube2etcd.settings import Cluster

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for TCP and TLS."""

READ_SIZE: Final = 1 << 18
"""Upper bound of one read; what has arrived is delivered at once."""

MAX_LINE: Final = 32 << 20
"""etcd limits an object to about 1.5 MiB, so a longer line is not an event."""

# The kernel probes a silent peer after 30 s, then each 15 s, and gives up after three: 75 s.
# This detects a dead peer; the read timeout detects one that is up but hangs.
_KEEPALIVE: Final = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 3))
        if hasattr(socket, name)
    ),
)

_log = logging.getLogger(__name__)

_running = threading.local()
"""The calling thread's request: its :class:`Abort`, and whether it opened a ``fresh`` connection."""


class Abort:
    """Lets another thread abort a request in flight, whatever it is waiting for.

    One per user of the connection.  ``trigger`` shuts the socket down, which wakes a reader at once
    (a timeout would not), and stays in force for later requests until ``reset``.  urllib3's own
    ``HTTPResponse.shutdown`` needs the response headers, which a hanging server never sends.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self.triggered = False

    def trigger(self) -> None:
        """Abort the request in flight and every later one."""
        with self._lock:
            self.triggered = True
            for one in self._sockets:
                _shut_down(one)

    def reset(self) -> None:
        """Let requests through again."""
        with self._lock:
            self.triggered = False

    @contextlib.contextmanager
    def over(self) -> Iterator[None]:
        """Within this block, this object can abort the request of the calling thread."""
        _running.abort, _running.fresh = self, False
        try:
            yield
        finally:
            _running.abort = None
            with self._lock:
                for one in self._sockets:
                    one.close()
                self._sockets.clear()

    def attach(self, sock: socket.socket) -> None:
        """Register a socket to be shut down on ``trigger``, or at once if that has been called.

        Keeps a duplicate, because the TLS handshake moves the descriptor into another object; the duplicate
        works before, during and after it.
        """
        twin = socket.socket(sock.family, sock.type, sock.proto, fileno=os.dup(sock.fileno()))
        with self._lock:
            self._sockets.append(twin)
            if self.triggered:
                _shut_down(twin)


def _shut_down(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it may not be connected yet
        sock.shutdown(socket.SHUT_RDWR)


class _Connection(HTTPConnection):
    """Attaches its socket to the `Abort` of the current request."""

    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        _running.fresh = True
        _running.abort.attach(sock)
        return sock

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None and not _running.fresh:
            _running.abort.attach(self.sock)
        super().request(*args, **kwargs)


class _TlsConnection(_Connection, HTTPSConnection):
    def connect(self) -> None:
        try:
            super().connect()
        except TimeoutError as error:
            # urllib3 reports it as a read timeout, but reads are given more time than the handshake.
            raise ConnectTimeoutError(self, "no TLS handshake") from error


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _Request(NamedTuple):
    """A request; the timeouts in seconds are for the connection, for each read, and overall."""

    method: str
    path: str
    params: Mapping[str, str]
    abort: Abort
    connect: float
    read: float
    total: float | None = None
    headers: Mapping[str, str] = {}
    body: bytes | None = None


class _Session:
    """The credentials as read once, with their connection pool.

    :raises SettingsError: they name an unusable server, proxy or file.
    """

    def __init__(self, access: Access) -> None:
        check_urls(access.server, access.proxy)
        self.access = access
        self.server = public_url(access.server)
        self.doubtful = False
        """Whether the server may have ended a handshake because of our certificate."""
        self.fingerprint = fingerprint(access.files)
        if not access.verify_ssl:
            urllib3.disable_warnings(InsecureRequestWarning)
        options: dict[str, Any] = {"socket_options": list(_KEEPALIVE), "maxsize": 16, "retries": False}
        context = access.context()
        if context is not None:
            options["ssl_context"] = context
            options["cert_reqs"] = "CERT_REQUIRED" if access.verify_ssl else "CERT_NONE"
            if access.tls_server_name:
                options["server_hostname"] = access.tls_server_name
        self.pool: urllib3.PoolManager = (
            urllib3.ProxyManager(access.proxy, **options) if access.proxy else urllib3.PoolManager(**options)
        )
        self.pool.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    @property
    def stale(self) -> bool:
        """Whether the credentials must be reloaded before the next request."""
        return self.doubtful or fingerprint(self.access.files) != self.fingerprint

    def send(self, request: _Request) -> urllib3.BaseHTTPResponse:
        """Send a request and return the response with its body unread, whatever its status.

        Renews an expired token first.
        """
        method, path, params, abort, connect, read, total, *_ = request
        if abort.triggered:
            raise ApiUnavailable("the request was aborted")
        send = partial(
            self.pool.request,
            method,
            self.access.server + quote(path) + ("?" + urlencode(params) if params else ""),
            body=request.body,
            timeout=urllib3.Timeout(total, connect, read),
            redirect=False,
            preload_content=False,
        )
        try:
            headers = {"Accept": "application/json", "User-Agent": f"kube2etcd/{__version__}"}
            headers |= request.headers
            if authorization := self.access.renewed():
                headers["Authorization"] = authorization
            try:
                return send(headers=headers)
            except ProtocolError:
                # The server closed an idle connection just as we reused it: retry once on a new one.
                if _running.fresh or abort.triggered:
                    raise
                self.pool.clear()
                return send(headers=headers)
        except (HTTPError, OSError, ValueError) as error:
            if self.access.cert_file and ends_handshake(error):
                self.doubtful = True
            # A ValueError may quote the offending header, so its text is dropped.
            cause = None if isinstance(error, ValueError) else error
            seconds = connect if isinstance(error, ConnectTimeoutError) else read
            raise self.explain(error, seconds, abort) from cause

    def explain(self, error: Exception, seconds: float, abort: Abort) -> ApiUnavailable:
        """The error for a failure below HTTP; ``seconds`` was its timeout."""
        if abort.triggered:
            return ApiUnavailable("the request was aborted")
        return explain_failure(self.server, error, seconds)


class ApiConnection:
    """Requests to one API server; may be used from several threads.

    Before every request, changed credential files are reloaded and an expired token is renewed; a 401 reloads
    everything and retries the request once.
    """

    def __init__(self, settings: Cluster) -> None:
        """Read the credentials; sends no request.

        :raises SettingsError: no cluster is named, or the credentials cannot be read.
        """
        self._settings = settings
        self._lock = threading.Lock()
        self._session = _Session(read_access(settings))
        if not self._session.access.verify_ssl:
            _log.warning("%s: its certificate is not verified (insecure-skip-tls-verify)", self.server)

    @property
    def server(self) -> str:
        """The server's URL without secrets."""
        return self._session.server

    def request(
        self,
        method: str,
        path: str,
        params: Mapping[str, str],
        *,
        timeout: float,
        body: bytes | None = None,
        accept: str = "application/json",
        abort: Abort | None = None,
        max_bytes: int | None = None,
    ) -> bytes:
        """The complete body of the response, within ``timeout`` seconds overall; ``body`` is JSON.

        :raises ApiTooLarge: the response has more than ``max_bytes`` bytes, uncompressed.
        :raises ApiError: anything but a complete 2xx response; the class says what to do, and a 409 is
            `kube2etcd.kube.failures.ApiRefused`.
        """
        abort = abort or Abort()
        deadline = time.monotonic() + timeout
        # API objects shrink to a tenth, and compressing costs less than encrypting the rest.
        headers = {"Accept": accept, "Accept-Encoding": "gzip"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        connect = min(CONNECT_TIMEOUT, timeout)
        parts, size = [], 0
        request = _Request(method, path, params, abort, connect, timeout, timeout, headers, body)
        with self._exchange(request) as (session, response):
            try:
                for chunk in _arriving(response):
                    parts.append(chunk)
                    size += len(chunk)
                    if max_bytes is not None and size > max_bytes:
                        raise ApiTooLarge(f"the answer has more than {max_bytes} bytes")
                    if time.monotonic() > deadline:
                        raise ApiUnavailable(f"the answer was not complete after {timeout:g} s")
            except (HTTPError, OSError, ValueError) as error:
                raise session.explain(error, timeout, abort) from error
        return b"".join(parts)

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
        """Open a response that arrives line by line; lines are yielded without line ends.

        ``connect_timeout`` applies to TCP, TLS and the first byte of the response; after that the stream may
        be silent for ``read_timeout`` seconds.

        :raises ApiError: as for :meth:`request`.  Later, while iterating, `ApiSilent`: the read timed out,
            `ApiUnavailable`: the connection broke, or the last line is incomplete.
        """
        abort = abort or Abort()
        # Uncompressed: a proxy might hold a line back to compress it with the next.
        request = _Request("GET", path, params, abort, connect_timeout, connect_timeout)
        with self._exchange(request) as (session, response):
            # The first byte has arrived: from now on the read timeout applies.
            connection = response.connection
            if connection is not None and getattr(connection, "sock", None) is not None:
                connection.sock.settimeout(read_timeout)  # type: ignore[attr-defined]
            yield _lines(response, partial(session.explain, seconds=read_timeout, abort=abort))

    def close(self) -> None:
        """Close idle connections."""
        self._session.pool.clear()

    # -- inner

    @contextlib.contextmanager
    def _exchange(self, request: _Request) -> Iterator[tuple[_Session, urllib3.BaseHTTPResponse]]:
        """A 2xx response with its body unread, and the credentials used."""
        with request.abort.over():
            session = self._session
            if session.stale:
                session = self._reload(session)
            response = session.send(request)
            # The token may have been replaced; without one a server may answer 403 instead.
            anonymous = response.status == 403 and session.access.files and not session.access.known
            if response.status == 401 or anonymous:
                response.close()
                session = self._reload(session)
                response = session.send(request)
            try:
                if not 200 <= response.status < 300:
                    raise refusal(session.access, response, request.method, request.path, request.params)
                yield session, response
            finally:
                response.close()  # returned to the pool if read to its end, else dropped

    def _reload(self, seen: _Session) -> _Session:
        """Read the credentials again, unless another thread has done so since ``seen``."""
        with self._lock:
            old = self._session
            if old is not seen:
                return old
            files = old.access.files
            before = fingerprint(files)
            try:
                new = _Session(read_access(self._settings))
                if new.access.files == files:
                    new.fingerprint = before  # files written meanwhile are read next time
                if old.access.known and not new.access.known and new.fingerprint == old.fingerprint:
                    # The files did not change, so it is the exec plugin that failed.
                    raise SettingsError("the exec plugin returned none")
            except SettingsError as error:
                # The files may be half-written or briefly missing: the old credentials may still be valid.
                _log.warning("keeping the old credentials for %s: %s", self.server, error)
                return old
            self._session = new
            old.pool.clear()
            return new


def _arriving(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """The body as it arrives."""
    while part := response.read1(READ_SIZE):
        yield part


def _lines(
    response: urllib3.BaseHTTPResponse, explain: Callable[[Exception], ApiUnavailable]
) -> Iterator[bytes]:
    """The lines of an unbounded response, each yielded on arrival, without line ends."""
    begun = bytearray()
    try:
        for chunk in _arriving(response):
            first, *rest = chunk.split(b"\n")
            begun += first
            if not rest:
                if len(begun) > MAX_LINE:
                    raise ApiUnavailable(f"a line of the watch has more than {MAX_LINE} bytes and no end")
                continue
            whole = [bytes(begun), *rest]
            begun = bytearray(whole.pop())
            yield from filter(None, whole)
    except (ReadTimeoutError, TimeoutError) as error:
        raise ApiSilent(str(explain(error))) from error
    except (HTTPError, OSError, ValueError) as error:
        raise explain(error) from error
    if begun:
        raise ApiUnavailable(f"the watch ended in the middle of a line, after {len(begun)} bytes of it")
