"""HTTP to the API server below the requests: pools of connections, answers as they arrive, and their end.

Sockets can be shut down from another thread before, during and after the TLS handshake: urllib3's own
``HTTPResponse.shutdown`` helps only when the head of an answer is here, and a server that hangs sends none.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, InsecureRequestWarning, ReadTimeoutError

from kube2etcd import __version__
from kube2etcd.errors import ApiError, ApiTruncated
from kube2etcd.kube.credentials import Access, fingerprint
from kube2etcd.kube.failures import ApiSilent, check_urls

READ_SIZE: Final = 1 << 18
"""Upper bound of one read; what has arrived is delivered at once."""

MAX_LINE: Final = 32 << 20
"""No object is larger than etcd takes (about 1.5 MiB); a longer line is no event."""

# The kernel probes a silent peer after 30 s, then each 15 s, and gives up after three: 75 s.
# This finds a dead peer; the read timeout finds one that is up but hangs.
_KEEPALIVE: Final = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 3))
        if hasattr(socket, name)
    ),
)


class Abort:
    """Lets another thread abort a request in flight, whatever it waits for.

    One per user of the connection.  ``trigger`` shuts the socket down, which wakes a reader at once
    (a timeout would not), and stays in force for later requests until ``reset``.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._triggered = False
        self._closers: list[Callable[[], None]] = []

    @property
    def triggered(self) -> bool:
        """Whether requests are aborted."""
        return self._triggered

    def trigger(self) -> None:
        """Abort the request in flight and every later one."""
        with self._lock:
            self._triggered = True
            for close in self._closers:
                close()

    def reset(self) -> None:
        """Let requests through again."""
        with self._lock:
            self._triggered = False

    def attach(self, close: Callable[[], None]) -> None:
        """Have ``close`` called on ``trigger``; at once if that has happened already."""
        with self._lock:
            self._closers.append(close)
            if self._triggered:
                close()

    def detach(self) -> None:
        """Forget the attached closers; the request is over."""
        with self._lock:
            self._closers.clear()


running = threading.local()
"""Of the request that this thread is making: its :class:`Abort`, the sockets lent to that, and whether
the connection is a fresh one."""


def _lend(sock: socket.socket) -> None:
    """Give the running request's :class:`Abort` a handle on a socket.

    A duplicate: the TLS handshake moves the descriptor into another object, and the duplicate
    reaches the connection before, during and after.
    """
    abort: Abort | None = getattr(running, "abort", None)
    if abort is None:
        return
    twin = socket.socket(sock.family, sock.type, sock.proto, fileno=os.dup(sock.fileno()))
    running.twins.append(twin)

    def close() -> None:
        with contextlib.suppress(OSError):  # it may be closed, or not connected yet
            twin.shutdown(socket.SHUT_RDWR)

    abort.attach(close)


@contextlib.contextmanager
def lending(abort: Abort | None) -> Iterator[None]:
    """Within this block, sockets of this thread can be shut down through ``abort``."""
    running.abort, running.twins, running.fresh = abort, [], False
    twins = running.twins
    try:
        yield
    finally:
        running.abort = None
        if abort is not None:
            abort.detach()
        for twin in twins:
            twin.close()


class _Lending(HTTPConnection):
    """Registers its socket with the request that uses it."""

    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        running.fresh = True
        _lend(sock)
        return sock

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None and not running.fresh:
            _lend(self.sock)
        super().request(*args, **kwargs)


class _TlsConnection(_Lending, HTTPSConnection):
    def connect(self) -> None:
        try:
            super().connect()
        except TimeoutError as error:
            # urllib3 calls it a timeout of a read, which has more time than the handshake.
            raise ConnectTimeoutError(self, "no TLS handshake") from error


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Lending


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class Session:
    """One reading of the credentials, with the pool that belongs to it.

    :raises SettingsError: they name no server or proxy that can be asked, or a file that cannot be used.
    """

    def __init__(self, access: Access, generation: int) -> None:
        check_urls(access.host, access.proxy)
        self.access = access
        self.generation = generation
        self.doubtful = False
        """Whether the server may have ended a handshake because of our certificate."""
        self.fingerprint = fingerprint(access.files)
        if not access.verify:
            urllib3.disable_warnings(InsecureRequestWarning)
        options: dict[str, Any] = {"socket_options": list(_KEEPALIVE), "maxsize": 16}
        context = access.context()
        if context is not None:
            options["ssl_context"] = context
            options["cert_reqs"] = "CERT_REQUIRED" if access.verify else "CERT_NONE"
            if access.server_name:
                options["server_hostname"] = access.server_name
        self.pool: urllib3.PoolManager = (
            urllib3.ProxyManager(access.proxy, **options) if access.proxy else urllib3.PoolManager(**options)
        )
        self.pool.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    @property
    def stale(self) -> bool:
        """Whether the credentials must be reloaded before the next request."""
        return self.doubtful or fingerprint(self.access.files) != self.fingerprint

    def headers(self) -> dict[str, str]:
        """Headers of every request; renews an expired token."""
        headers = {"Accept": "application/json", "User-Agent": f"kube2etcd/{__version__}"}
        authorization = self.access.refresh() if self.access.refresh else self.access.authorization
        if authorization:
            headers["Authorization"] = authorization
        return headers


def arriving(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """The body as it arrives: chunks, or whatever was read of an unchunked one."""
    if getattr(response, "chunked", False):
        yield from response.stream(READ_SIZE, decode_content=True)
        return
    while part := response.read1(READ_SIZE):
        yield part


def lines(response: urllib3.BaseHTTPResponse, explain: Callable[[Exception], ApiError]) -> Iterator[bytes]:
    """The lines of an unbounded answer, each yielded on arrival, without their ends.

    :raises ApiTruncated: the last line has no end.
    :raises ApiSilent: nothing came for as long as the read timeout.
    :raises ApiUnavailable: the connection broke.
    """
    parts: list[bytes] = []
    length = 0
    try:
        for chunk in arriving(response):
            first, *rest = chunk.split(b"\n")
            parts.append(first)
            length += len(first)
            if not rest:
                if length > MAX_LINE:
                    raise ApiTruncated(f"a line of the watch has more than {MAX_LINE} bytes and no end")
                continue
            rest.insert(0, b"".join(parts))
            last = rest.pop()
            parts, length = ([last], len(last)) if last else ([], 0)
            yield from filter(None, rest)
    except (ReadTimeoutError, TimeoutError) as error:
        raise ApiSilent(str(explain(error))) from error
    except (HTTPError, OSError, ValueError) as error:
        raise explain(error) from error
    if length:
        raise ApiTruncated(f"the watch ended in the middle of a line, after {length} bytes of it")
