"""One of etcd's two APIs, as the settings say: whoever reads and writes keys need not know which.

Imports a client only when it is asked for, so that nobody pays for the other one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from kube2etcd.etcd.settings import EtcdSettings

if TYPE_CHECKING:
    from kube2etcd.etcd.connection import EtcdConnection
    from kube2etcd.etcd.election import Election
    from kube2etcd.etcd.store import EtcdStore
    from kube2etcd.etcd.v2 import V2Store
    from kube2etcd.etcd.v2_http import V2Connection

Connection: TypeAlias = "EtcdConnection | V2Connection"
KeyStore: TypeAlias = "EtcdStore | V2Store"


def open_store(
    settings: EtcdSettings, api: str, prefixes: Sequence[bytes], election: Election | None = None
) -> tuple[Connection, KeyStore]:
    """The keys under ``prefixes``, and the connection that is to be closed in the end.

    ``api``: ``v2`` or ``v3``; an ``election`` is for v3 alone.  Checks the settings (SettingsError); etcd
    itself need not be there yet.
    """
    if api == "v2":
        from kube2etcd.etcd.v2 import V2Store
        from kube2etcd.etcd.v2_http import V2Connection

        v2 = V2Connection(settings)
        return v2, V2Store(v2, prefixes)
    from kube2etcd.etcd.connection import connect
    from kube2etcd.etcd.store import EtcdStore

    v3 = connect(settings)
    return v3, EtcdStore(v3, prefixes, election=election)
