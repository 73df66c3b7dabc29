"""The REST API: ExternalDNS's four calls, and Desktop Kubernetes' two, as a WSGI application on waitress.

ExternalDNS exits on every 4xx, and on anything but 204 to changes.  So 4xx is for a body that is no message,
and 503 for what may work later.  A refused caller is answered after its headers; its body is not read.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import msgspec
from waitress import wasyncore
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import ErrorTask
from waitress.utilities import Error, RequestEntityTooLarge
from werkzeug.exceptions import (
    BadRequest,
    HTTPException,
    InternalServerError,
    MethodNotAllowed,
    NotAcceptable,
    NotFound,
    ServiceUnavailable,
    UnsupportedMediaType,
    default_exceptions,
)
from werkzeug.wrappers import Request, Response

from kube2etcd.external import (
    Domain,
    Endpoint,
    InvalidDomain,
    InvalidEndpoint,
    parse_cluster_address,
)
from kube2etcd.http.server import EvictingChannel, Server
from kube2etcd.metrics import Metrics
from kube2etcd.settings import HostPort, Network
from kube2etcd.webhook.provider import Provider, Unavailable
from kube2etcd.webhook.state import Changes, adjust, encode_endpoints
from skydns_compat.names import InvalidAddress

log = logging.getLogger(__name__)

#: The client compares the Content-Type of the answer to ``GET /`` with this very text.
MEDIA_TYPE: Final = "application/external.dns.webhook+json;version=1"
#: Limit of a body in octets; also the client's own.
MAX_BODY: Final = 32 * 1024 * 1024
#: Limit of objects and lists in a body: endpoints in the largest body have fewer, but mere brackets would
#: decode to gigabytes.
MAX_VALUES: Final = 1_500_000

_TYPE = MEDIA_TYPE.partition(";")[0]
#: Methods with their own time series.
_METHODS: Final = ("GET", "HEAD", "POST", "DELETE")
#: Limit of an error's text in characters.
_BRIEF: Final = 800
#: Octets above which bodies are processed one at a time: each takes some ten times its size in memory.
_LARGE: Final = 4 * 1024 * 1024
#: Seconds that a large call waits for another.
_TURN: Final = 1.5
#: Limit of a plain text body in octets.
_BARE: Final = 65536

#: Worker threads: writers wait for each other, and readers must not wait for them.
THREADS = 8
#: Limit of open connections; a further one replaces the oldest without a request in progress.
CONNECTIONS = 100
#: Seconds to wait for requests in progress when stopping; none takes that long.
PATIENCE = 5.0
#: Seconds that a request may take to arrive, and that a connection may be idle.
ARRIVAL = 30


def refused(error: HTTPException) -> Response:
    """The response to an error: small, so that the client reads all of it and reuses its connection."""
    text = (error.description or "").strip()
    response = error.get_response()
    response.data = msgspec.json.encode({"error": text if len(text) <= _BRIEF else text[:_BRIEF] + "..."})
    response.content_type = MEDIA_TYPE
    return response


class Api:
    """The WSGI application; the listener has decided who may call.

    The method for each call returns the body, empty for 204.
    """

    def __init__(self, provider: Provider, metrics: Metrics) -> None:
        self._provider, self._metrics = provider, metrics
        self._turn = threading.Lock()
        self._pages: Mapping[str, Mapping[str, Callable[[Request], bytes]]] = {
            "/": {"GET": self._negotiate},
            "/records": {"GET": self._records, "POST": self._apply},
            "/adjustendpoints": {"POST": self._adjust},
            "/domains": {"GET": self._domains, "POST": self._add_domains, "DELETE": self._remove_domains},
            "/clusterip": {"GET": self._cluster, "POST": self._set_cluster, "DELETE": self._remove_cluster},
        }

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request; every error has a JSON body."""
        request = Request(environ)
        try:
            response = self._response(request)
        except Unavailable as error:
            response = refused(ServiceUnavailable(str(error)))
        except (InvalidDomain, InvalidAddress) as error:
            response = refused(BadRequest(str(error)))
        except HTTPException as error:
            response = refused(error)
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            response = refused(InternalServerError("internal error; see the log of kube2etcd"))
        self.count(request.method, request.path, response.status_code)
        return response(environ, start)

    def count(self, method: str, path: str, status: int) -> None:
        """Count a call; unknown methods and paths are merged, so that callers cannot add time series."""
        method = method if method in _METHODS else "other"
        path = path if path in self._pages else "other"
        self._metrics.calls.labels(method, path, str(status)).inc()
        if status < 400:
            self._metrics.last_call.set_to_current_time()

    def _response(self, request: Request) -> Response:
        page = self._pages.get(request.path)
        if page is None:
            raise NotFound(f"no such path; there are {', '.join(self._pages)}")
        call = page.get("GET" if request.method == "HEAD" else request.method)
        if call is None:
            raise MethodNotAllowed([*page], f"allowed: {', '.join(page)}")
        body = call(request)
        if body:
            return Response(body, content_type=MEDIA_TYPE)
        response = Response(status=204)
        del response.headers["Content-Type"]
        return response

    def _negotiate(self, request: Request) -> bytes:
        _check_accept(request)
        names = [str(domain) for domain in self._provider.current.domains]
        # An empty list would match every name.
        return msgspec.json.encode({"include": names} if names else {"regexInclude": "^$"})

    def _records(self, request: Request) -> bytes:
        _check_accept(request)
        return encode_endpoints(self._provider.current.state.endpoints.values())

    def _adjust(self, request: Request) -> bytes:
        with self._message(request) as body:
            _check_accept(request)
            endpoints, current = decode_endpoints(body), self._provider.current
            return encode_endpoints(adjust(endpoints, current.domains, current.cluster))

    def _apply(self, request: Request) -> bytes:
        # The client sends no Accept here, and the answer is empty.
        with self._message(request) as body:
            self._provider.apply(decode_changes(body))
        return b""

    @contextlib.contextmanager
    def _message(self, request: Request) -> Iterator[bytes]:
        """The body of one of ExternalDNS's calls; large ones are processed one at a time."""
        if request.mimetype != _TYPE or request.mimetype_params.get("version", "1") != "1":
            raise UnsupportedMediaType(f"write {MEDIA_TYPE}")
        body = request.get_data(cache=False)
        with contextlib.ExitStack() as ending:
            if len(body) > _LARGE:
                if not self._turn.acquire(timeout=_TURN):
                    raise Unavailable("another large call is in progress: try again")
                ending.callback(self._turn.release)
            yield body

    def _domains(self, _request: Request) -> bytes:
        return msgspec.json.encode([str(domain) for domain in self._provider.current.domains])

    def _add_domains(self, request: Request) -> bytes:
        self._provider.add_domains(_parsed(_bare(request)))
        return self._domains(request)

    def _remove_domains(self, request: Request) -> bytes:
        kept = self._provider.remove_domains(_parsed(_bare(request)))
        if kept:
            raise BadRequest(f"{', '.join(map(str, kept))}: set by --domains, so it cannot be removed here")
        return self._domains(request)

    def _cluster(self, _request: Request) -> bytes:
        return msgspec.json.encode(",".join(self._provider.current.cluster))

    def _set_cluster(self, request: Request) -> bytes:
        self._provider.set_cluster(parse_cluster_address(_bare(request)))
        return self._cluster(request)

    def _remove_cluster(self, request: Request) -> bytes:
        self._provider.set_cluster(())
        return self._cluster(request)


def _parsed(body: str) -> list[Domain]:
    """Domains, separated by commas."""
    texts = [text for text in body.split(",") if text.strip()]
    if not texts:
        raise BadRequest("the body is empty; write a domain, such as dtk.io")
    return [Domain.parse(text) for text in texts]


def _check_accept(request: Request) -> None:
    """Raise `NotAcceptable` unless the client accepts our one media type; without Accept it accepts any."""
    accepted = request.accept_mimetypes
    if accepted and not (accepted.quality(MEDIA_TYPE) or accepted.quality(_TYPE)):
        raise NotAcceptable(f"only {MEDIA_TYPE} is available")


def _bare(request: Request) -> str:
    """A body of plain text, as `curl -d` sends it, or a JSON string."""
    octets = request.get_data(cache=False)
    if len(octets) > _BARE:
        raise BadRequest(f"more than {_BARE} octets for a domain or an address")
    try:
        text = octets.decode().strip()
        return msgspec.json.decode(text, type=str) if text.startswith('"') else text
    except ValueError as error:
        raise BadRequest(f"the body is neither text nor a JSON string: {error}") from None


# --- messages: only the shape is checked here, since one bad endpoint must not affect others


def decode_changes(body: bytes) -> Changes:
    """The changes of ``POST /records``; keys are case-insensitive (capitalized up to ExternalDNS v0.16)."""
    value = _decode(body)
    if type(value) is not dict:
        raise BadRequest("changes are an object of create, updateOld, updateNew and delete")
    lists = {key.lower(): found for key, found in value.items()}
    _endpoints("updateOld", lists.get("updateold"))
    return Changes(
        _endpoints("create", lists.get("create")),
        _endpoints("updateNew", lists.get("updatenew")),
        _endpoints("delete", lists.get("delete")),
    )


def decode_endpoints(body: bytes) -> tuple[Endpoint, ...]:
    """The endpoints of ``POST /adjustendpoints``; older clients write null for an empty list."""
    return _endpoints("the message", _decode(body))


def _decode(body: bytes) -> Any:
    if not body.strip():
        raise BadRequest("the body is empty")
    if len(body) > MAX_VALUES and body.count(b"{") + body.count(b"[") > MAX_VALUES:
        raise BadRequest(f"the body has more than {MAX_VALUES} objects and lists")
    try:
        return msgspec.json.decode(body)
    except ValueError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None


def _endpoints(what: str, value: object) -> tuple[Endpoint, ...]:
    if value is None:
        return ()
    if type(value) is not list:
        raise BadRequest(f"{what} is a list of endpoints")
    # In Go, null in a list of pointers is no endpoint.
    try:
        return tuple(Endpoint.from_json(one) for one in value if one is not None)
    except InvalidEndpoint as error:
        raise BadRequest(f"{what}: {error}") from None


# --- the listener: waitress, with its errors in the API's form


def is_allowed(peer: str, allow: tuple[Network, ...]) -> bool:
    """Whether the address of a connection may call: any if ``allow`` is empty."""
    address = ipaddress.ip_address(peer.partition("%")[0])
    plain = getattr(address, "ipv4_mapped", None) or address
    return not allow or any(one in network for network in allow for one in (plain, address))


class _ErrorTask(ErrorTask):  # type: ignore[misc]
    """Answers requests that waitress refuses (too large, not HTTP) in the form of our errors."""

    def execute(self) -> None:
        error = self.request.error
        # waitress answers 501 to an unknown encoding, which the client would retry.
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
    """Decides from the headers of a request whether to read its body."""

    def __init__(self, adj: Any, peer: str, allow: tuple[Network, ...]) -> None:
        super().__init__(adj)
        self._peer, self._allow = peer, allow

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        # Two lengths allow request smuggling: a proxy may use the other one (RFC 9112 section 6.1).
        if "TRANSFER_ENCODING" in self.headers or (self.chunked and "CONTENT_LENGTH" in self.headers):
            raise ParsingError("Content-Length beside Transfer-Encoding, or an unknown encoding")
        if self.chunked:
            # waitress counts the framing as well, which may be as long again.
            self.body_bytes_received = -MAX_BODY
        if "ORIGIN" in self.headers:
            self.error = _Unwelcome("calls from web pages are refused")
        elif not is_allowed(self._peer, self._allow):
            peer = self._peer.removeprefix("::ffff:")  # IPv4 at a socket for both families
            self.error = _Unwelcome(f"{peer} is in none of the allowed networks")
        if self.error:
            self.body_rcv, self.content_length = None, 0

    def received(self, data: bytes) -> int:
        consumed = int(super().received(data))
        body: Sized | None = self.body_rcv
        if body is not None and len(body) > MAX_BODY:
            self.error, self.completed = RequestEntityTooLarge(f"more than {MAX_BODY} octets"), True
        if self.error:
            # Do not ask for a body that is already refused.
            self.expect_continue = False
        return consumed


class _WebhookChannel(EvictingChannel):
    error_task_class = _ErrorTask

    def __init__(self, server: Any, sock: Any, addr: Any, adj: Any, map: Any = None) -> None:
        super().__init__(server, sock, addr, adj, map)
        self.parser_class = partial(_Parser, peer=str(addr[0]), allow=server.allow)

    def handle_read(self) -> None:
        """The age of an incomplete request is that of its first byte."""
        begun: Any = self.request
        since: float = self.last_activity  # type: ignore[has-type]
        super().handle_read()
        if begun is not None and self.request is begun:
            self.last_activity = since


class Listener(Server):
    """Serves the REST API."""

    def __init__(self, api: Api, listen: HostPort, allow: Iterable[Network] = ()) -> None:
        """Without ``allow`` any address may call.

        :raises SettingsError: the address cannot be bound.
        """
        super().__init__(
            "webhook",
            api,
            # An empty host binds both families, which users expect of ::.
            HostPort("", listen.port) if listen.host == "::" else listen,
            "--bind, --port",
            CONNECTIONS,
            _WebhookChannel,
            threads=THREADS,
            # waitress refuses equal, too.
            max_request_body_size=MAX_BODY + 1,
            channel_timeout=ARRIVAL,
            cleanup_interval=ARRIVAL // 6,
            # A slow reader of a large answer must not hold a thread.
            outbuf_high_watermark=4 * MAX_BODY,
        )
        self.waitress.api, self.waitress.allow = api, tuple(allow)

    def stop(self) -> None:
        """Accept no more requests, answer those in progress, stop."""
        deadline = time.monotonic() + PATIENCE
        self.waitress.trigger.pull_trigger(lambda: wasyncore.dispatcher.close(self.waitress))
        self.waitress.task_dispatcher.shutdown(cancel_pending=True, timeout=PATIENCE)
        # The last answers may still be in buffers.
        while self._unsent() and time.monotonic() < deadline:
            time.sleep(0.01)
        super().stop()

    def _unsent(self) -> bool:
        channels = list(self.waitress.active_channels.values())
        return any(channel.connected and channel.total_outbufs_len > 0 for channel in channels)
