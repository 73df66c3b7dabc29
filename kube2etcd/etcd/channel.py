"""One channel to one server of etcd: the only place of the project that imports ``etcd3``.

``etcd3.client()`` makes the channel, with TLS or without, and its stubs carry the requests.  What gRPC
and etcd3 raise goes through: `kube2etcd.etcd.connection` says what it means.

It must never send anything without being told, never wait without a limit, and never log or show a
password, token or key.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from kube2etcd.etcd import wire
from kube2etcd.etcd.settings import Endpoint, EtcdSettings
from kube2etcd.etcd.wire import Message, rpc

wire.install()  # before etcd3 is imported for the first time

import etcd3  # noqa: E402

#: What proves who we are, as gRPC takes it.
Token: TypeAlias = tuple[tuple[str, str], ...] | None

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


class Session:
    """One channel to one server, and the token that it gave us."""

    def __init__(self, endpoint: Endpoint, settings: EtcdSettings) -> None:
        """Read the TLS files as they are now; nothing is sent yet.

        :raises OSError, ValueError: one of them cannot be used.
        """
        self.endpoint = endpoint
        tls: dict[str, str] = {}
        if endpoint.tls:
            # gRPC takes an empty file for none, and then trusts authorities of its own.
            settings.try_tls_files()
            tls["ca_cert"] = str(settings.authority_file())
            if settings.certfile is not None and settings.keyfile is not None:
                tls |= {"cert_cert": str(settings.certfile), "cert_key": str(settings.keyfile)}
        # User and password are not given to etcd3: it asks for a token in the constructor, once and
        # for ever, and hands it on as call credentials, which gRPC refuses without TLS.
        self.client = etcd3.client(
            host=endpoint.host, port=endpoint.port, timeout=settings.timeout, grpc_options=_OPTIONS, **tls
        )

    @property
    def token(self) -> Token:
        """What goes with each request; None before a log-in."""
        token: Token = self.client.metadata
        return token

    def start(self, method: str, request: Message, timeout: float) -> Any:
        """Send a request; the future of gRPC for its answer."""
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

    def stream(self, requests: Iterator[Message]) -> Any:
        """Open a watch stream; the call of gRPC."""
        return rpc.WatchStub(self.client.channel).Watch(requests, metadata=self.token)

    def close(self) -> None:
        """Whatever is under way is cancelled, and nothing can be sent any more."""
        self.client.close()

    def authenticate(self, user: str, password: str, timeout: float) -> None:
        """Log in: what is sent from now on has the new token."""
        request = rpc.AuthenticateRequest(name=user, password=password)
        answer = rpc.AuthStub(self.client.channel).Authenticate(request, timeout=timeout)
        self.client.metadata = (("token", answer.token),)
