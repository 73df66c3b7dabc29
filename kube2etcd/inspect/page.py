"""The status page: a read-only listener that shows what the bridge publishes, and why.

Names come from tenants, so the template engine escapes everything, and the Content-Security-Policy allows
nothing but the page's own style and script.  docs/status-page.md describes the JSON.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import math
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Request, Response

from kube2etcd import __version__
from kube2etcd.http.server import Server
from kube2etcd.inspect.explain import Explanation
from kube2etcd.inspect.live import View
from kube2etcd.inspect.records import TYPES
from kube2etcd.metrics import Status
from kube2etcd.settings import HostPort

log = logging.getLogger(__name__)

#: Records or problems on one page.
PAGE_SIZE: Final = 100
#: Seconds for which one view answers every request, so that the loop is asked only once.
FRESH: Final = 2.0
#: Pause after a view, in multiples of the time that it took, however large it is.
PAUSE: Final = 20
CONNECTIONS: Final = 50
#: Width and height of the plot.
PLOT: Final = (640, 160)
#: Seconds that the plot covers.
PLOT_SPAN: Final = 900.0
#: Characters of a query parameter; the rest is ignored.
LONGEST_QUERY: Final = 300

_TEMPLATE = Environment(
    loader=PackageLoader("kube2etcd.inspect", "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
).get_template("status.html")
_PATHS = ("/", "/api/status", "/api/records", "/api/problems", "/api/explain")
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_POLICY = (
    "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

Explain = Callable[[str, str], list[Explanation]]
"""Name and type (empty: those that the name has) to explanations (docs/explain.md).

Raises ValueError for an invalid name or type, and TimeoutError while the loop is busy."""

Delays = Sequence[tuple[float, float, str]]
"""Changes that reached etcd: seconds since the epoch, seconds from event to key, kind."""


def status_page(
    listen: HostPort,
    ask: Callable[[], View],
    status: Status,
    explain: Explain,
    delays: Callable[[], Delays] = tuple,
) -> Server:
    """The listener of the status page.

    ``ask`` returns the current view; it raises TimeoutError while the loop is busy.

    :raises SettingsError: it cannot listen there.
    """
    page = application(ask, status, explain, delays, frozenset({listen.host.lower(), "localhost"}))
    return Server("page", page, listen, "--listen-page", CONNECTIONS)


class _Latest:
    """The latest view, renewed when it is no longer fresh; an older one while the loop is busy."""

    def __init__(self, ask: Callable[[], View]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._view: View | None = None
        self._until = -math.inf

    def view(self) -> View:
        """The view.

        :raises TimeoutError: the loop has not answered yet.
        """
        with self._lock:
            began = time.monotonic()
            if began >= self._until:
                try:
                    self._view = self._ask()
                except TimeoutError:
                    log.debug("status page: the loop is busy; showing an older view")
                now = time.monotonic()
                self._until = now + max(FRESH, PAUSE * (now - began))
            if self._view is None:
                raise TimeoutError
            return self._view


def _asked(given: MultiDict[str, str]) -> dict[str, Any]:
    """The query parameters; those that are missing or invalid have their defaults."""
    texts = {key: given.get(key, "")[:LONGEST_QUERY] for key in ("q", "zone", "type")}
    pages = {key: max(1, given.get(key, 1, type=int)) for key in ("page", "problems")}
    return {**texts, "type": texts["type"].upper(), **pages}


def _link(asked: Mapping[str, str | int], **other: int) -> str:
    """The query string for another page of the same records or problems."""
    return "?" + urlencode({key: value for key, value in {**asked, **other}.items() if value not in ("", 1)})


def _paged(rows: Sequence[Any], page: int) -> dict[str, Any]:
    """A page of a list, or its last one."""
    pages = max(1, -(-len(rows) // PAGE_SIZE))
    page = min(page, pages)
    shown = rows[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
    return {"page": page, "pages": pages, "total": len(rows), "shown": shown}


def application(
    ask: Callable[[], View],
    status: Status,
    explain: Explain,
    delays: Callable[[], Delays] = tuple,
    hosts: frozenset[str] = frozenset({"localhost"}),
) -> Callable[..., Iterable[bytes]]:
    """The WSGI application; ``hosts`` are the host names that it answers to, besides any address."""
    latest = _Latest(ask)
    one_at_a_time = threading.Lock()

    def answer(request: Request, nonce: str) -> Response:
        if not _may_be_called(request.environ.get("HTTP_HOST", ""), hosts):
            # DNS rebinding: a web site whose name resolves to this address could read everything.
            return Response("use an address, localhost or the host of --listen-page in the URL\n", 403)
        if request.method not in ("GET", "HEAD"):
            return Response("only GET and HEAD are allowed\n", 405, {"Allow": "GET, HEAD"})
        if request.path not in _PATHS:
            return Response(f"no such path; there are {' '.join(_PATHS)}\n", 404)
        try:
            if request.path == "/api/explain":
                name, rtype = (request.args.get(key, "")[:LONGEST_QUERY] for key in ("name", "type"))
                try:
                    with one_at_a_time:
                        return _json(explain(name, rtype))
                except ValueError as error:
                    return Response(f"{error}\n", 400)
            view, asked = latest.view(), _asked(request.args)
        except TimeoutError:
            return Response("the loop has not answered yet; try again\n", 503)
        now, state = status.snapshot(), dict(vars(view))
        del state["rows"], state["problems"]
        state |= {"ready": now.ready, "reasons": now.reasons, "heartbeat_age": now.heartbeat_age}
        state["version"] = __version__
        lists = {
            "records": _paged(view.found(asked["q"], asked["zone"], asked["type"]), asked["page"]),
            "problems": _paged(view.problems, asked["problems"]),
        }
        match request.path.removeprefix("/api/"):
            case "status":
                return _json(state)
            case ("records" | "problems") as what:
                found = lists[what]
                shown = {"taken": view.taken, "page": found["page"], "pages": found["pages"]}
                shown |= {"total": found["total"]} if what == "records" else {"counts": view.counts}
                return _json({**shown, what: found["shown"]})
        state |= {**lists, "asked": asked, "link": partial(_link, asked), "types": TYPES, "nonce": nonce}
        html = _TEMPLATE.render(
            state, age=max(0.0, time.time() - view.taken), plot=plot(delays(), time.time())
        )
        return _response(html, "text/html; charset=utf-8")

    @Request.application
    def page(request: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        response = answer(request, nonce)
        response.headers.update({**_HEADERS, "Content-Security-Policy": _POLICY.format(nonce=nonce)})
        return response

    return page


def _response(text: str, kind: str) -> Response:
    # A foreign value may contain lone surrogates.
    return Response(text.encode("utf-8", "backslashreplace"), content_type=kind)


def _json(value: object) -> Response:
    return _response(json.dumps(msgspec.to_builtins(value), ensure_ascii=False) + "\n", "application/json")


def _may_be_called(host: str, hosts: frozenset[str]) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name in hosts or bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def _y(seconds: float) -> float:
    """The y coordinate of a latency, from 1 ms at the bottom to 10 s at the top."""
    share = (math.log10(min(max(seconds, 0.001), 10.0)) + 3) / 4
    return round(PLOT[1] - 10 - share * (PLOT[1] - 20), 1)


def plot(delays: Delays, now: float) -> dict[str, Any]:
    """Programming latency of the changes within `PLOT_SPAN` seconds before ``now``, on a logarithmic scale.

    ``dots`` have x, y and a text, ``lines`` y and a label, in a drawing of ``width`` and ``height``; the
    ``median`` and ``p95`` are seconds.
    """
    recent = [one for one in delays if 0 <= now - one[0] <= PLOT_SPAN]
    ordered = sorted(took for _, took, _ in recent) or [0.0]
    labels = enumerate(("1 ms", "10 ms", "100 ms", "1 s", "10 s"), -3)
    return {
        "dots": [
            (round(PLOT[0] * (1 - (now - moment) / PLOT_SPAN), 1), _y(took), f"{kind}: {took * 1000:.1f} ms")
            for moment, took, kind in recent
        ],
        "lines": [(_y(10.0**power), label) for power, label in labels],
        "width": PLOT[0],
        "height": PLOT[1],
        "median": ordered[len(ordered) // 2],
        "p95": ordered[int(len(ordered) * 0.95)],
    }
