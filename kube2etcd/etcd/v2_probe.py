"""The questions of `kube2etcd.etcd.probe` for etcd's v2 API; they change nothing either."""

from __future__ import annotations

from dataclasses import replace

from kube2etcd.errors import EtcdRefused
from kube2etcd.etcd import v2_failures
from kube2etcd.etcd.probe import ServerHealth
from kube2etcd.etcd.settings import EtcdSettings
from kube2etcd.etcd.v2_http import V2Connection

#: A later index than etcd can ever have: no write that wants it comes to pass.
_NEVER = 2**62


def health(settings: EtcdSettings, server: str) -> ServerHealth:
    """Ask one of the servers, and no other; the v2 API tells no sizes and knows no alarms.

    :raises EtcdError: it was not reached, does not accept us, or has no leader.
    """
    with V2Connection(replace(settings, servers=(server,))) as connection:
        connection.get("/", quorum="true")
        return ServerHealth(connection.version(), 0, 0, True)


def may_write(connection: V2Connection, path: str) -> None:
    """Whether ``path`` could be written and deleted.

    :raises EtcdError: it could not; the message names the reason.
    """
    for answer in (
        connection.put(path, b"", prevIndex=str(_NEVER)),
        connection.delete(path, prevIndex=str(_NEVER)),
    ):
        if answer.code not in (v2_failures.NOT_FOUND, v2_failures.COMPARE_FAILED):
            raise EtcdRefused(f"it answers {answer.reply.message or 'as if it had been done'} ({path})")
