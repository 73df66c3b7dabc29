"""Questions about etcd that change nothing: how each server is, whether we may write, and who leads.

Asked by ``kube2etcd check``.  Never writes: the one transaction here has a condition that no key can
meet, but etcd looks at the rights for both of its branches before it looks at the condition.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from kube2etcd.etcd import wire
from kube2etcd.etcd.connection import EtcdConnection, connect
from kube2etcd.etcd.settings import EtcdSettings
from kube2etcd.etcd.wire import rpc

#: More versions of one key than etcd can ever have made.
_NEVER = 2**62


@dataclass(frozen=True, slots=True)
class ServerHealth:
    """One server, as it sees itself; sizes in bytes."""

    version: str
    size: int
    quota: int
    """Size at which it takes no more writes; 0 where it does not tell (before 3.6)."""
    leader: bool
    """Whether there is one: without it nothing can be written."""
    alarms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has the key of an election."""

    name: str
    leased: bool
    """Whether it has a lease, as that of a bridge always has."""


def health(settings: EtcdSettings, server: str) -> ServerHealth:
    """Ask one of the servers, and no other.

    :raises EtcdError: it was not reached, or does not accept us.
    """
    with connect(replace(settings, servers=(server,))) as connection:
        answer = connection.call("Status", rpc.StatusRequest())
    # The alarms are asked of the status and not for themselves: that needs a quorum and rights.
    alarms = {alarm for error in answer.errors for alarm in re.findall(r"alarm:(\w+)", error)}
    return ServerHealth(
        answer.version, answer.dbSize, answer.dbSizeQuota, answer.leader != 0, tuple(sorted(alarms))
    )


def may_write(connection: EtcdConnection, key: bytes) -> None:
    """Whether ``key`` could be written and deleted.

    :raises EtcdRefused: it could not; the message names the reason.
    """
    wire.install()
    compare = rpc.Compare(result="EQUAL", target="VERSION", key=key, version=_NEVER)
    put = rpc.RequestOp(request_put=rpc.PutRequest(key=key))
    delete = rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key))
    connection.call("Txn", rpc.TxnRequest(compare=[compare], success=[put], failure=[]))
    connection.call("Txn", rpc.TxnRequest(compare=[compare], success=[delete], failure=[]))


def holder(connection: EtcdConnection, key: bytes) -> Holder | None:
    """Who has the key of an election; nobody where there is none.

    :raises EtcdRefused: it may not be read.
    """
    wire.install()
    for found in connection.call("Range", rpc.RangeRequest(key=key)).kvs:
        return Holder(found.value.decode(errors="backslashreplace"), found.lease != 0)
    return None
