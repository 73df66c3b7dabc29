"""Requests to the API server, over an HTTP pool with explicit timeouts.

Only a 401 is retried here, once, with fresh credentials.  Proxy and CA variables of the environment
are ignored, and no secret gets into a message.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final
from urllib.parse import quote, urlencode

import msgspec
import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, ProtocolError

from kube2etcd.errors import ApiError, ApiTooLarge, ApiUnavailable, SettingsError
from kube2etcd.kube.credentials import ClusterSettings, fingerprint, read_access
from kube2etcd.kube.failures import ends_handshake, explain_failure, public_url, refusal
from kube2etcd.kube.transport import Abort, Session, arriving, lending, lines, running

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for TCP and TLS."""

_log = logging.getLogger(__name__)


class _Request(msgspec.Struct, frozen=True):
    """A request, to be sent once or again."""

    method: str
    path: str
    params: Mapping[str, str]
    limits: urllib3.Timeout
    connecting: float
    """Seconds for TCP and TLS, named in errors."""
    seconds: float
    """Seconds for the answer, named in errors."""
    headers: Mapping[str, str] = {}
    body: bytes | None = None


class ApiConnection:
    """Requests to one API server; may be used from several threads.

    Credentials are checked before every request: changed files are reloaded, an expired token is renewed,
    and a 401 reloads everything and retries the request once.
    """

    def __init__(self, settings: ClusterSettings) -> None:
        """Read the credentials; sends no request.

        :raises SettingsError: no cluster is named, or the credentials cannot be read.
        """
        self._settings = settings
        self._lock = threading.Lock()
        self._session = Session(read_access(settings), 0)
        self.reloads = 0
        """Number of credential reloads."""
        if not self._session.access.verify:
            _log.warning("%s: its certificate is not verified (insecure-skip-tls-verify)", self.server)

    @property
    def server(self) -> str:
        """The server's URL without secrets."""
        return public_url(self._session.access.host)

    def get(
        self,
        path: str,
        params: Mapping[str, str],
        *,
        timeout: float,
        abort: Abort | None = None,
        max_bytes: int | None = None,
    ) -> bytes:
        """The body of a GET, as for :meth:`request`."""
        return self.request("GET", path, params, timeout=timeout, abort=abort, max_bytes=max_bytes)

    def request(
        self,
        method: str,
        path: str,
        params: Mapping[str, str],
        *,
        timeout: float,
        body: bytes | None = None,
        accept: str = "application/json",
        abort: Abort | None = None,
        max_bytes: int | None = None,
    ) -> bytes:
        """The complete body of an answer within ``timeout`` seconds altogether; ``body`` is JSON.

        :raises ApiTooLarge: the answer has more than ``max_bytes`` bytes, uncompressed.
        :raises ApiError: anything but a complete 2xx answer, as the class that says what to do; a 409 is
            `kube2etcd.kube.failures.ApiRefused`.
        """
        deadline = time.monotonic() + timeout
        connecting = min(CONNECT_TIMEOUT, timeout)
        limits = urllib3.Timeout(total=timeout, connect=connecting)
        # API objects shrink to a tenth, which is cheaper than encrypting them uncompressed.
        headers = {"Accept": accept, "Accept-Encoding": "gzip"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        with lending(abort):
            session, response = self._send(
                _Request(method, path, params, limits, connecting, timeout, headers, body), abort
            )
            try:
                return _read_all(response, deadline, timeout, max_bytes)
            except (HTTPError, OSError, ValueError) as error:
                raise self._explain(session, timeout, abort, error, whole=True) from error
            finally:
                response.close()  # back in the pool if it was read to its end, gone otherwise

    @contextlib.contextmanager
    def stream(
        self,
        path: str,
        params: Mapping[str, str],
        *,
        connect_timeout: float,
        read_timeout: float,
        abort: Abort | None = None,
    ) -> Iterator[Iterator[bytes]]:
        """Open an answer that arrives line by line (`kube2etcd.kube.transport.lines`).

        ``connect_timeout`` holds for TCP, for TLS and for the answer's first byte; after that the
        stream may be silent for ``read_timeout`` seconds.

        :raises ApiError: as for :meth:`get`; later, while iterating, :class:`ApiUnavailable`.
        """
        limits = urllib3.Timeout(connect=connect_timeout, read=connect_timeout)
        with lending(abort):
            # Uncompressed: a proxy might buffer a line to compress it with the next.
            session, response = self._send(
                _Request("GET", path, params, limits, connect_timeout, connect_timeout), abort
            )
            try:
                # The first byte is here: from now on silence means something else.
                connection = response.connection
                if connection is not None and getattr(connection, "sock", None) is not None:
                    connection.sock.settimeout(read_timeout)  # type: ignore[attr-defined]
                yield lines(response, partial(self._explain, session, read_timeout, abort))
            finally:
                # Never back into the pool: the rest of the stream is unread.
                response.close()

    def close(self) -> None:
        """Close idle connections."""
        self._session.pool.clear()

    # -- inner

    def _send(self, request: _Request, abort: Abort | None) -> tuple[Session, urllib3.BaseHTTPResponse]:
        session = self._current_session()
        response = self._send_once(session, request, abort)
        # The token may have been replaced; without one a server may answer 403 instead.
        anonymous = response.status == 403 and session.access.files and not session.access.known
        if response.status == 401 or anonymous:
            response.close()
            session = self._reload(session.generation)
            response = self._send_once(session, request, abort)
        if 200 <= response.status < 300:
            return session, response
        try:
            raise refusal(
                public_url(session.access.host),
                response,
                request.path,
                request.params,
                known=session.access.known,
                secret=session.access.authorization.partition(" ")[2],
            )
        finally:
            response.close()

    def _send_once(
        self, session: Session, request: _Request, abort: Abort | None
    ) -> urllib3.BaseHTTPResponse:
        if abort is not None and abort.triggered:
            raise ApiUnavailable("the request was aborted")
        query = "?" + urlencode(request.params) if request.params else ""
        send = partial(
            session.pool.request,
            request.method,
            session.access.host + quote(request.path) + query,
            body=request.body,
            timeout=request.limits,
            retries=False,
            redirect=False,
            preload_content=False,
        )
        try:
            headers = {**session.headers(), **request.headers}
            try:
                return send(headers=headers)
            except ProtocolError:
                # The server closed an idle connection just as we reused it: retry once on a new one.
                if running.fresh or (abort is not None and abort.triggered):
                    raise
                session.pool.clear()
                return send(headers=headers)
        except (HTTPError, OSError, ValueError) as error:
            if session.access.cert_file and ends_handshake(error):
                session.doubtful = True
            # A ValueError may quote the offending header, so its text is dropped.
            cause = None if isinstance(error, ValueError) else error
            seconds = request.connecting if isinstance(error, ConnectTimeoutError) else request.seconds
            raise self._explain(session, seconds, abort, error) from cause

    def _current_session(self) -> Session:
        session = self._session
        return self._reload(session.generation) if session.stale else session

    def _reload(self, seen: int) -> Session:
        """Read the credentials again, unless another thread has done so since ``seen``."""
        with self._lock:
            old = self._session
            if old.generation != seen:
                return old
            files = old.access.files
            before = fingerprint(files)
            try:
                new = Session(read_access(self._settings), old.generation + 1)
                if new.access.files == files:
                    new.fingerprint = before  # what was written while we read is read the next time
                if old.access.known and not new.access.known and new.fingerprint == old.fingerprint:
                    # The files did not change, so what provides the credentials has failed.
                    raise SettingsError("an exec plugin has given none")
            except SettingsError as error:
                # Half-written or briefly missing: the old ones may still be good.
                _log.warning("keeping the old credentials for %s: %s", self.server, error)
                return old
            self._session = new
            self.reloads += 1
            old.pool.clear()
            return new

    @staticmethod
    def _explain(
        session: Session, seconds: float, abort: Abort | None, error: Exception, *, whole: bool = False
    ) -> ApiError:
        if abort is not None and abort.triggered:
            return ApiUnavailable("the request was aborted")
        return explain_failure(public_url(session.access.host), error, seconds, whole=whole)


def _read_all(
    response: urllib3.BaseHTTPResponse, deadline: float, timeout: float, max_bytes: int | None
) -> bytes:
    parts = []
    size = 0
    for chunk in arriving(response):
        parts.append(chunk)
        size += len(chunk)
        if max_bytes is not None and size > max_bytes:
            raise ApiTooLarge(f"the answer has more than {max_bytes} bytes")
        if time.monotonic() > deadline:
            raise ApiUnavailable(f"the answer was not complete after {timeout:g} s")
    return b"".join(parts)
