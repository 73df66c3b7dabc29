"""The connection to etcd: the only place of the project that imports ``grpc``.

Around the channel of etcd3 stands what etcd3 has not: several servers with failover, credentials read
anew, a token that is renewed, a timeout for each request, and errors that say what the caller can do.

Several threads may use one connection.  It must never let an error of gRPC or etcd3 out, never wait
for etcd without a limit, never log or show a password, token or key, and knows nothing of keys.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import grpc

from kube2etcd.errors import EtcdError, EtcdNoSpace, EtcdUnauthenticated, EtcdUnavailable
from kube2etcd.etcd import failures
from kube2etcd.etcd.channel import Session, Token
from kube2etcd.etcd.settings import EtcdSettings
from kube2etcd.etcd.wire import Message

__all__ = ["EtcdConnection", "EtcdSettings", "Pending", "Stream", "connect"]

log = logging.getLogger(__name__)

_ILL = frozenset({"UNKNOWN", "INTERNAL", "ABORTED", "DATA_LOSS"})


class Pending:
    """A request on its way."""

    def __init__(self, connection: EtcdConnection, method: str, request: Message) -> None:
        self._connection = connection
        self._method = method
        self._request = request
        self._send()

    def result(self) -> Message:
        """The answer, within the timeout; or an error of ours."""
        try:
            return self._wait()
        except EtcdUnauthenticated as error:
            # The request was turned away at the door, so it may be sent again, whatever it is.
            if not self._connection.renew(self._session, self._token):
                raise
            log.debug("sending again with a new token: %s", error)
        self._send()
        return self._wait()

    def _send(self) -> None:
        connection = self._connection
        self._session = connection.session()
        self._token = self._session.token
        try:
            self._future = self._session.start(self._method, self._request, connection.settings.timeout)
        except ValueError as error:  # another thread has just closed this channel
            raise connection.gone(self._session, self._method) from error

    def _wait(self) -> Message:
        try:
            return self._future.result()
        except (grpc.RpcError, grpc.FutureCancelledError) as error:
            raise self._connection.failed(self._session, self._method, error) from error


class Stream:
    """A stream of answers; ``cancel`` ends it from any thread."""

    def __init__(self, connection: EtcdConnection, requests: Iterator[Message]) -> None:
        self._connection = connection
        self._session = connection.session()
        self._token = self._session.token
        try:
            self._call = self._session.stream(requests)
        except ValueError as error:
            raise connection.gone(self._session, "Watch") from error

    @property
    def server(self) -> str:
        """The server at the other end, for messages."""
        return str(self._session.endpoint)

    def __iter__(self) -> Iterator[Message]:
        try:
            yield from self._call
        except (grpc.RpcError, grpc.FutureCancelledError) as error:
            raise self._connection.failed(self._session, "Watch", error) from error

    def cancel(self) -> None:
        """End it; harmless when it has ended."""
        self._call.cancel()

    def renew(self) -> bool:
        """Get a new token, for a stream that was opened with a stale one."""
        return self._connection.renew(self._session, self._token)

    def give_up(self) -> None:
        """The peer is silent: cancel, and let the next request try elsewhere or anew."""
        self.cancel()
        self._connection.leave(self._session)


class EtcdConnection:
    """The servers of the settings as if they were one that never moves; connects when first used."""

    def __init__(self, settings: EtcdSettings) -> None:
        self.settings = settings
        self.endpoints = settings.endpoints()
        self._lock = threading.RLock()
        self._current: Session | None = None
        self._turn = 0
        self._closed = False
        self._warned = False

    def call(self, method: str, request: Message) -> Message:
        """One request and its answer; every server is tried once.

        Only for what may be sent twice.
        """
        for _ in self.endpoints[1:]:
            try:
                return self.start(method, request).result()
            except (EtcdUnauthenticated, EtcdNoSpace):
                raise
            except EtcdUnavailable as error:
                log.info("%s", error)
        return self.start(method, request).result()

    def start(self, method: str, request: Message) -> Pending:
        """Send a request without waiting for the answer."""
        return Pending(self, method, request)

    def once(self, method: str, request: Message) -> Message:
        """One request of a streamed method, and its first answer; every server is tried once.

        Only for what may be sent twice.
        """
        for _ in self.endpoints[1:]:
            try:
                return self._once(method, request)
            except EtcdUnauthenticated:
                raise
            except EtcdUnavailable as error:
                log.info("%s", error)
        return self._once(method, request)

    def _once(self, method: str, request: Message) -> Message:
        renewed = False
        while True:
            session = self.session()
            stale = session.token
            try:
                return session.first(method, request, self.settings.timeout)
            except (grpc.RpcError, grpc.FutureCancelledError) as error:
                meaning = self.failed(session, method, error)
                if renewed or not isinstance(meaning, EtcdUnauthenticated) or not self.renew(session, stale):
                    raise meaning from error
                renewed = True
            except ValueError as error:  # another thread has just closed this channel
                raise self.gone(session, method) from error

    def stream(self, requests: Iterator[Message]) -> Stream:
        """Open a watch stream."""
        return Stream(self, requests)

    def close(self) -> None:
        """Close the channel; whatever is under way fails as EtcdUnavailable."""
        # Without the lock: a thread that logs in at a silent server may hold it for the whole timeout,
        # and it is this that ends its waiting.
        self._closed = True
        if (session := self._current) is not None:
            session.close()

    def __enter__(self) -> EtcdConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- for Pending and Stream ---------------------------------------------------------------

    def session(self) -> Session:
        """The present channel, made and logged in if there is none."""
        with self._lock:
            self._refuse_if_closed()
            if self._current is None:
                endpoint = self.endpoints[self._turn % len(self.endpoints)]
                try:
                    session = Session(endpoint, self.settings)
                except (OSError, ValueError) as error:
                    # A rotation that is half done: the next attempt reads the files again.
                    raise EtcdUnavailable(
                        f"the TLS files for etcd at {endpoint} cannot be read: {error}"
                    ) from error
                self._current = session
                self._refuse_if_closed()  # while it was made, when `close` did not see it yet
                if not self._authenticate(session):
                    log.debug("etcd at %s is used without a user", endpoint)
            return self._current

    def renew(self, session: Session, stale: Token) -> bool:
        """Ask for a new token; False when that cannot help. The password file is read anew."""
        with self._lock:
            if self.settings.user is None or self._closed:
                return False
            if session is not self._current or session.token != stale:
                return True  # another thread was faster
            return self._authenticate(session)

    def failed(self, session: Session, what: str, error: BaseException) -> EtcdError:
        """What this failure means; a channel that does not carry is left for a new one."""
        code = "CANCELLED"
        if isinstance(error, grpc.RpcError):
            status = error.code()
            code = status.name if status else "UNKNOWN"
        meaning = failures.meaning(str(session.endpoint), what, code, _details(error))
        if code in ("UNAVAILABLE", "DEADLINE_EXCEEDED") or (
            # A server that is ill: the next may be well.  A watch that fails so says nothing of the rest.
            type(meaning) is EtcdUnavailable and code in _ILL and what != "Watch"
        ):
            self.leave(session)
        return meaning

    def gone(self, session: Session, what: str) -> EtcdError:
        """The error for a channel that was closed under the caller's feet."""
        return failures.meaning(str(session.endpoint), what, "CANCELLED", "")

    def leave(self, session: Session) -> None:
        """Close this channel, if it is still the present one; the next server has its turn.

        gRPC would reconnect by itself, but to the same server, with the certificates of the day it was
        made, after a pause, and (before it had threads of its own) only while somebody asks.  With a new
        channel the next request connects at once, and says at once when it cannot.
        """
        with self._lock:
            if session is self._current:
                self._turn += 1
                self._drop()

    def _authenticate(self, session: Session) -> bool:
        """Log in; False when etcd wants no user. Whoever fails here leaves no session behind."""
        settings = self.settings
        if settings.user is None:
            return False
        try:
            session.authenticate(settings.user, settings.password(), settings.timeout)
            return True
        except EtcdUnauthenticated:
            self._drop()
            raise
        except (grpc.RpcError, ValueError) as error:
            if "authentication is not enabled" in _details(error):
                if not self._warned:
                    log.warning("etcd at %s wants no user: the one set is not used", session.endpoint)
                    self._warned = True
                return False
            meaning = self.failed(session, "Authenticate", error)
            if session is self._current:
                if not isinstance(meaning, EtcdUnauthenticated):
                    self._turn += 1
                self._drop()
            raise meaning from error

    def _refuse_if_closed(self) -> None:
        if self._closed:
            self._drop()
            raise EtcdUnavailable("the connection to etcd is closed")

    def _drop(self) -> None:
        if self._current is not None:
            self._current.close()
            self._current = None


def _details(error: BaseException) -> str:
    return error.details() or "" if isinstance(error, grpc.RpcError) else ""


def connect(settings: EtcdSettings) -> EtcdConnection:
    """Check the settings (SettingsError); etcd itself need not be there yet."""
    return EtcdConnection(settings)
