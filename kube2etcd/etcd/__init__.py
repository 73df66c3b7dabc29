"""etcd as a store of keys: API v3 (``client``, ``store``) and API v2 (``v2_client``, ``v2``).

Each client is imported on demand: gRPC and requests cost time and memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from kube2etcd.etcd.changes import KeyStore as KeyStore

if TYPE_CHECKING:
    from kube2etcd.etcd.client import EtcdConnection
    from kube2etcd.etcd.election import Election
    from kube2etcd.etcd.servers import EtcdSettings
    from kube2etcd.etcd.v2_client import V2Connection

Connection: TypeAlias = "EtcdConnection | V2Connection"


def open_store(
    settings: EtcdSettings, api: str, prefix: bytes, election: Election | None = None
) -> tuple[Connection, KeyStore]:
    """The keys under ``prefix``, and the connection, which the caller closes.

    ``api`` is ``v2`` or ``v3``; only v3 takes an ``election``.  Connects on first use.

    :raises SettingsError: the TLS files cannot be used.
    """
    if api == "v2":
        from kube2etcd.etcd.v2 import V2Store
        from kube2etcd.etcd.v2_client import V2Connection

        v2 = V2Connection(settings)
        return v2, V2Store(v2, prefix)
    from kube2etcd.etcd.client import EtcdConnection
    from kube2etcd.etcd.store import EtcdStore

    v3 = EtcdConnection(settings)
    return v3, EtcdStore(v3, prefix, election=election)
