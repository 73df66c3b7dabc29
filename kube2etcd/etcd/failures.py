"""What a failed request means for the caller: gRPC's code and etcd's words -> one of our errors.

Pure: knows the names of gRPC's codes and etcd's sentences, but imports neither gRPC nor etcd3, and
must never put anything of the request into a message (it may hold a password or a token).
"""

from __future__ import annotations

from kube2etcd.errors import (
    EtcdCompacted,
    EtcdError,
    EtcdNoSpace,
    EtcdRefused,
    EtcdSilent,
    EtcdUnauthenticated,
    EtcdUnavailable,
)

# etcd reports most faults of authentication as INVALID_ARGUMENT, so its words decide.
_AUTHENTICATION = (
    "invalid auth token",
    "user name is empty",
    "authentication failed",
    "revision of auth store is old",
    "auth: revision in header is old",
)
# A request with a token of before a restart or a change of roles: a new token cures it.
_STALE_TOKEN = ("invalid auth token", "revision of auth store is old", "auth: revision in header is old")

_REFUSED = {
    "INVALID_ARGUMENT": "it is malformed or too large for the server's limits",
    "FAILED_PRECONDITION": "the server is not set up for it",
    "NOT_FOUND": "what it is about does not exist",
    "ALREADY_EXISTS": "what it is about exists already",
    "UNIMPLEMENTED": "the server does not know it; check that this is etcd 3.4 or newer",
}


def meaning(server: str, what: str, code: str, details: str) -> EtcdError:
    """The error for a request that failed; ``code`` is the name of gRPC's status code."""
    words = _brief(details)
    lower = details.lower()
    where = f"etcd at {server}"
    if any(words in lower for words in _AUTHENTICATION) or code == "UNAUTHENTICATED":
        return EtcdUnauthenticated(
            f"{where} does not accept who we are ({what}: {words}): check the etcd user and its password file"
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
        # Whoever asks had a lease a moment ago, and was held up: with a new one it goes on.
        return EtcdUnavailable(f"{where} no longer knows our lease ({what}): it has ended in the meantime")
    if code in _REFUSED or (code == "RESOURCE_EXHAUSTED" and "larger than max" in lower):
        return EtcdRefused(
            f"{where} refuses the request ({what}: {words}): {_REFUSED.get(code, 'it is too large')}"
        )
    if code == "DEADLINE_EXCEEDED":
        return EtcdSilent(f"{where} did not answer in time ({what}): check its load and its disk")
    if code == "CANCELLED":
        return EtcdUnavailable(f"the request to {where} was given up ({what}): try again")
    if code == "UNAVAILABLE":
        return EtcdUnavailable(
            f"{where} cannot be reached ({what}: {words}): check that it runs and the URL is right"
        )
    # UNKNOWN, INTERNAL, ABORTED, DATA_LOSS, too many requests: the server's trouble, not ours.
    return EtcdUnavailable(f"{where} failed ({what}: {code} {words}): see its log")


def is_stale_token(details: str) -> bool:
    """Whether the password, given again, is likely to help."""
    return any(words in details.lower() for words in _STALE_TOKEN)


def _brief(details: str) -> str:
    """The end of gRPC's chain of reasons, which is the reason."""
    words = details.rpartition("last error: ")[2] or details
    words = words.removeprefix("UNKNOWN: ").rpartition("Failed to connect to remote host: ")[2]
    words = words.removeprefix("etcdserver: ").strip().rstrip(".;")
    return words if len(words) <= 200 else f"{words[:199]}…"
