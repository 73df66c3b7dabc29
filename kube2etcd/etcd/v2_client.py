"""HTTP client of etcd's v2 keys API: several servers as one, credentials read anew, requests in parallel.

The only module that imports ``requests``.  It makes the pool of connections; single requests go to that
pool, since what ``requests`` does around each of them costs as much as all the rest (tests/bench/v2_keys.py).
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec
import requests
import urllib3
from requests.adapters import HTTPAdapter

from kube2etcd.errors import EtcdCompacted, EtcdError, EtcdRefused, EtcdUnauthenticated, EtcdUnavailable
from kube2etcd.etcd.changes import WatchEvent
from kube2etcd.etcd.failures import try_each
from kube2etcd.etcd.settings import EtcdServer, EtcdSettings

_T = TypeVar("_T")
_R = TypeVar("_R")

#: Requests under way at once; etcd commits them together.
IN_FLIGHT = 8
# Long polls beside them: the present one, and former ones that run into their timeout.
_POLLS = 4
# More than the thousand events that etcd remembers.
_OWN_WRITES = 4000

NOT_FOUND, COMPARE_FAILED, NOT_A_FILE, NOT_A_DIRECTORY, EXISTS, NOT_EMPTY = 100, 101, 102, 104, 105, 108
_DENIED, _WATCHER_CLEARED, _INDEX_CLEARED = 110, 400, 401
#: Codes that answer a conditional request; no error by themselves.
CONDITIONS = frozenset({NOT_FOUND, COMPARE_FAILED, NOT_A_FILE, NOT_A_DIRECTORY, EXISTS, NOT_EMPTY})


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


class Reply(msgspec.Struct, rename={"code": "errorCode", "before": "prevNode"}):
    """An answer or a watch event: what was done, or what was wrong."""

    action: str = ""
    node: Node | None = None
    before: Node | None = None
    code: int = 0
    """etcd's error code; 0 for none."""
    message: str = ""
    cause: str = ""
    index: int = 0
    """etcd's index when it answered, or when a poll began."""

    @property
    def made(self) -> int:
        """The index of what was done; 0 where nothing was."""
        return self.node.modified if self.node is not None and not self.code else 0

    def refusal(self) -> EtcdError:
        """The error for an unexpected answer to a write."""
        return meaning("its server", "PUT", 400, self.code, self.message, self.cause)

    def not_older_than(self, index: int) -> None:
        """EtcdUnavailable when etcd has gone back behind ``index``."""
        if self.index < index:
            raise EtcdUnavailable(
                f"etcd's index went back from {index} to {self.index}: it lost its data; reading it again"
            )


_decoder = msgspec.json.Decoder(Reply)


class OwnWrites:
    """Indices of our own latest writes, with the watch event of each; safe between threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._events: dict[int, WatchEvent | None] = {}
        self._tickets = itertools.count()
        self._open: set[int] = set()

    @contextlib.contextmanager
    def writing(self) -> Iterator[Callable[[int, WatchEvent | None], None]]:
        """Around a write; call what it yields with the write's index."""
        with self._changed:
            ticket = next(self._tickets)
            self._open.add(ticket)
        try:
            yield self._add
        finally:
            with self._changed:
                self._open.discard(ticket)
                self._changed.notify_all()

    def _add(self, index: int, event: WatchEvent | None) -> None:
        with self._changed:
            self._events[index] = event
            if len(self._events) > _OWN_WRITES:
                del self._events[next(iter(self._events))]

    def since(self, index: int) -> tuple[int, list[WatchEvent]]:
        """The first index from ``index`` on that is not ours, and the listed events up to it."""
        events: list[WatchEvent] = []
        with self._changed:
            while index in self._events:
                if (event := self._events[index]) is not None:
                    events.append(event)
                index += 1
        return index, events

    def made(self, index: int, timeout: float) -> bool:
        """Whether ``index`` is ours, once every write that is under way now has been answered."""
        with self._changed:
            under_way = set(self._open)
            self._changed.wait_for(lambda: index in self._events or not under_way & self._open, timeout)
            return index in self._events


class _Session:
    """Connections to one server, with the credentials as they were when it was made."""

    def __init__(self, endpoint: EtcdServer, settings: EtcdSettings) -> None:
        """Read the TLS files (OSError) and the password file (EtcdUnauthenticated); sends nothing yet."""
        self.endpoint = endpoint
        self._http = requests.Session()
        # Neither the environment's proxies, nor REQUESTS_CA_BUNDLE, nor a .netrc.
        self._http.trust_env = False
        adapter = HTTPAdapter(pool_maxsize=IN_FLIGHT + _POLLS, max_retries=0)
        for scheme in ("http://", "https://"):
            self._http.mount(scheme, adapter)
        if endpoint.tls:
            settings.try_tls_files()
            self._http.verify = str(settings.authority_file())
            if settings.certfile is not None and settings.keyfile is not None:
                self._http.cert = (str(settings.certfile), str(settings.keyfile))
        if settings.user is not None:
            # As bytes: requests would write text in Latin-1.
            self._http.auth = (settings.user.encode(), settings.password().encode())  # type: ignore[assignment]
        template = self._http.prepare_request(requests.Request("GET", str(endpoint)))
        self.headers = dict(template.headers)
        pool = adapter.get_connection_with_tls_context(
            template, verify=self._http.verify or True, cert=self._http.cert
        )
        assert isinstance(pool, urllib3.HTTPConnectionPool)
        self.pool = pool

    def close(self) -> None:
        """Close idle connections; nothing more can be sent."""
        self._http.close()


class V2Connection:
    """The servers of the settings as one; connects when first used.  Safe between threads."""

    def __init__(self, settings: EtcdSettings) -> None:
        self.settings = settings
        self.endpoints = settings.endpoints()
        self.own = OwnWrites()
        self._timeout = urllib3.Timeout(settings.timeout, settings.timeout)
        self._lock = threading.Lock()
        self._current: _Session | None = None
        self._turn = 0
        self._closed: Future[None] = Future()
        self._threads = ThreadPoolExecutor(IN_FLIGHT + _POLLS, "etcd-v2")

    # -- requests

    def get(self, path: str, **params: str) -> Reply:
        """Read; each server is tried once."""
        return try_each(len(self.endpoints), lambda: self._ask("GET", path, params))

    def get_since(self, index: int, path: str) -> Reply:
        """Everything listed below ``path``, at ``index`` or later; EtcdUnavailable where etcd is not there
        yet.

        A quorum read costs an entry in etcd's log, so only a member that lags is asked for one.
        """
        reply = self.get(path, recursive="true")
        if reply.index < index:
            reply = self.get(path, recursive="true", quorum="true")
            reply.not_older_than(index)
        return reply

    def put(self, path: str, value: bytes, event: WatchEvent | None = None, **params: str) -> Reply:
        """Write one key; ``event`` is completed with the index and kept as our own."""
        return self._write("PUT", path, params, value, event)

    def delete(self, path: str, event: WatchEvent | None = None, **params: str) -> Reply:
        """Delete one key or directory."""
        return self._write("DELETE", path, params, None, event)

    def poll(self, path: str, start: int) -> Reply:
        """One long poll: the first event at or below ``path`` from ``start`` on.

        No node: no event came within the timeout.
        """
        params = {"wait": "true", "recursive": "true", "waitIndex": str(start)}
        session, response = self._sent("GET", _url(path), params, whole=False)
        try:
            try:
                body = response.read()
            except urllib3.exceptions.ReadTimeoutError:
                return Reply(index=_index(response) or 0)
            except urllib3.exceptions.HTTPError as error:
                raise _failure(session.endpoint, "Watch", error) from error
            if response.status == 200 and not body.strip():
                raise EtcdUnavailable(f"etcd at {session.endpoint} ended the watch: watch again")
            reply = self._reply(session, "Watch", response, body)
            if reply.code or reply.node is None:
                raise meaning(str(session.endpoint), "Watch", 200, reply.code, reply.message, reply.cause)
            return reply
        finally:
            response.close()

    def version(self) -> str:
        """The server's version."""
        _, response = self._sent("GET", "/version", {})
        version = response.data.decode(errors="replace").partition('etcdserver":"')[2].partition('"')[0]
        return version or "unknown"

    # -- threads

    def submit(self, work: Callable[[], _R]) -> Future[_R]:
        """Run ``work`` in one of a few threads."""
        try:
            return self._threads.submit(work)
        except RuntimeError:  # the pool is shut down
            raise _closed_error() from None

    def done(self, future: Future[_R], timeout: float | None = None) -> bool:
        """Wait for ``future``; False after ``timeout`` seconds.  EtcdUnavailable when closed meanwhile."""
        both: list[Future[Any]] = [future, self._closed]
        wait(both, timeout, FIRST_COMPLETED)
        if future.cancelled() or (self._closed.done() and not future.done()):
            raise _closed_error()
        return future.done()

    def together(self, work: Iterable[tuple[_T, Callable[[], _R]]]) -> Iterator[tuple[_T, _R | EtcdRefused]]:
        """Do all of it, `IN_FLIGHT` at once; the results in order.

        The first error that is no refusal is raised, when nothing is under way any more.
        """
        window: deque[tuple[_T, Future[_R]]] = deque()
        rest = iter(work)
        try:
            while True:
                for thing, one in itertools.islice(rest, IN_FLIGHT - len(window)):
                    window.append((thing, self.submit(one)))
                if not window:
                    return
                first, future = window[0]
                self.done(future)
                window.popleft()
                refused = future.exception()
                yield first, refused if isinstance(refused, EtcdRefused) else future.result()
        finally:
            with contextlib.suppress(EtcdUnavailable):
                for _, future in window:
                    self.done(future)

    def close(self) -> None:
        """Whatever is under way fails as EtcdUnavailable for its caller, at once."""
        with self._lock:
            if not self._closed.done():
                self._closed.set_result(None)
        self._threads.shutdown(wait=False, cancel_futures=True)
        if (session := self._current) is not None:
            session.close()

    def __enter__(self) -> V2Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- one request

    def _write(
        self, method: str, path: str, params: Mapping[str, str], value: bytes | None, event: WatchEvent | None
    ) -> Reply:
        with self.own.writing() as made:
            reply = self._ask(method, path, params, value)
            if index := reply.made:
                made(index, None if event is None else WatchEvent(event.key, event.value, index))
        return reply

    def _ask(
        self,
        method: str,
        path: str,
        params: Mapping[str, str],
        value: bytes | None = None,
        renewed: bool = False,
    ) -> Reply:
        session, response = self._sent(method, _url(path), params, value)
        try:
            return self._reply(session, method, response, response.data)
        except EtcdUnauthenticated:
            if renewed or self.settings.user is None:
                raise
        # Turned away before it was carried out, so it may be sent again, with the password read anew.
        self._leave(session, turn=False)
        return self._ask(method, path, params, value, renewed=True)

    def _sent(
        self,
        method: str,
        url: str,
        params: Mapping[str, str],
        value: bytes | None = None,
        whole: bool = True,
    ) -> tuple[_Session, urllib3.BaseHTTPResponse]:
        """Send one request; without ``whole`` the body is still to be read.

        :raises EtcdUnavailable: no answer within the timeout; the next request goes to the next server.
        """
        what, body, headers = method if whole else "Watch", None, {}
        if value is not None:
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            body = urlencode({"value": value})
        while True:
            session = self._session()
            try:
                return session, session.pool.urlopen(
                    method,
                    f"{url}?{urlencode(params)}" if params else url,
                    body=body,
                    headers=session.headers | headers,
                    retries=False,
                    redirect=False,
                    timeout=self._timeout,
                    preload_content=whole,
                )
            except urllib3.exceptions.ClosedPoolError:
                continue  # another thread has just left it
            except (urllib3.exceptions.HTTPError, OSError) as error:
                self._leave(session)
                raise _failure(session.endpoint, what, error) from error

    def _reply(self, session: _Session, what: str, response: urllib3.BaseHTTPResponse, body: bytes) -> Reply:
        """etcd's reply; an error of ours for anything else."""
        status = response.status
        try:
            reply = _decoder.decode(body)
        except ValueError:
            reply = Reply(message=response.reason or "")
            if status < 300:
                self._leave(session)
                raise unreachable(session.endpoint, what, "the answer is not etcd's") from None
        if status >= 300 and reply.code not in CONDITIONS:
            error = meaning(str(session.endpoint), what, status, reply.code, reply.message, reply.cause)
            if isinstance(error, EtcdUnavailable) and not isinstance(error, EtcdUnauthenticated):
                self._leave(session)
            raise error
        if (index := _index(response)) is not None:
            reply.index = index
        return reply

    def _session(self) -> _Session:
        with self._lock:
            if self._closed.done():
                raise _closed_error()
            if self._current is None:
                endpoint = self.endpoints[self._turn % len(self.endpoints)]
                try:
                    self._current = _Session(endpoint, self.settings)
                except OSError as error:
                    raise _failure(endpoint, "", error) from error
            return self._current

    def _leave(self, session: _Session, turn: bool = True) -> None:
        """Drop ``session`` if it is the current one; the next request goes to the next server."""
        with self._lock:
            if session is self._current:
                self._turn += turn
                self._current = None
                session.close()


def meaning(server: str, what: str, status: int, code: int, message: str, cause: str = "") -> EtcdError:
    """The error for an HTTP status and etcd's own ``code`` (0: the body has none)."""
    where = f"etcd at {server}"
    words = " ".join(filter(None, [f"{status}", message, f"({cause})" if cause else ""]))
    if code == _INDEX_CLEARED:
        return EtcdCompacted(f"{where} no longer has that index ({what}: {words}): read a new snapshot")
    if code == _WATCHER_CLEARED:
        return EtcdUnavailable(f"{where} ended the watch ({words}): watch again")
    if code == _DENIED or (status in (401, 403) and not code):
        return EtcdUnauthenticated(
            f"{where} does not accept our user or its rights ({what}: {words}): check the etcd user,"
            " its password file and its role"
        )
    if status == 404 and not code:
        return EtcdRefused(
            f"{where} has no v2 API: start etcd 3.2 to 3.5 with --enable-v2 (3.6 and later have none),"
            " or use --etcd-api v3"
        )
    if code == NOT_A_DIRECTORY:
        return EtcdRefused(f"{cause or 'a key above it'} holds a value, and a value has no keys below it")
    if code == NOT_A_FILE:
        return EtcdRefused(f"{cause or 'it'} is a directory, which cannot hold a value")
    if 300 <= status < 400 or status >= 500 or 300 <= code < 400:
        return EtcdUnavailable(f"{where} failed ({what}: {words}): see its log, and whether it has a leader")
    return EtcdRefused(f"{where} refuses the request ({what}: {words})")


def unreachable(endpoint: EtcdServer, what: str, reason: str) -> EtcdUnavailable:
    """The error where no answer came."""
    return EtcdUnavailable(
        f"etcd at {endpoint} cannot be reached ({what}: {reason}): check that it runs and the URL is right"
    )


def _failure(endpoint: EtcdServer, what: str, error: BaseException) -> EtcdUnavailable:
    """The error where a request failed on its way."""
    if isinstance(error, urllib3.exceptions.ReadTimeoutError):
        return EtcdUnavailable(
            f"etcd at {endpoint} did not answer in time ({what}): check its load and its disk"
        )
    if not isinstance(error, urllib3.exceptions.HTTPError):
        # A rotation that is half done: the next attempt reads the files again.
        return EtcdUnavailable(f"the TLS files for etcd at {endpoint} cannot be read: {error}")
    return unreachable(endpoint, what, _reason(error))


def _closed_error() -> EtcdUnavailable:
    return EtcdUnavailable("the connection to etcd is closed")


def _url(path: str) -> str:
    return "/v2/keys" + quote(path, safe="/")


def _index(response: urllib3.BaseHTTPResponse) -> int | None:
    index = response.headers.get("X-Etcd-Index", "")
    return int(index) if index.isdigit() else None


def _reason(error: BaseException) -> str:
    """The innermost reason, without object addresses."""
    for _ in range(8):
        inner = error.__cause__ or error.__context__
        if inner is None:
            break
        error = inner
    words = str(error) or type(error).__name__
    return words if len(words) <= 200 else f"{words[:199]}…"
