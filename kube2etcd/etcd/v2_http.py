"""The connection to etcd's v2 API: the only place of the project that imports ``requests``.

Several servers as if they were one, credentials read anew, TLS files of the settings alone: the
environment's proxies and CA bundles have no say.  Errors say what the caller can do.

Requests run in a few threads, so that several are on their way at once and a caller who is told to
stop need not wait for a server that hangs.  It must never let an error of ``requests`` out, never
wait without a limit, never log or show a password, and knows nothing of what keys mean.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from dataclasses import dataclass

import requests
from requests.adapters import HTTPAdapter

from kube2etcd.errors import EtcdError, EtcdUnauthenticated, EtcdUnavailable
from kube2etcd.etcd import v2_failures
from kube2etcd.etcd.settings import Endpoint, EtcdSettings
from kube2etcd.etcd.v2_nodes import Reply, decode, url_path

log = logging.getLogger(__name__)

#: Requests on their way at once.
IN_FLIGHT = 8
# Watches that may stand beside them, one of them about to end.
_WATCHES = 4
# How often a waiting caller looks whether the connection was closed.
_TICK = 0.1


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: etcd's reply, and how far etcd was."""

    reply: Reply
    index: int

    @property
    def code(self) -> int:
        """etcd's code for what was wrong; 0 for nothing."""
        return self.reply.code


class _Session:
    """Connections to one server, with the credentials as they were when it was made."""

    def __init__(self, endpoint: Endpoint, settings: EtcdSettings) -> None:
        self.endpoint = endpoint
        self.http = requests.Session()
        # Neither proxies, nor REQUESTS_CA_BUNDLE, nor a .netrc.
        self.http.trust_env = False
        self.http.mount("http://", HTTPAdapter(pool_maxsize=IN_FLIGHT + _WATCHES, max_retries=0))
        self.http.mount("https://", HTTPAdapter(pool_maxsize=IN_FLIGHT + _WATCHES, max_retries=0))
        if endpoint.tls:
            self.http.verify = str(settings.authority_file())
            if settings.certfile is not None and settings.keyfile is not None:
                self.http.cert = (str(settings.certfile), str(settings.keyfile))
        if settings.user is not None:
            # As bytes: requests would write text in Latin-1.
            self.http.auth = (settings.user.encode(), settings.password().encode())  # type: ignore[assignment]

    def url(self, path: str) -> str:
        return f"{self.endpoint}{path}"


class V2Connection:
    """The servers of the settings as if they were one that never moves; connects when first used."""

    def __init__(self, settings: EtcdSettings) -> None:
        self.settings = settings
        self.endpoints = settings.endpoints()
        self._lock = threading.Lock()
        self._current: _Session | None = None
        self._turn = 0
        self._closed = False
        self._pool = ThreadPoolExecutor(IN_FLIGHT, "etcd-v2")

    def get(self, path: str, **params: str) -> Answer:
        """Read; every server is tried once."""
        for _ in self.endpoints[1:]:
            try:
                return self._ask("GET", path, params)
            except EtcdUnauthenticated:
                raise
            except EtcdUnavailable as error:
                log.info("%s", error)
        return self._ask("GET", path, params)

    def put(self, path: str, value: bytes, **params: str) -> Answer:
        """Write one key."""
        return self._ask("PUT", path, params, {"value": value})

    def delete(self, path: str, **params: str) -> Answer:
        """Take one key or one directory out."""
        return self._ask("DELETE", path, params)

    def version(self) -> str:
        """The server's version."""
        _, response = self._sent("GET", "/version", {}, None)
        version = response.text.partition('etcdserver":"')[2].partition('"')[0]
        return version or "unknown"

    def start(self, work: Callable[[], Answer | int]) -> Pending:
        """Begin ``work``, which may be several requests, without waiting for it."""
        try:
            return Pending(self, self._pool.submit(work))
        except RuntimeError:  # the pool is shut down
            raise _closed() from None

    @property
    def closed(self) -> bool:
        """Whether nothing is to be waited for any more."""
        return self._closed

    def close(self) -> None:
        """Let nobody wait any longer: whatever is under way fails as EtcdUnavailable for its caller."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        if (session := self._current) is not None:
            session.http.close()

    def __enter__(self) -> V2Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def stream(self, path: str, params: Mapping[str, str]) -> Iterator[Stream]:
        """The events of a watch, as they come, over a connection of its own."""
        session = self._session()
        what = "Watch"
        try:
            with session.http.get(
                session.url(url_path(path)),
                params=params,
                stream=True,
                timeout=self.settings.timeout,
                allow_redirects=False,
            ) as response:
                if response.status_code != 200:
                    answer = self._answer(session, what, response)
                    reply = answer.reply
                    raise v2_failures.meaning(
                        str(session.endpoint), what, response.status_code, reply.code, reply.message
                    )
                yield Stream(str(session.endpoint), response)
        except (requests.RequestException, OSError) as error:
            raise self._failed(session, what, error) from error

    # -- one request ----------------------------------------------------------------------------

    def _ask(
        self,
        method: str,
        path: str,
        params: Mapping[str, str],
        data: Mapping[str, bytes] | None = None,
        renewed: bool = False,
    ) -> Answer:
        """One request to the present server; the password is read anew where it is not accepted."""
        session, response = self._sent(method, url_path(path), params, data)
        try:
            return self._answer(session, method, response)
        except EtcdUnauthenticated:
            if renewed or self.settings.user is None:
                raise
        # The request was turned away at the door, so it may be sent again, whatever it is.
        self.leave(session, turn=False)
        return self._ask(method, path, params, data, renewed=True)

    def _sent(
        self, method: str, url: str, params: Mapping[str, str], data: Mapping[str, bytes] | None
    ) -> tuple[_Session, requests.Response]:
        session = self._session()
        try:
            return session, session.http.request(
                method,
                session.url(url),
                params=params,
                data=data,
                timeout=self.settings.timeout,
                allow_redirects=False,
            )
        except (requests.RequestException, OSError) as error:
            raise self._failed(session, method, error) from error

    def _answer(self, session: _Session, what: str, response: requests.Response) -> Answer:
        """etcd's reply; an error of ours for what is none."""
        status = response.status_code
        try:
            reply = decode(response.content)
        except ValueError:
            reply = Reply(message=response.reason or "")
            if status < 300:
                raise v2_failures.unreachable(
                    str(session.endpoint), what, "the answer is not etcd's"
                ) from None
        if status >= 300 and reply.code not in v2_failures.ANSWERS:
            error = v2_failures.meaning(
                str(session.endpoint), what, status, reply.code, reply.message, reply.cause
            )
            if isinstance(error, EtcdUnavailable) and not isinstance(error, EtcdUnauthenticated):
                self.leave(session)
            raise error
        index = response.headers.get("X-Etcd-Index", "")
        return Answer(reply, int(index) if index.isdigit() else reply.index)

    def _session(self) -> _Session:
        with self._lock:
            if self._closed:
                raise _closed()
            if self._current is None:
                endpoint = self.endpoints[self._turn % len(self.endpoints)]
                try:
                    self._current = _Session(endpoint, self.settings)
                except (OSError, UnicodeDecodeError) as error:
                    raise EtcdUnauthenticated(
                        f"the etcd password file {self.settings.password_file} cannot be read"
                    ) from error
            return self._current

    def _failed(self, session: _Session, what: str, error: Exception) -> EtcdError:
        """What a request without an answer means; the next one goes to the next server."""
        self.leave(session)
        server = str(session.endpoint)
        if isinstance(error, requests.Timeout) and not isinstance(error, requests.ConnectTimeout):
            return v2_failures.silent(server, what)
        if isinstance(error, requests.RequestException):
            return v2_failures.unreachable(server, what, _reason(error))
        # A rotation that is half done: the next attempt reads the files again.
        return EtcdUnavailable(f"the TLS files for etcd at {server} cannot be read: {error}")

    def leave(self, session: _Session, turn: bool = True) -> None:
        """Drop these connections, if they are still the present ones; the next server has its turn."""
        with self._lock:
            if session is self._current:
                self._turn += turn
                self._current = None
                session.http.close()


class Pending:
    """Work on its way."""

    def __init__(self, connection: V2Connection, future: Future[Answer | int]) -> None:
        self._connection = connection
        self._future = future

    def result(self) -> Answer | int:
        """What came of it; or an error of ours."""
        while True:
            if self._connection.closed and not self._future.done():
                raise _closed()
            try:
                return self._future.result(_TICK)
            except NotYetError:
                continue
            except CancelledError:  # it was still waiting for a thread when the connection was closed
                raise _closed() from None


class Stream:
    """An open watch."""

    def __init__(self, server: str, response: requests.Response) -> None:
        self.server = server
        self._response = response
        index = response.headers.get("X-Etcd-Index", "")
        self.index = int(index) if index.isdigit() else 0
        """How far etcd was when it began to watch: what it tells first is all up to here."""

    def replies(self) -> Iterator[Reply]:
        """The events, one a line, until the server is quiet for the timeout or ends it."""
        rest = b""
        try:
            for piece in self._response.iter_content(None):
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    if line.strip():
                        yield decode(line)
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
            # Quiet and gone look the same from here; the next request tells them apart.
            log.debug("the watch on etcd at %s paused: %s", self.server, _reason(error))
        except ValueError:
            raise v2_failures.unreachable(self.server, "Watch", "the answer is not etcd's") from None


def _closed() -> EtcdUnavailable:
    return EtcdUnavailable("the connection to etcd is closed")


def _reason(error: Exception) -> str:
    """The last words of a chain of reasons, without object addresses."""
    deepest: BaseException = error
    for _ in range(8):
        following = deepest.__cause__ or deepest.__context__
        if following is None:
            break
        deepest = following
    words = str(deepest) or type(deepest).__name__
    return words if len(words) <= 200 else f"{words[:199]}…"
