"""What etcd's failures mean to us, for both of its APIs: an error with one sentence that says what to do."""

from __future__ import annotations

from typing import TypeAlias

from kube2etcd.errors import (
    EtcdCompacted,
    EtcdError,
    EtcdNoSpace,
    EtcdRefused,
    EtcdSilent,
    EtcdUnauthenticated,
    EtcdUnavailable,
    one_line,
)

# etcd's texts for a token from before a restart or a change of roles: a new one helps.
_STALE_TOKEN = ("invalid auth token", "revision of auth store is old", "auth: revision in header is old")

_Meaning: TypeAlias = tuple[type[EtcdError], str]
_UNAUTHENTICATED: _Meaning = (
    EtcdUnauthenticated,
    "does not accept our user ({asked}): check the etcd user, its password file and its role",
)
# etcd reports most authentication faults as INVALID_ARGUMENT, so the text is matched before the code.
_BY_WORDS: dict[str, _Meaning] = {
    **dict.fromkeys((*_STALE_TOKEN, "user name is empty", "authentication failed"), _UNAUTHENTICATED),
    "space exceeded": (
        EtcdNoSpace,
        "has no space left and takes no writes ({what}): compact and defragment it or raise its quota, then"
        " disarm the NOSPACE alarm",
    ),
    # gRPC's TLS; that a server does not accept our certificate appears as corrupt data.
    "tsi_": (
        EtcdUnavailable,
        "cannot be reached by TLS ({asked}): check the CA file and both sides' certificates, and that none"
        " has expired",
    ),
    # The lease expired while we were delayed: a new one helps.
    "lease not found": (EtcdUnavailable, "no longer knows our lease ({what}): it has ended in the meantime"),
    "larger than max": (EtcdRefused, "refuses the request ({asked}): it is too large"),
}
_REFUSED: _Meaning = (
    EtcdRefused,
    "refuses the request ({asked}): it is malformed or too large for the server's limits",
)
_BY_CODE: dict[str, _Meaning] = {
    **dict.fromkeys(("INVALID_ARGUMENT", "FAILED_PRECONDITION", "NOT_FOUND", "ALREADY_EXISTS"), _REFUSED),
    "UNAUTHENTICATED": _UNAUTHENTICATED,
    "OUT_OF_RANGE": (EtcdCompacted, "no longer has that revision ({asked}): read a new snapshot"),
    "PERMISSION_DENIED": (
        EtcdRefused,
        "denies it ({asked}): give the etcd user a role that may read and write here",
    ),
    "UNIMPLEMENTED": (EtcdRefused, "does not know the request ({asked}): check that it is etcd 3.4 or newer"),
    "DEADLINE_EXCEEDED": (EtcdSilent, "did not answer in time ({what}): check its load and its disk"),
    "CANCELLED": (EtcdUnavailable, "was not waited for ({what}), the request is cancelled: try again"),
    "UNAVAILABLE": (EtcdUnavailable, "cannot be reached ({asked}): check that it runs and the URL is right"),
    # The v2 API's own.
    "WATCHER_CLEARED": (EtcdUnavailable, "ended the watch ({asked}): watch again"),
    "NOT_A_DIRECTORY": (
        EtcdRefused,
        "refuses the key: {words} holds a value, and a value has no keys below it",
    ),
    "NO_V2": (
        EtcdRefused,
        "has no v2 API: start etcd 3.2 to 3.5 with --enable-v2 (3.6 and later have none),"
        " or use --etcd-api v3",
    ),
}
# UNKNOWN, INTERNAL, ABORTED, DATA_LOSS, too many requests: the server's fault.
_ITS_FAULT: _Meaning = (
    EtcdUnavailable,
    "failed ({what}: {code} {words}): see its log, and whether it has a leader",
)


def meaning(server: str, what: str, code: str, details: str) -> EtcdError:
    """The error for a request that failed with a gRPC status code, or one for the v2 API, and etcd's words.

    It does not quote the request, which may hold a password or token.
    """
    # The root cause is at the end of gRPC's chain of reasons.
    words = (details.rpartition("last error: ")[2] or details).removeprefix("UNKNOWN: ")
    words = words.rpartition("Failed to connect to remote host: ")[2]
    words = one_line(words.removeprefix("etcdserver: ").rstrip(" .;"), 200)
    said = (known for part, known in _BY_WORDS.items() if part in details.lower())
    kind, text = next(said, _BY_CODE.get(code, _ITS_FAULT))
    asked = f"{what}: {words}"
    return kind(f"etcd at {server} {text.format(what=what, code=code, words=words, asked=asked)}")


def is_stale_token(details: str) -> bool:
    """Whether logging in again is likely to help."""
    return any(words in details.lower() for words in _STALE_TOKEN)


def went_back(seen: int, revision: int) -> EtcdUnavailable:
    """The error for a request sent at revision ``seen`` and answered at an older one."""
    return EtcdUnavailable(
        f"etcd's revision went back from {seen} to {revision}: it lost its data; reading it again"
    )
