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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlencode

from kube2etcd import __version__
from kube2etcd.http.server import HasSnapshot, Server, Start
from kube2etcd.inspect.live import View
from kube2etcd.inspect.records import TYPES
from kube2etcd.settings import HostPort

if TYPE_CHECKING:
    from jinja2 import Template

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

_PATHS = ("/", "/api/status", "/api/records", "/api/problems", "/api/explain")
_BUSY = "the loop has not answered yet; try again\n"
_POLICY = (
    "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

Explain = Callable[[str, str], list[dict[str, object]]]
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
        status: HasSnapshot,
        explain: Explain,
        delays: Callable[[], Delays] = tuple,
    ) -> None:
        """``ask`` takes a view; it may raise TimeoutError while the loop is busy.

        :raises SettingsError: nothing can listen there.
        """
        listen = HostPort(listen.host or "127.0.0.1", listen.port)
        page = application(ask, status, explain, delays, frozenset({listen.host, "localhost"}))
        super().__init__("page", page, listen, "--listen-page", CONNECTIONS)


class _Latest:
    """The latest view, taken again when it is no longer fresh; an older one while the loop is busy."""

    def __init__(self, ask: Callable[[], View], clock: Callable[[], float] = time.monotonic) -> None:
        self._ask, self._clock = ask, clock
        self._lock = threading.Lock()
        self._view: View | None = None
        self._until = -math.inf

    def view(self) -> View | None:
        """None: the loop has not answered yet."""
        with self._lock:
            if self._clock() >= self._until:
                began = self._clock()
                try:
                    self._view = self._ask()
                except TimeoutError:
                    log.debug("the loop is busy: the status page shows an older view")
                # A large view costs more; never more than a twentieth of the time goes into it.
                self._until = self._clock() + max(FRESH, 20 * (self._clock() - began))
            return self._view


@dataclass(frozen=True)
class _Question:
    """What a request asks for."""

    text: str = ""
    zone: str = ""
    type: str = ""
    page: int = 1
    problems: int = 1
    """The page of the problems."""

    @classmethod
    def parse(cls, query: str) -> _Question:
        """Whatever is odd counts as not given."""
        given = {key: values[-1][:LONGEST_QUERY] for key, values in parse_qs(query).items()}

        def number(name: str) -> int:
            text = given.get(name, "")
            return int(text) if text.isascii() and text.isdigit() and 0 < len(text) < 10 else 1

        return cls(
            given.get("q", ""),
            given.get("zone", ""),
            given.get("type", "").upper(),
            max(1, number("page")),
            max(1, number("problems")),
        )

    def link(self, **other: int) -> str:
        """The query string of the same question with another page."""
        asked = {
            "q": self.text,
            "zone": self.zone,
            "type": self.type,
            "page": self.page,
            "problems": self.problems,
        }
        return "?" + urlencode(
            {key: value for key, value in {**asked, **other}.items() if value not in ("", 1)}
        )


def application(
    ask: Callable[[], View],
    status: HasSnapshot,
    explain: Explain,
    delays: Callable[[], Delays] = tuple,
    hosts: frozenset[str] = frozenset({"localhost"}),
) -> Callable[[dict[str, Any], Start], Iterable[bytes]]:
    """The WSGI application; ``hosts`` are the names, beside any address, by which it may be called."""
    latest = _Latest(ask)
    one_at_a_time = threading.Lock()

    def explained(query: str) -> tuple[int, str]:
        given = parse_qs(query)
        name, rtype = (given.get(key, [""])[-1][:LONGEST_QUERY] for key in ("name", "type"))
        try:
            with one_at_a_time:
                return 200, json.dumps(explain(name, rtype), ensure_ascii=False) + "\n"
        except ValueError as error:
            return 400, f"{error}\n"
        except TimeoutError:
            return 503, _BUSY

    def answer(environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        path, method = environ.get("PATH_INFO", "/"), environ["REQUEST_METHOD"]
        nonce, kind = secrets.token_urlsafe(16), "text/plain; charset=utf-8"
        code, text = 200, ""
        if not _may_be_called(environ.get("HTTP_HOST", ""), hosts):
            # A page of a stranger whose name was made to lead here (DNS rebinding) would read everything.
            code, text = 403, "call this page by its address or as localhost\n"
        elif method not in ("GET", "HEAD"):
            code, text = 405, "only GET and HEAD\n"
        elif path == "/api/explain":
            code, text = explained(environ.get("QUERY_STRING", ""))
            kind = "application/json" if code == 200 else kind
        elif path not in _PATHS:
            code, text = 404, f"nothing here; there are {' '.join(_PATHS)}\n"
        elif (view := latest.view()) is None:
            code, text = 503, _BUSY
        else:
            question = _Question.parse(environ.get("QUERY_STRING", ""))
            if path == "/":
                kind = "text/html; charset=utf-8"
                text = _template().render(_content(view, question, status, delays(), nonce))
            else:
                kind = "application/json"
                text = json.dumps(_json(path, view, question, status), ensure_ascii=False) + "\n"
        body = text.encode("utf-8", "backslashreplace")
        headers = [
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Content-Security-Policy", _POLICY.format(nonce=nonce)),
        ]
        if code == 405:
            headers.append(("Allow", "GET, HEAD"))
        start(f"{code} {HTTPStatus(code).phrase}", headers)
        return [] if method == "HEAD" else [body]

    return answer


def _may_be_called(host: str, hosts: frozenset[str]) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and ":" in host else host
    name = name.strip("[]").lower()
    if name in hosts:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


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


def _records(view: View, question: _Question) -> _Page:
    return _Page.of(view.found(question.text, question.zone, question.type), question.page)


def _content(
    view: View, question: _Question, status: HasSnapshot, delays: Delays, nonce: str
) -> dict[str, object]:
    return {
        "version": __version__,
        "nonce": nonce,
        "view": view,
        "age": max(0.0, time.time() - view.taken),
        "status": status.snapshot(),
        "question": question,
        "records": _records(view, question),
        "problems": _Page.of(view.problems, question.problems),
        "types": TYPES,
        "plot": plot(delays, time.time()),
    }


def _json(path: str, view: View, question: _Question, status: HasSnapshot) -> Mapping[str, object]:
    if path == "/api/status":
        now = status.snapshot()
        return {
            "version": __version__,
            "taken": view.taken,
            "ready": now.ready,
            "reasons": list(now.reasons),
            "heartbeat_age": now.heartbeat_age,
            "leader": view.leader,
            "trouble": view.trouble,
            "zones": list(view.zones),
            "sources": [asdict(one) for one in view.sources],
            "counts": view.counts,
        }
    if path == "/api/records":
        what, page = "records", _records(view, question)
        more: dict[str, object] = {"total": page.total}
    else:
        what, page = "problems", _Page.of(view.problems, question.problems)
        more = {"counts": view.counts}
    shown = [asdict(one) for one in page.shown]
    return {"taken": view.taken, **more, "page": page.number, "pages": page.pages, what: shown}


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


@cache
def _template() -> Template:
    # Not at the head of the module: who shows no page does not pay for the engine.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("kube2etcd.inspect", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("status.html")
