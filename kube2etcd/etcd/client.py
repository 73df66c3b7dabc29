"""gRPC client of etcd's v3 API; the only module that imports ``etcd3`` and ``grpc``.

``etcd3`` makes the channel.  This module adds channel options, token renewal, a timeout for each request, and
errors named for what the caller can do.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator
from typing import Any, TypeAlias

import grpc
import msgspec
from urllib3.util import Url

from kube2etcd.errors import EtcdError, EtcdUnauthenticated, EtcdUnavailable
from kube2etcd.etcd import wire
from kube2etcd.etcd.changes import ServerHealth
from kube2etcd.etcd.failures import meaning
from kube2etcd.etcd.servers import Failover, closed_error, password, tls_files, try_each
from kube2etcd.etcd.wire import Message, rpc
from kube2etcd.settings import Etcd

wire.install()  # before the first import of etcd3

import etcd3  # noqa: E402

log = logging.getLogger(__name__)

Token: TypeAlias = tuple[tuple[str, str], ...] | None

#: Accepted by `EtcdConnection.failed`, besides the ValueError of a channel that another thread has closed.
RPC_ERRORS = (grpc.RpcError, grpc.FutureCancelledError)

_OPTIONS = (
    # Reconnect within half a second of the server's return; gRPC's default pause grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    # Despite its name, the minimum timeout of one connection attempt.
    ("grpc.min_reconnect_backoff_ms", 2000),
    # The address of a Service or Pod may change with a restart.
    ("grpc.dns_min_time_between_resolutions_ms", 1000),
    # The default of 4 MB is less than a range of keys.
    ("grpc.max_receive_message_length", -1),
    # Ignore the environment's proxies.
    ("grpc.enable_http_proxy", 0),
    # A new channel opens a new connection instead of sharing another's.
    ("grpc.use_local_subchannel_pool", 1),
    # Detect dead peers while a request is pending; etcd tolerates a ping every 5 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
)

# Status codes of a failing server: another one may work.
_ILL = frozenset({"UNKNOWN", "INTERNAL", "ABORTED", "DATA_LOSS"})


class Channel:
    """A channel to one server, with our token for it."""

    def __init__(self, endpoint: Url, settings: Etcd, timeout: float) -> None:
        """Read the TLS files (OSError, ValueError); sends nothing yet."""
        self.endpoint = endpoint
        self.token: Token = None
        tls: dict[str, str] = {}
        if endpoint.scheme == "https":
            # gRPC treats an empty file as none, and then trusts its built-in authorities.
            tls["ca_cert"], pair = tls_files(settings)
            if pair is not None:
                tls["cert_cert"], tls["cert_key"] = pair
        # etcd3 is given no user and password: it would fetch a token only once, in its constructor, and pass
        # it as call credentials, which gRPC refuses without TLS.
        self._client = etcd3.client(
            host=endpoint.host, port=endpoint.port, timeout=timeout, grpc_options=_OPTIONS, **tls
        )
        stubs = (rpc.KVStub, rpc.WatchStub, rpc.LeaseStub, rpc.MaintenanceStub, rpc.AuthStub)
        self._methods = {
            name: call for stub in stubs for name, call in vars(stub(self._client.channel)).items()
        }

    def start(self, method: str, request: Message, timeout: float) -> Any:
        """Send a request; returns gRPC's future of the response."""
        return self._methods[method].future(request, timeout, self.token)

    def stream(self, requests: Iterator[Message]) -> Any:
        """Open a watch stream; returns gRPC's call."""
        return self._methods["Watch"](requests, metadata=self.token)

    def log_in(self, user: str, password: str, timeout: float) -> None:
        """Get a token for later requests."""
        request = rpc.AuthenticateRequest(name=user, password=password)
        self.token = (("token", self._methods["Authenticate"](request, timeout).token),)

    def close(self) -> None:
        """Cancel requests in flight; nothing more can be sent."""
        self._client.close()


class Pending(msgspec.Struct):
    """A request in flight."""

    connection: EtcdConnection
    method: str
    request: Message
    channel: Channel
    token: Token
    """The token it was sent with."""
    future: Any

    def result(self, resend: bool = True) -> Message:
        """The response, within the timeout; raises `EtcdError`.

        ``resend``: whether to send it once more if the token is stale.
        """
        try:
            return self.future.result()
        except RPC_ERRORS as error:
            failure = self.connection.failed(self.channel, self.method, error)
            # It was rejected before execution, so even a write may be resent.
            stale = resend and isinstance(failure, EtcdUnauthenticated)
            if not stale or not self.connection.renew(self.channel, self.token):
                raise failure from error
        log.debug("sending again with a new token: %s", failure)
        return self.connection.start(self.method, self.request).result(resend=False)


class EtcdConnection(Failover[Channel]):
    """The configured servers as one; connects on first use.  Thread-safe."""

    _warned = False
    _last: Channel | None = None
    """The newest channel, which may still be logging in."""

    def call(self, method: str, request: Message, until: float = math.inf) -> Message:
        """Send an idempotent request, once to each server at most, to none after ``until``; its response."""
        return try_each(len(self.endpoints), lambda: self.start(method, request).result(), until)

    def health(self) -> ServerHealth:
        """The status of the only server.

        :raises EtcdError: it cannot be reached, or does not accept us.
        """
        answer = self.call("Status", rpc.StatusRequest())
        # The status has the alarms too; requesting them would need a quorum and permissions.
        alarms = {alarm for error in answer.errors for alarm in re.findall(r"alarm:(\w+)", error)}
        return ServerHealth(
            answer.version, answer.dbSize, answer.dbSizeQuota, answer.leader != 0, tuple(sorted(alarms))
        )

    def start(self, method: str, request: Message) -> Pending:
        """Send a request without waiting for the response."""
        channel = self._current or self.current()
        token = channel.token
        try:
            future = channel.start(method, request, self.timeout)
        except ValueError as error:  # another thread has just closed this channel
            raise self.failed(channel, method, error) from error
        return Pending(self, method, request, channel, token, future)

    def close(self) -> None:
        """Close the channel; requests in flight fail as EtcdUnavailable."""
        # Without the lock: a thread logging in to a silent server may hold it for the whole timeout, and this
        # interrupts it.
        super().close()
        if self._last is not None:
            self._last.close()

    # -- for `Pending` and the watch

    def renew(self, channel: Channel, stale: Token) -> bool:
        """Re-read the password file and get a new token; False if that cannot help."""
        with self._lock:
            if self.settings.user is None or self._closed:
                return False
            if channel is not self._current or channel.token != stale:
                return True  # another thread was faster
            try:
                return self._log_in(channel)
            except EtcdError as error:
                self.leave(channel, turn=_turn(error))
                raise

    def failed(self, channel: Channel, what: str, error: BaseException) -> EtcdError:
        """The error for a failure; replaces a channel that does not work."""
        code = "CANCELLED"
        if isinstance(error, grpc.RpcError):
            status = error.code()
            code = status.name if status else "UNKNOWN"
        found = meaning(str(channel.endpoint), what, code, _details(error))
        if code in ("UNAVAILABLE", "DEADLINE_EXCEEDED") or (
            # For a watch these codes say nothing about other requests.
            type(found) is EtcdUnavailable and code in _ILL and what != "Watch"
        ):
            self.leave(channel)
        return found

    def _connect(self, endpoint: Url) -> Channel:
        channel = self._last = Channel(endpoint, self.settings, self.timeout)
        try:
            if self._closed:  # meanwhile, so `close` did not see this channel
                raise closed_error()
            if self.settings.user is not None:
                self._log_in(channel)
        except EtcdError as error:
            self._turn += _turn(error)
            channel.close()
            raise
        return channel

    def _log_in(self, channel: Channel) -> bool:
        """Log in; False when etcd wants no user."""
        settings = self.settings
        try:
            channel.log_in(settings.user or "", password(settings), self.timeout)
            return True
        except (grpc.RpcError, ValueError) as error:
            if "authentication is not enabled" not in _details(error):
                raise self.failed(channel, "Authenticate", error) from error
            if not self._warned:
                log.warning("etcd at %s: authentication is off, so the user is not used", channel.endpoint)
                self._warned = True
            return False


def _turn(error: EtcdError) -> int:
    """How many servers to move on after a failed login: none if another would not accept our user either."""
    return 0 if isinstance(error, EtcdUnauthenticated) else 1


def _details(error: BaseException) -> str:
    return error.details() or "" if isinstance(error, grpc.RpcError) else ""
