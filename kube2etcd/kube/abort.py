"""Ending a request from another thread, whatever it is waiting for.

What it is: :class:`Abort`, and connections whose sockets it can shut down before, during and after
the TLS handshake.  What it may know: sockets.  What it must never do: know what is asked for.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool


class Abort:
    """Lets another thread end a request in flight, whatever it is waiting for.

    One per user of the connection.  ``trigger`` shuts the socket down, which wakes a reader at once
    (a timeout would not), and stays in force for later requests until ``reset``.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._triggered = False
        self._closers: list[Callable[[], None]] = []

    @property
    def triggered(self) -> bool:
        """Whether requests are to end."""
        return self._triggered

    def trigger(self) -> None:
        """End the request in flight and every later one."""
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
        """Forget what was attached; the request is over."""
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
    """Lends its socket to the request that uses it."""

    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        running.fresh = True
        _lend(sock)
        return sock

    def request(self, *args: Any, **kwargs: Any) -> None:
        _lend_reused(self)
        super().request(*args, **kwargs)


class _TlsConnection(_Lending, HTTPSConnection):
    pass


def _lend_reused(connection: HTTPConnection) -> None:
    if connection.sock is not None and not running.fresh:
        _lend(connection.sock)


class AbortablePool(HTTPConnectionPool):
    """Plain HTTP."""

    ConnectionCls = _Lending


class AbortableTlsPool(HTTPSConnectionPool):
    """HTTPS."""

    ConnectionCls = _TlsConnection
