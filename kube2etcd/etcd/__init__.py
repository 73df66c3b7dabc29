"""etcd as a store of keys: API v3 (``client``, ``store``) and API v2 (``v2_client``, ``v2``).

Each client is imported on demand: gRPC and requests cost time and memory.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeAlias

from kube2etcd.etcd.changes import KeyStore as KeyStore

if TYPE_CHECKING:
    from kube2etcd.etcd.client import EtcdConnection
    from kube2etcd.etcd.election import Election
    from kube2etcd.etcd.v2_client import V2Connection
    from kube2etcd.settings import Etcd

# gRPC logs failed TLS handshakes itself, on stderr past our log: three lines with each attempt.  It reads
# this when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

Connection: TypeAlias = "EtcdConnection | V2Connection"


def open_store(settings: Etcd, election: Election | None = None) -> tuple[Connection, KeyStore]:
    """The keys below the prefix, those of former zones too, and the connection, which the caller closes.

    Only API v3 takes an ``election``.  Connects on first use.

    :raises SettingsError: the TLS files cannot be used.
    """
    prefix = settings.prefix.encode() + b"/"
    if settings.api == "v2":
        from kube2etcd.etcd.v2 import V2Store
        from kube2etcd.etcd.v2_client import V2Connection

        v2 = V2Connection(settings)
        return v2, V2Store(v2, prefix)
    from kube2etcd.etcd.client import EtcdConnection
    from kube2etcd.etcd.store import EtcdStore

    v3 = EtcdConnection(settings)
    return v3, EtcdStore(v3, prefix, election=election)
