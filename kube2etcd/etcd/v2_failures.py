"""What a failed request to etcd's v2 API means for the caller: HTTP status and etcd's code -> our errors.

Pure: the twin of `kube2etcd.etcd.failures` for the other API.  Must never put a value or a password
into a message.
"""

from __future__ import annotations

from kube2etcd.errors import EtcdCompacted, EtcdError, EtcdRefused, EtcdUnauthenticated, EtcdUnavailable

NOT_FOUND = 100
COMPARE_FAILED = 101
NOT_A_FILE = 102
NOT_A_DIRECTORY = 104
EXISTS = 105
NOT_EMPTY = 108
_DENIED = 110
_WATCHER_GONE = 400
_INDEX_CLEARED = 401

# What the caller that sent the request has an answer to; never an error by itself.
ANSWERS = frozenset({NOT_FOUND, COMPARE_FAILED, NOT_A_FILE, NOT_A_DIRECTORY, EXISTS, NOT_EMPTY})

_NO_V2 = (
    "has no v2 API: start etcd 3.2 to 3.5 with --enable-v2 (3.6 and later have none), or use --etcd-api v3"
)


def meaning(server: str, what: str, status: int, code: int, message: str, cause: str = "") -> EtcdError:
    """The error for an answer that is none; ``code`` is etcd's own, 0 where the body has none."""
    where = f"etcd at {server}"
    words = " ".join(filter(None, [f"{status}", message, f"({cause})" if cause else ""]))
    if code == _INDEX_CLEARED:
        return EtcdCompacted(f"{where} no longer has that index ({what}: {words}): read a new snapshot")
    if code == _WATCHER_GONE:
        return EtcdUnavailable(f"{where} ended the watch ({words}): watch again")
    if code == _DENIED or (status in (401, 403) and not code):
        return EtcdUnauthenticated(
            f"{where} does not accept who we are or what we ask for ({what}: {words}): check the etcd user,"
            " its password file and its role"
        )
    if status == 404 and not code:
        return EtcdRefused(f"{where} {_NO_V2}")
    if code == NOT_A_DIRECTORY:
        return EtcdRefused(f"{cause or 'a key above it'} holds a value, and a value has no keys below it")
    if code == NOT_A_FILE:
        return EtcdRefused(f"{cause or 'it'} is a directory, which cannot hold a value")
    if 300 <= status < 400 or status >= 500 or 300 <= code < 400:
        return EtcdUnavailable(f"{where} failed ({what}: {words}): see its log, and whether it has a leader")
    return EtcdRefused(f"{where} refuses the request ({what}: {words})")


def unreachable(server: str, what: str, reason: str) -> EtcdUnavailable:
    """The error where no answer came at all."""
    return EtcdUnavailable(
        f"etcd at {server} cannot be reached ({what}: {reason}): check that it runs and the URL is right"
    )


def silent(server: str, what: str) -> EtcdUnavailable:
    """The error where the answer did not come in time."""
    return EtcdUnavailable(f"etcd at {server} did not answer in time ({what}): check its load and its disk")
