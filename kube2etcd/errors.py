"""Errors shared by the packages, named for what the caller can do about them.

A message is one sentence: what is wrong, where, and what to do.  It never contains a token, a password or a
private key.
"""

from __future__ import annotations


class Kube2EtcdError(Exception):
    """Base class: anything reported to the user as one sentence."""


class SettingsError(Kube2EtcdError):
    """All invalid settings at once, one line each: correct them and start again."""

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class ObjectsError(Kube2EtcdError):
    """A manifest file cannot be read: correct it."""


class BridgeError(Kube2EtcdError):
    """`explain --bridge`: no bridge answers at the URL, or something else does."""


class PlanChanged(Kube2EtcdError):
    """The plan is no longer the approved one: review the new plan."""


class ApiError(Kube2EtcdError):
    """Talking to the API server failed."""


class ApiUnavailable(ApiError):
    """No usable response; the same request may succeed later."""


class ApiTooMany(ApiUnavailable):
    """429 Too Many Requests: retry after ``retry_after`` seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ApiTooLarge(ApiUnavailable):
    """A response body exceeds the caller's limit: ask for fewer objects."""


class ApiGone(ApiError):
    """410 Gone: the resourceVersion or continue token has expired; list again."""


class ApiForbidden(ApiError):
    """401 or 403, even after the credentials were reloaded: keep serving, and report it."""


class ApiNotFound(ApiError):
    """404: the API server does not serve this kind (yet)."""


class EtcdError(Kube2EtcdError):
    """Talking to etcd failed."""


class EtcdUnavailable(EtcdError):
    """Unreachable or timed out; a request in flight may or may not have been applied: read again."""


class EtcdUnauthenticated(EtcdUnavailable):
    """etcd rejects the user or password for now: reload the password and retry."""


class EtcdNoSpace(EtcdUnavailable):
    """The NOSPACE alarm is raised: etcd serves reads but rejects writes until it is disarmed."""


class EtcdDeposed(EtcdUnavailable):
    """Another bridge is, or may be, the leader: nothing was written; stand by."""


class EtcdSilent(EtcdUnavailable):
    """Timed out: etcd hangs, or the response is too large for the timeout; ask for smaller ranges."""


class EtcdRefused(EtcdError):
    """etcd rejects this request for good; a retry cannot succeed."""


class EtcdCompacted(EtcdError):
    """The requested revision is compacted: read a new snapshot."""


def root_cause(error: BaseException) -> BaseException:
    """The innermost cause; urllib3 keeps some in ``args`` and some in ``__cause__``."""
    while inner := error.__cause__ or next((a for a in error.args if isinstance(a, BaseException)), None):
        error = inner
    return error


def one_line(text: str, limit: int = 300) -> str:
    """The text without line breaks, of ``limit`` characters at most."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
