"""The connection to etcd: the only place of the project that imports ``etcd3`` and ``grpc``.

``etcd3.client()`` makes the channel, with TLS or without; its stubs carry the requests, each with a
timeout.  Around it stands what etcd3 has not: several servers with failover, credentials read anew,
a token that is renewed, and errors that say what the caller can do.

Several threads may use one connection.  It must never let an error of gRPC or etcd3 out, never wait
for etcd without a limit, never log or show a password, token or key, and knows nothing of keys.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

from kube2etcd.errors import EtcdError, EtcdNoSpace, EtcdUnauthenticated, EtcdUnavailable
from kube2etcd.etcd import failures, wire
from kube2etcd.etcd.settings import Endpoint, EtcdSettings
from kube2etcd.etcd.wire import Message, rpc

wire.install()  # before etcd3 is imported for the first time

import etcd3  # noqa: E402
import grpc  # noqa: E402

__all__ = ["EtcdConnection", "EtcdSettings", "Pending", "Stream", "connect"]

log = logging.getLogger(__name__)

_OPTIONS = (
    # Back within half a second when the server is; gRPC's own pause grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    # Not a pause, whatever its name says: the least time that one attempt to connect is given.
    ("grpc.min_reconnect_backoff_ms", 2000),
    # Where etcd is named by a Service or Pod, its address moves with a restart.
    ("grpc.dns_min_time_between_resolutions_ms", 1000),
    # 4 MB by default, which a range of keys exceeds.
    ("grpc.max_receive_message_length", -1),
    # The environment's proxies have no say in how etcd is reached.
    ("grpc.enable_http_proxy", 0),
    # A new channel is a new connection, not another's in disguise.
    ("grpc.use_local_subchannel_pool", 1),
    # Dead peers are noticed while something waits for them; etcd tolerates a ping each 5 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
)

# Method -> the attribute of etcd3's client that has its stub.
_STUBS = {
    "Range": "kvstub",
    "Txn": "kvstub",
    "Compact": "kvstub",
    "Status": "maintenancestub",
    "Hash": "maintenancestub",
    "Defragment": "maintenancestub",
    "LeaseGrant": "leasestub",
    "LeaseRevoke": "leasestub",
    "LeaseKeepAlive": "leasestub",
}


class _Session:
    """One channel to one server, and the token that it gave us."""

    def __init__(self, endpoint: Endpoint, settings: EtcdSettings) -> None:
        self.endpoint = endpoint
        tls: dict[str, str] = {}
        if endpoint.tls:
            tls["ca_cert"] = str(settings.authority_file())
            if settings.certfile is not None and settings.keyfile is not None:
                tls |= {"cert_cert": str(settings.certfile), "cert_key": str(settings.keyfile)}
        # User and password are not given to etcd3: it asks for a token in the constructor, once and
        # for ever, and hands it on as call credentials, which gRPC refuses without TLS.
        self.client = etcd3.client(
            host=endpoint.host, port=endpoint.port, timeout=settings.timeout, grpc_options=_OPTIONS, **tls
        )

    @property
    def token(self) -> tuple[tuple[str, str], ...] | None:
        token: tuple[tuple[str, str], ...] | None = self.client.metadata
        return token

    def start(self, method: str, request: Message, timeout: float) -> Any:
        stub = getattr(getattr(self.client, _STUBS[method]), method)
        return stub.future(request, timeout=timeout, metadata=self.token)

    def first(self, method: str, request: Message, timeout: float) -> Message:
        """The first answer of a stream, which is then ended."""
        stub = getattr(getattr(self.client, _STUBS[method]), method)
        call = stub(iter((request,)), timeout=timeout, metadata=self.token)
        try:
            for answer in call:
                return answer
        finally:
            call.cancel()
        raise ValueError("the stream ended without an answer")

    def authenticate(self, user: str, password: str, timeout: float) -> None:
        request = rpc.AuthenticateRequest(name=user, password=password)
        answer = rpc.AuthStub(self.client.channel).Authenticate(request, timeout=timeout)
        self.client.metadata = (("token", answer.token),)


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
            watch = rpc.WatchStub(self._session.client.channel).Watch
            self._call = watch(requests, metadata=self._token)
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
        self._current: _Session | None = None
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
            session.client.close()

    def __enter__(self) -> EtcdConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- for Pending and Stream ---------------------------------------------------------------

    def session(self) -> _Session:
        """The present channel, made and logged in if there is none."""
        with self._lock:
            self._refuse_if_closed()
            if self._current is None:
                endpoint = self.endpoints[self._turn % len(self.endpoints)]
                try:
                    session = _Session(endpoint, self.settings)
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

    def renew(self, session: _Session, stale: tuple[tuple[str, str], ...] | None) -> bool:
        """Ask for a new token; False when that cannot help. The password file is read anew."""
        with self._lock:
            if self.settings.user is None or self._closed:
                return False
            if session is not self._current or session.token != stale:
                return True  # another thread was faster
            return self._authenticate(session)

    def failed(self, session: _Session, what: str, error: BaseException) -> EtcdError:
        """What this failure means; a channel that does not carry is left for a new one."""
        code = "CANCELLED"
        if isinstance(error, grpc.RpcError):
            status = error.code()
            code = status.name if status else "UNKNOWN"
        meaning = failures.meaning(str(session.endpoint), what, code, _details(error))
        if code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
            self.leave(session)
        return meaning

    def gone(self, session: _Session, what: str) -> EtcdError:
        """The error for a channel that was closed under the caller's feet."""
        return failures.meaning(str(session.endpoint), what, "CANCELLED", "")

    def leave(self, session: _Session) -> None:
        """Close this channel, if it is still the present one; the next server has its turn.

        gRPC would reconnect by itself, but to the same server, with the certificates of the day it was
        made, after a pause, and (before it had threads of its own) only while somebody asks.  With a new
        channel the next request connects at once, and says at once when it cannot.
        """
        with self._lock:
            if session is self._current:
                self._turn += 1
                self._drop()

    def _authenticate(self, session: _Session) -> bool:
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
            self._current.client.close()
            self._current = None


def _details(error: BaseException) -> str:
    return error.details() or "" if isinstance(error, grpc.RpcError) else ""


def connect(settings: EtcdSettings) -> EtcdConnection:
    """Check the settings (SettingsError); etcd itself need not be there yet."""
    return EtcdConnection(settings)
