"""The HTTP listener under the REST API: waitress, with its own errors in the API's form.

Requests in progress are answered before it stops.  A refused caller gets its answer after the head of the
request, and nothing more is read: it can neither fill a disk nor hold a connection for long.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterable
from functools import partial
from http import HTTPStatus
from typing import Any

from waitress import wasyncore
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import ErrorTask
from waitress.utilities import Error
from werkzeug.exceptions import default_exceptions

from kube2etcd.http.server import EvictingChannel, Server
from kube2etcd.settings import HostPort, Network
from kube2etcd.webhook.api import MAX_BODY, Api, refused

#: Worker threads: writers wait for each other, and readers must not wait for all of them.
THREADS = 8
#: Open connections; each further one takes the place of the oldest that asks nothing.
CONNECTIONS = 100
#: Seconds to wait for requests in progress when stopping: more than any of them takes.
PATIENCE = 5.0
#: Seconds that a request may take to arrive, and that a connection may be idle.
ARRIVAL = 30


def unwelcome(peer: str, *, from_a_page: bool, allow: Iterable[Network]) -> str:
    """Why a caller is refused; empty: it may call.

    No web page may (an ``Origin`` header), and nobody outside of ``allow``.  ``peer`` is the address at
    the other end of the connection; forwarding headers do not count.
    """
    if from_a_page:
        return "calls from web pages are refused"
    networks = tuple(allow)
    if not networks:
        return ""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return "the caller has no address"
    plain = getattr(address, "ipv4_mapped", None) or address
    if any(one in network for network in networks for one in (plain, address)):
        return ""
    return f"{plain} is in none of the allowed networks"


class _ErrorTask(ErrorTask):  # type: ignore[misc]
    """Answers what waitress itself refuses (too large, not HTTP) in the form of all our errors."""

    def execute(self) -> None:
        error = self.request.error
        # An unknown encoding is 501, which the client takes for a soft error; it is not one.
        code = error.code if error.code < 500 else 400
        text = " ".join(f"{error.reason}: {error.body}".split())
        response = refused(default_exceptions[code](text))
        body = response.get_data()
        request = self.request
        api: Api = self.channel.server.api
        api.count(getattr(request, "command", ""), getattr(request, "path", ""), code)
        self.status = f"{code} {HTTPStatus(code).phrase}"
        self.response_headers.append(("Content-Type", response.content_type))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Unwelcome(Error):  # type: ignore[misc]
    code = 403
    reason = "Forbidden"


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    """Decides from the head of a request whether to read the rest."""

    def __init__(self, adj: Any, peer: str, allow: tuple[Network, ...]) -> None:
        super().__init__(adj)
        self._peer, self._allow = peer, allow

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        # Two lengths are request smuggling: a proxy may read them otherwise than we do (RFC 9112, 6.1).
        if "TRANSFER_ENCODING" in self.headers or (self.chunked and "CONTENT_LENGTH" in self.headers):
            raise ParsingError("a length of its own beside Transfer-Encoding")
        why = unwelcome(self._peer, from_a_page="ORIGIN" in self.headers, allow=self._allow)
        if why:
            self.error = _Unwelcome(why)
            self.body_rcv, self.content_length = None, 0

    def received(self, data: bytes) -> int:
        consumed = int(super().received(data))
        if self.error:
            # Do not ask for a body that is refused already.
            self.expect_continue = False
        return consumed


class _Channel(EvictingChannel):
    error_task_class = _ErrorTask

    def __init__(self, server: Any, sock: Any, addr: Any, adj: Any, map: Any = None) -> None:
        super().__init__(server, sock, addr, adj, map)
        self.parser_class = partial(_Parser, peer=str(addr[0]), allow=server.allow)

    def handle_read(self) -> None:
        """A request that trickles in is as old as its first byte."""
        begun: Any = self.request
        since: float = self.last_activity  # type: ignore[has-type]
        super().handle_read()
        if begun is not None and self.request is begun:
            self.last_activity = since


class Listener(Server):
    """Serves the REST API."""

    def __init__(self, api: Api, listen: HostPort, allow: Iterable[Network] = ()) -> None:
        """Without ``allow`` everybody may call.

        :raises SettingsError: nothing can listen there.
        """
        super().__init__(
            "webhook",
            api,
            # An empty host binds both families, which is what people mean by ::.
            HostPort("", listen.port) if listen.host == "::" else listen,
            "--bind, --port",
            CONNECTIONS,
            _Channel,
            threads=THREADS,
            # waitress refuses what is equal, too.
            max_request_body_size=MAX_BODY + 1,
            channel_timeout=ARRIVAL,
            cleanup_interval=ARRIVAL // 6,
            # A slow reader must not hold a thread for the length of a large answer.
            outbuf_high_watermark=4 * MAX_BODY,
        )
        self.waitress.api, self.waitress.allow = api, tuple(allow)

    def stop(self) -> None:
        """Accept no more requests, answer those in progress, stop."""
        if self.thread.is_alive():
            deadline = time.monotonic() + PATIENCE
            self.waitress.trigger.pull_trigger(lambda: wasyncore.dispatcher.close(self.waitress))
            self.waitress.task_dispatcher.shutdown(cancel_pending=True, timeout=PATIENCE)
            # The last answers may still be in the buffers.
            while time.monotonic() < deadline and self._unsent():
                time.sleep(0.01)
        super().stop()

    def _unsent(self) -> bool:
        channels = list(self.waitress.active_channels.values())
        return any(channel.connected and channel.total_outbufs_len > 0 for channel in channels)
