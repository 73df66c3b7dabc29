"""Probes, metrics and a plain page, served from a shared status.

One thread handles the sockets and a fixed few the requests.  Any pod may reach this port: no number of idle
or slow connections can block a probe, and no request queries etcd or the API server.
"""

from __future__ import annotations

import errno
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, Self

import waitress
from waitress import wasyncore
from waitress.channel import HTTPChannel

from kube2etcd import __version__
from kube2etcd.errors import SettingsError
from kube2etcd.metrics import CONTENT_TYPE, Metrics, Status, StatusSnapshot
from kube2etcd.settings import HostPort

log = logging.getLogger(__name__)

#: Seconds without a turn after which the loop counts as dead.  Far above the longest step of a healthy
#: loop, since the cure is a restart, which must not make a slow bridge slower.
LIVE_WITHIN = 120.0
#: Worker threads; a probe takes microseconds.
THREADS = 2
#: Limit of open connections; each further one replaces the oldest with no request in progress.
CONNECTIONS = 200
#: Limits in bytes of a request's headers, and of its body, which no request here needs.
MAX_HEAD = 16 * 1024
MAX_BODY = 1024
#: Seconds for which a metrics page is reused: making one takes as long as a hundred probes.
METRICS_AGE = 0.5


class EvictingChannel(HTTPChannel):  # type: ignore[misc]
    """A connection that replaces another if there are too many (``max_connections`` of the server).

    The oldest with no complete request goes first, however slowly it sends or reads: a probe sends its
    request as soon as it is connected.
    """

    def __init__(self, server: Any, sock: Any, addr: Any, adj: Any, map: Any = None) -> None:
        channels = list(server.active_channels.values())
        if len(channels) >= server.max_connections:
            min(channels, key=lambda one: (bool(one.requests), one.creation_time)).handle_close()
        super().__init__(server, sock, addr, adj, map)

    def handle_close(self) -> None:
        """Close the connection and the temporary files of its buffers."""
        super().handle_close()
        if self.request is not None:
            self.request.close()


class Server:
    """A WSGI application on a port, with its own threads, from `start` to `stop`."""

    def __init__(
        self,
        name: str,
        application: Callable[..., Iterable[bytes]],
        listen: HostPort,
        option: str,
        connections: int,
        channel: type[EvictingChannel] = EvictingChannel,
        **limits: int,
    ) -> None:
        """``name`` is the thread's name, ``option`` is named in errors, ``limits`` are waitress's.

        :raises SettingsError: it cannot listen there.
        """
        self.name = name
        self._map: dict[int, Any] = {}
        self.waitress = waitress.create_server(
            application,
            map=self._map,
            sockets=[bind(listen, option)],
            # Never reached: at ``connections``, another one is closed.
            connection_limit=2 * connections,
            asyncore_use_poll=True,
            ident=None,
            **{"threads": THREADS, "channel_timeout": 30} | limits,
        )
        self.waitress.channel_class = channel
        self.waitress.max_connections = connections
        self.thread = threading.Thread(target=self.waitress.run, name=name, daemon=True)

    @property
    def port(self) -> int:
        """The port, also if the system chose it."""
        return int(self.waitress.effective_port)

    def start(self) -> Self:
        """Start answering."""
        self.thread.start()
        log.info("%s: listening", self.name, extra={"fields": {"port": self.port}})
        return self

    def stop(self) -> None:
        """Stop at once; requests in progress are aborted.

        The pipe that wakes the thread is closed last, when nothing uses it any more: a wake-up during the
        close would write to a closed descriptor, or to another file that reuses it.
        """
        trigger, dispatcher = self.waitress.trigger, self.waitress.task_dispatcher

        def close() -> None:
            wasyncore.dispatcher.close(self.waitress)  # waitress's own close would also close the pipe
            for channel in list(self.waitress.active_channels.values()):
                channel.handle_close()  # `close_all` would leave the temporary files open
            wasyncore.close_all({at: one for at, one in self._map.items() if one is not trigger})
            trigger.del_channel()

        if self.thread.is_alive():
            trigger.pull_trigger(close)
            self.thread.join(5)
        else:
            close()
        dispatcher.shutdown(cancel_pending=True, timeout=0.5)
        if not (self.thread.is_alive() or dispatcher.threads):
            trigger.close()


def probe_server(listen: HostPort, status: Status, metrics: Metrics, title: str = "") -> Server:
    """Probes and metrics."""
    return Server(
        "probes",
        _application(status, metrics, title),
        listen,
        "--listen",
        CONNECTIONS,
        max_request_header_size=MAX_HEAD,
        max_request_body_size=MAX_BODY,
    )


def bind(listen: HostPort, option: str) -> socket.socket:
    """A listening socket, for both families if no host is given; `SettingsError` names ``option``."""
    try:
        if listen.host:
            family, _, _, _, address = socket.getaddrinfo(
                listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            return socket.create_server(address[:2], family=family)
        if socket.has_dualstack_ipv6():
            try:
                return socket.create_server(("::", listen.port), family=socket.AF_INET6, dualstack_ipv6=True)
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
        return socket.create_server(("", listen.port))
    except OSError as error:
        raise SettingsError(f"{option} {listen}: {_reason(listen, error)}") from error


def _reason(listen: HostPort, error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"the host {listen.host!r} is not known; write an address of this machine, or :{listen.port}"
    if error.errno == errno.EADDRINUSE:
        return "another program listens there; stop it, or write another port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"this machine has no address {listen.host}; write one that it has, or :{listen.port}"
    if error.errno == errno.EACCES:
        return "this user may not listen there; write a port above 1023"
    return error.strerror or str(error)


def _application(status: Status, metrics: Metrics, title: str) -> Callable[..., Iterable[bytes]]:
    made, scrape = -METRICS_AGE, b""
    making = threading.Lock()

    def measured() -> bytes:
        nonlocal made, scrape
        with making:
            if time.monotonic() - made >= METRICS_AGE:
                scrape, made = metrics.page(), time.monotonic()
            return scrape

    def live(now: StatusSnapshot) -> tuple[int, str]:
        if now.dead:
            return 503, f"thread {', '.join(now.dead)} died of an unforeseen error"
        age = now.heartbeat_age
        return (200, "ok") if age < LIVE_WITHIN else (503, f"the loop has not turned for {age:.0f} s")

    def ready(now: StatusSnapshot) -> tuple[int, str]:
        if now.ready:
            return 200, "\n".join(("ok", *_worries(now)))
        return 503, "\n".join(_worries(now) or ["not ready"])

    def page(now: StatusSnapshot) -> tuple[int, str]:
        lines = (
            f"kube2etcd {__version__}" + (f": {title}" if title else ""),
            f"ready: {'yes' if now.ready else 'no'}",
            *(f"  {worry}" for worry in _worries(now)),
            f"the loop turned {now.heartbeat_age:.1f} s ago",
            "more: /livez /readyz /metrics",
        )
        return 200, "\n".join(lines)

    pages = {"/": page, "/livez": live, "/healthz": live, "/readyz": ready, "/readiness": ready}

    def answer(environ: dict[str, Any], start: Callable[..., object]) -> Iterable[bytes]:
        path, method = environ.get("PATH_INFO", "/"), environ["REQUEST_METHOD"]
        kind, more = "text/plain; charset=utf-8", []
        if method not in ("GET", "HEAD"):
            code, body, more = 405, b"only GET and HEAD\n", [("Allow", "GET, HEAD")]
        elif path == "/metrics":
            code, kind, body = 200, CONTENT_TYPE, measured()
        elif path in pages:
            code, text = pages[path](status.snapshot())
            body = text.encode() + b"\n"
        else:
            code, body = 404, b"nothing here; there are /livez /readyz /metrics\n"
        headers = [("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
        start(f"{code} {HTTPStatus(code).phrase}", [*headers, *more])
        return [] if method == "HEAD" else [body]

    return answer


def _worries(now: StatusSnapshot) -> list[str]:
    """Warnings of a bridge that is serving."""
    stale = [f"{kind} stale for {age:.0f} s" for kind, age in sorted(now.stale.items())]
    return [*now.reasons, *stale]
