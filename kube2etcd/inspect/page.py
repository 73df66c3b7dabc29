"""The status page: what the bridge publishes and why, read-only, on a listener of its own.

Names come from strangers: everything is escaped by the template engine, and no page may load or run anything
but its own nonced style and script.  The JSON behind it is described in docs/status-page.md.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import math
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
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

PAGE_SIZE: Final = 100
"""Records or problems on one page."""

FRESH: Final = 2.0
"""Seconds for which one view answers every request: however many ask, the loop is asked once."""

CONNECTIONS: Final = 50

PLOT: Final = (640, 160)
"""Width and height of the plot."""

PLOT_SPAN: Final = 900.0
"""Seconds that the plot goes back."""

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
"""Name and type (empty: those that the name has) to explanations (docs/explain.md); may raise ValueError, and
TimeoutError while the loop is busy."""

Delays = Sequence[tuple[float, float, str]]
"""Changes that reached etcd: seconds of the epoch, seconds from event to key, kind."""


class StatusPage(Server):
    """Serves the page."""

    def __init__(
        self,
        listen: HostPort,
        ask: Callable[[], View],
        status: Status,
        explain: Explain,
        delays: Callable[[], Delays] = tuple,
    ) -> None:
        """``ask`` takes a view; it may raise TimeoutError while the loop is busy.

        :raises SettingsError: nothing can listen there.
        """
        listen = HostPort(listen.host or "127.0.0.1", listen.port)
        page = application(ask, status, explain, delays, frozenset({listen.host.lower(), "localhost"}))
        super().__init__("page", page, listen, "--listen-page", CONNECTIONS)


class _Latest:
    """The latest view, taken again when it is no longer fresh; an older one while the loop is busy."""

    def __init__(self, ask: Callable[[], View]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._view: View | None = None
        self._until = -math.inf

    def view(self) -> View:
        """The view; TimeoutError: the loop has not answered yet."""
        with self._lock:
            began = time.monotonic()
            if began >= self._until:
                try:
                    self._view = self._ask()
                except TimeoutError:
                    log.debug("the loop is busy: the status page shows an older view")
                # A large view costs more; never more than a twentieth of the time goes into it.
                now = time.monotonic()
                self._until = now + max(FRESH, 20 * (now - began))
            if self._view is None:
                raise TimeoutError
            return self._view


@dataclass(frozen=True)
class _Question:
    """What a request asks for; whatever is odd counts as not given."""

    text: str
    zone: str
    type: str
    page: int
    problems: int
    """The page of the problems."""

    @classmethod
    def parse(cls, given: MultiDict[str, str]) -> _Question:
        text, zone, rtype = (given.get(key, "")[:LONGEST_QUERY] for key in ("q", "zone", "type"))
        page, problems = (max(1, given.get(key, 1, type=int)) for key in ("page", "problems"))
        return cls(text, zone, rtype.upper(), page, problems)

    def link(self, **other: int) -> str:
        """The query string of the same question with another page."""
        asked = {"q": self.text, "zone": self.zone, "type": self.type}
        pages = {"page": self.page, "problems": self.problems} | other
        given = {key: text for key, text in asked.items() if text}
        return "?" + urlencode(given | {key: page for key, page in pages.items() if page != 1})


def application(
    ask: Callable[[], View],
    status: Status,
    explain: Explain,
    delays: Callable[[], Delays] = tuple,
    hosts: frozenset[str] = frozenset({"localhost"}),
) -> Callable[..., Iterable[bytes]]:
    """The WSGI application; ``hosts`` are the names, beside any address, by which it may be called."""
    latest = _Latest(ask)
    one_at_a_time = threading.Lock()

    def answer(request: Request, nonce: str) -> Response:
        if not _may_be_called(request.environ.get("HTTP_HOST", ""), hosts):
            # A page of a stranger whose name was made to lead here (DNS rebinding) would read everything.
            return Response("call this page by its address or as localhost\n", 403)
        if request.method not in ("GET", "HEAD"):
            return Response("only GET and HEAD\n", 405, {"Allow": "GET, HEAD"})
        if request.path not in _PATHS:
            return Response(f"nothing here; there are {' '.join(_PATHS)}\n", 404)
        try:
            if request.path == "/api/explain":
                asked = (request.args.get(key, "")[:LONGEST_QUERY] for key in ("name", "type"))
                try:
                    with one_at_a_time:
                        return _json(explain(*asked))
                except ValueError as error:
                    return Response(f"{error}\n", 400)
            view, question = latest.view(), _Question.parse(request.args)
        except TimeoutError:
            return Response("the loop has not answered yet; try again\n", 503)
        state = _state(view, question, status)
        match request.path.removeprefix("/api/"):
            case "status":
                return _json({key: value for key, value in state.items() if not isinstance(value, _Page)})
            case ("records" | "problems") as what:
                found: _Page = state[what]
                shown = {"taken": view.taken, "page": found.number, "pages": found.pages, what: found.shown}
                shown |= {"total": found.total} if what == "records" else {"counts": view.counts}
                return _json(shown)
        now = time.time()
        state |= {"question": question, "types": TYPES, "nonce": nonce, "plot": plot(delays(), now)}
        html = _TEMPLATE.render(state, age=max(0.0, now - view.taken))
        return _response(html, "text/html; charset=utf-8")

    @Request.application
    def page(request: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        response = answer(request, nonce)
        response.headers.update({**_HEADERS, "Content-Security-Policy": _POLICY.format(nonce=nonce)})
        return response

    return page


def _response(text: str, kind: str) -> Response:
    # A foreign value may hold what UTF-8 does not.
    return Response(text.encode("utf-8", "backslashreplace"), content_type=kind)


def _json(value: object) -> Response:
    return _response(json.dumps(msgspec.to_builtins(value), ensure_ascii=False) + "\n", "application/json")


def _may_be_called(host: str, hosts: frozenset[str]) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name in hosts or bool(ipaddress.ip_address(name))
    except ValueError:
        return False


@dataclass(frozen=True)
class _Page:
    """One page of a list."""

    number: int
    pages: int
    total: int
    shown: Sequence[Any]

    @classmethod
    def of(cls, rows: Sequence[Any], asked: int) -> _Page:
        """The page that is asked for, or the last one."""
        pages = max(1, -(-len(rows) // PAGE_SIZE))
        number = min(asked, pages)
        return cls(number, pages, len(rows), rows[(number - 1) * PAGE_SIZE : number * PAGE_SIZE])


def _state(view: View, question: _Question, status: Status) -> dict[str, Any]:
    """What the page and the JSON show, by the JSON's names, with the pages that are asked for."""
    now = status.snapshot()
    return {
        "version": __version__,
        "taken": view.taken,
        "ready": now.ready,
        "reasons": now.reasons,
        "heartbeat_age": now.heartbeat_age,
        "leader": view.leader,
        "trouble": view.trouble,
        "zones": view.zones,
        "sources": view.sources,
        "counts": view.counts,
        "records": _Page.of(view.found(question.text, question.zone, question.type), question.page),
        "problems": _Page.of(view.problems, question.problems),
    }


def _y(seconds: float) -> float:
    """Where it is in the plot: from 1 ms at the bottom to 10 s at the top."""
    share = (math.log10(min(max(seconds, 0.001), 10.0)) + 3) / 4
    return round(PLOT[1] - 10 - share * (PLOT[1] - 20), 1)


@dataclass(frozen=True)
class Plot:
    """Programming latency over time: dots on a logarithmic scale, ready to draw."""

    dots: tuple[tuple[float, float, str], ...]
    """x, y and a text."""
    median: float
    p95: float
    width, height = PLOT
    lines = tuple(
        (_y(10.0**power), label) for power, label in enumerate(("1 ms", "10 ms", "100 ms", "1 s", "10 s"), -3)
    )
    """y and its label."""


def plot(delays: Delays, now: float) -> Plot:
    """Draw what happened within `PLOT_SPAN` seconds before ``now``."""
    recent = [one for one in delays if 0 <= now - one[0] <= PLOT_SPAN]
    dots = (
        (round(PLOT[0] * (1 - (now - moment) / PLOT_SPAN), 1), _y(took), f"{kind}: {took * 1000:.1f} ms")
        for moment, took, kind in recent
    )
    ordered = sorted(took for _, took, _ in recent) or [0.0]
    return Plot(tuple(dots), ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.95)])
