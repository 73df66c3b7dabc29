"""gRPC client of etcd's v3 API; the only module that imports ``etcd3`` and ``grpc``.

``etcd3`` provides the channel and stubs.  Added here: failover between servers, reloaded credentials, token
renewal, a timeout for each request, and errors by what the caller can do.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any, TypeAlias

import grpc

from kube2etcd.errors import EtcdError, EtcdUnauthenticated, EtcdUnavailable
from kube2etcd.etcd import failures, wire
from kube2etcd.etcd.settings import EtcdServer, EtcdSettings
from kube2etcd.etcd.wire import Message, rpc

wire.install()  # before etcd3 is imported for the first time

import etcd3  # noqa: E402

__all__ = ["EtcdConnection", "EtcdSettings", "Pending", "Stream"]

log = logging.getLogger(__name__)

_Token: TypeAlias = tuple[tuple[str, str], ...] | None

_OPTIONS = (
    # Back within half a second when the server is; gRPC's own pause grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    # Despite its name, the minimum timeout of one connection attempt.
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

# Codes of a server that is ill: the next one may be well.
_ILL = frozenset({"UNKNOWN", "INTERNAL", "ABORTED", "DATA_LOSS"})


class Channel:
    """One channel to one server, and the token that it gave us."""

    def __init__(self, endpoint: EtcdServer, settings: EtcdSettings) -> None:
        """Read the TLS files as they are now (OSError, ValueError); sends nothing yet."""
        self.endpoint = endpoint
        self.token: _Token = None
        tls: dict[str, str] = {}
        if endpoint.tls:
            # gRPC takes an empty file for none, and then trusts authorities of its own.
            settings.try_tls_files()
            tls["ca_cert"] = str(settings.authority_file())
            if settings.certfile is not None and settings.keyfile is not None:
                tls |= {"cert_cert": str(settings.certfile), "cert_key": str(settings.keyfile)}
        # etcd3 gets no user and password: it would get a token once, in the constructor, and pass it as call
        # credentials, which gRPC refuses without TLS.
        self._client = etcd3.client(
            host=endpoint.host, port=endpoint.port, timeout=settings.timeout, grpc_options=_OPTIONS, **tls
        )

    def start(self, method: str, request: Message, timeout: float) -> Any:
        """Send a request; gRPC's future of its answer, or its call where the answers are a stream."""
        stub = getattr(getattr(self._client, _STUBS[method]), method)
        if method == "LeaseKeepAlive":
            return stub(iter((request,)), timeout=timeout, metadata=self.token)
        return stub.future(request, timeout=timeout, metadata=self.token)

    def stream(self, requests: Iterator[Message]) -> Any:
        """Open a watch stream; gRPC's call."""
        return rpc.WatchStub(self._client.channel).Watch(requests, metadata=self.token)

    def log_in(self, user: str, password: str, timeout: float) -> None:
        """Get a token for later requests."""
        request = rpc.AuthenticateRequest(name=user, password=password)
        answer = rpc.AuthStub(self._client.channel).Authenticate(request, timeout=timeout)
        self.token = (("token", answer.token),)

    def close(self) -> None:
        """Cancel requests in flight; nothing more can be sent."""
        self._client.close()


class Pending:
    """A request under way."""

    def __init__(self, connection: EtcdConnection, method: str, request: Message) -> None:
        self._connection = connection
        self._method = method
        self._request = request
        self._send()

    def result(self) -> Message:
        """The answer, within the timeout; `EtcdError`."""
        try:
            return self._wait()
        except EtcdUnauthenticated as error:
            # Rejected before execution, so even a write may be sent again.
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
            if self._method != "LeaseKeepAlive":
                return self._future.result()
            try:
                return next(self._future)
            except StopIteration:
                raise EtcdUnavailable(f"etcd at {self._session.endpoint} ended the stream") from None
            finally:
                self._future.cancel()
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
        """Get a new token in place of the stale one that the stream was opened with."""
        return self._connection.renew(self._session, self._token)

    def give_up(self) -> None:
        """The server is silent: cancel, and leave its channel."""
        self.cancel()
        self._connection.leave(self._session)


class EtcdConnection:
    """The servers of the settings as one; connects when first used.  Thread-safe."""

    def __init__(self, settings: EtcdSettings) -> None:
        """Read the TLS files (`SettingsError`); connects to nothing yet."""
        self.settings = settings
        self.endpoints = settings.endpoints()
        self._lock = threading.RLock()
        self._current: Channel | None = None
        self._turn = 0
        self._closed = False
        self._warned = False

    def call(self, method: str, request: Message) -> Message:
        """Send an idempotent request, at most once to each server; the answer (LeaseKeepAlive: the first)."""
        return failures.try_each(len(self.endpoints), lambda: self.start(method, request).result())

    def start(self, method: str, request: Message) -> Pending:
        """Send a request without waiting for the answer."""
        return Pending(self, method, request)

    def stream(self, requests: Iterator[Message]) -> Stream:
        """Open a watch stream."""
        return Stream(self, requests)

    def close(self) -> None:
        """Close the channel; requests in flight fail as EtcdUnavailable."""
        # Without the lock: a thread logging in to a silent server may hold it for the whole timeout, which
        # this cuts short.
        self._closed = True
        if (session := self._current) is not None:
            session.close()

    def __enter__(self) -> EtcdConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- for Pending and Stream

    def session(self) -> Channel:
        """The current channel, created and logged in if necessary."""
        with self._lock:
            self._refuse_if_closed()
            if self._current is None:
                endpoint = self.endpoints[self._turn % len(self.endpoints)]
                try:
                    session = Channel(endpoint, self.settings)
                except (OSError, ValueError) as error:
                    # A half-done rotation: the next attempt reads the files again.
                    raise EtcdUnavailable(
                        f"the TLS files for etcd at {endpoint} cannot be read: {error}"
                    ) from error
                self._current = session
                self._refuse_if_closed()  # while it was made, when `close` did not see it yet
                if not self._log_in(session):
                    log.debug("etcd at %s is used without a user", endpoint)
            return self._current

    def renew(self, session: Channel, stale: _Token) -> bool:
        """Get a new token with the password file re-read; False if that cannot help."""
        with self._lock:
            if self.settings.user is None or self._closed:
                return False
            if session is not self._current or session.token != stale:
                return True  # another thread was faster
            return self._log_in(session)

    def failed(self, session: Channel, what: str, error: BaseException) -> EtcdError:
        """The error for a failure; a channel that does not work is replaced."""
        code = "CANCELLED"
        if isinstance(error, grpc.RpcError):
            status = error.code()
            code = status.name if status else "UNKNOWN"
        meaning = failures.meaning(str(session.endpoint), what, code, _details(error))
        if code in ("UNAVAILABLE", "DEADLINE_EXCEEDED") or (
            # For a watch these codes say nothing about other requests.
            type(meaning) is EtcdUnavailable and code in _ILL and what != "Watch"
        ):
            self.leave(session)
        return meaning

    def gone(self, session: Channel, what: str) -> EtcdError:
        """The error for a channel that another thread has closed."""
        return failures.meaning(str(session.endpoint), what, "CANCELLED", "")

    def leave(self, session: Channel) -> None:
        """Close this channel if it is still current; the next request goes to the next server.

        gRPC would reconnect to the same server, with the old certificates and after a pause; a new channel
        connects, or fails, at once.
        """
        with self._lock:
            if session is self._current:
                self._turn += 1
                self._drop()

    def _log_in(self, session: Channel) -> bool:
        """Log in; False when etcd wants no user.  A failure drops the session."""
        settings = self.settings
        if settings.user is None:
            return False
        try:
            session.log_in(settings.user, settings.password(), settings.timeout)
            return True
        except EtcdUnauthenticated:
            self._drop()
            raise
        except (grpc.RpcError, ValueError) as error:
            if "authentication is not enabled" in _details(error):
                if not self._warned:
                    log.warning(
                        "etcd at %s: authentication is off, so the user is not used", session.endpoint
                    )
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
