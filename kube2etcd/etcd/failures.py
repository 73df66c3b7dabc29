"""What a failed request means: gRPC's code and etcd's words -> one of our errors.

No message quotes the request, which may hold a password or token.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from kube2etcd.errors import (
    EtcdCompacted,
    EtcdError,
    EtcdNoSpace,
    EtcdRefused,
    EtcdSilent,
    EtcdUnauthenticated,
    EtcdUnavailable,
)

log = logging.getLogger(__name__)

_T = TypeVar("_T")

# etcd reports most faults of authentication as INVALID_ARGUMENT, so its words decide.
_AUTHENTICATION = (
    "invalid auth token",
    "user name is empty",
    "authentication failed",
    "revision of auth store is old",
    "auth: revision in header is old",
)
# The token predates a restart or a change of roles: a new one helps.
_STALE_TOKEN = ("invalid auth token", "revision of auth store is old", "auth: revision in header is old")

_REFUSED = {
    "INVALID_ARGUMENT": "it is malformed or too large for the server's limits",
    "FAILED_PRECONDITION": "the server is not set up for it",
    "NOT_FOUND": "its subject does not exist",
    "ALREADY_EXISTS": "its subject exists already",
    "UNIMPLEMENTED": "the server does not know it; check that this is etcd 3.4 or newer",
}


def meaning(server: str, what: str, code: str, details: str) -> EtcdError:
    """The error for a request that failed; ``code`` is the name of gRPC's status code."""
    words = _brief(details)
    lower = details.lower()
    where = f"etcd at {server}"
    if any(words in lower for words in _AUTHENTICATION) or code == "UNAUTHENTICATED":
        return EtcdUnauthenticated(
            f"{where} does not accept our user ({what}: {words}): check the etcd user and its password file"
        )
    if "space exceeded" in lower:
        return EtcdNoSpace(
            f"{where} has no space left and takes no writes ({what}): compact and defragment it or raise its"
            " quota, then disarm the NOSPACE alarm"
        )
    if code == "OUT_OF_RANGE":
        return EtcdCompacted(f"{where} no longer has that revision ({what}: {words}): read a new snapshot")
    if code == "PERMISSION_DENIED":
        return EtcdRefused(
            f"{where} denies it ({what}: {words}): give the etcd user a role that may read and write here"
        )
    if code == "NOT_FOUND" and "lease not found" in lower:
        # It expired while we were held up: a new one helps.
        return EtcdUnavailable(f"{where} no longer knows our lease ({what}): it has ended in the meantime")
    if code in _REFUSED or (code == "RESOURCE_EXHAUSTED" and "larger than max" in lower):
        return EtcdRefused(
            f"{where} refuses the request ({what}: {words}): {_REFUSED.get(code, 'it is too large')}"
        )
    if code == "DEADLINE_EXCEEDED":
        return EtcdSilent(f"{where} did not answer in time ({what}): check its load and its disk")
    if code == "CANCELLED":
        return EtcdUnavailable(f"the request to {where} was cancelled ({what}): try again")
    if code == "UNAVAILABLE":
        return EtcdUnavailable(
            f"{where} cannot be reached ({what}: {words}): check that it runs and the URL is right"
        )
    # UNKNOWN, INTERNAL, ABORTED, DATA_LOSS, too many requests: the server's fault.
    return EtcdUnavailable(f"{where} failed ({what}: {code} {words}): see its log")


def try_each(servers: int, attempt: Callable[[], _T]) -> _T:
    """Try an idempotent request once for each server; a failure moves the connection to the next one.

    Raises the last server's EtcdUnavailable, and at once any error that no other server cures.
    """
    for _ in range(servers - 1):
        try:
            return attempt()
        except (EtcdUnauthenticated, EtcdNoSpace):
            raise
        except EtcdUnavailable as error:
            log.info("%s", error)
    return attempt()


def is_stale_token(details: str) -> bool:
    """Whether logging in again is likely to help."""
    return any(words in details.lower() for words in _STALE_TOKEN)


def _brief(details: str) -> str:
    """The end of gRPC's chain of reasons, which is the reason."""
    words = details.rpartition("last error: ")[2] or details
    words = words.removeprefix("UNKNOWN: ").rpartition("Failed to connect to remote host: ")[2]
    words = words.removeprefix("etcdserver: ").strip().rstrip(".;")
    return words if len(words) <= 200 else f"{words[:199]}…"
