"""Every error of this program, named for what the caller can do about it.

    Kube2EtcdError
    +-- SettingsError            fix the named setting and start again
    +-- ObjectsError             fix the named manifest file
    +-- BridgeError              `explain --bridge`: no bridge answers at the URL
    +-- PlanChanged              look at the new plan, then apply that
    +-- ApiError                 talking to the API server failed
    |   +-- ApiUnavailable       retry later
    |   |   +-- ApiTooMany       retry after ``retry_after`` seconds
    |   |   +-- ApiTooLarge      the response exceeds the limit: ask for fewer objects
    |   |   +-- ApiTruncated     the response ended early: discard all of it
    |   +-- ApiGone              the resourceVersion is too old: relist
    |   +-- ApiForbidden         missing credentials or permission: keep serving, report it
    |   +-- ApiNotFound          the kind is not installed (yet)
    +-- EtcdError                talking to etcd failed
        +-- EtcdUnavailable      retry later, from a new snapshot
        |   +-- EtcdUnauthenticated   reload the password and retry
        |   +-- EtcdNoSpace      no writes until the NOSPACE alarm is disarmed
        |   +-- EtcdDeposed      another bridge is the leader: stand by
        |   +-- EtcdSilent       timed out: ask for smaller ranges
        +-- EtcdRefused          etcd will never accept this request
        +-- EtcdCompacted        the revision is compacted: start from a new snapshot

A message is one sentence: what is wrong, where, and what to do. It never holds a token, a password or a
private key.
"""

from __future__ import annotations


class Kube2EtcdError(Exception):
    """Base class: anything reported to the user as one sentence."""


class SettingsError(Kube2EtcdError):
    """All invalid settings at once, one line each."""

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class ObjectsError(Kube2EtcdError):
    """A manifest file cannot be read."""


class BridgeError(Kube2EtcdError):
    """No bridge answers, or something else does."""


class PlanChanged(Kube2EtcdError):
    """What would be written is no longer what was approved."""


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
    """A response body exceeds the caller's limit."""


class ApiTruncated(ApiUnavailable):
    """A response body or line ended early; discard what was read of it."""


class ApiGone(ApiError):
    """410 Gone: the resourceVersion or continue token has expired."""


class ApiForbidden(ApiError):
    """401 or 403, even after the credentials were reloaded."""


class ApiNotFound(ApiError):
    """404: the API server does not serve this kind."""


class EtcdError(Kube2EtcdError):
    """Talking to etcd failed."""


class EtcdUnavailable(EtcdError):
    """Unreachable or timed out; a request in flight may or may not have been applied."""


class EtcdUnauthenticated(EtcdUnavailable):
    """etcd rejects the user or password for now."""


class EtcdNoSpace(EtcdUnavailable):
    """The NOSPACE alarm is raised: etcd serves reads and rejects writes."""


class EtcdDeposed(EtcdUnavailable):
    """Another bridge is, or may be, the leader: nothing was written."""


class EtcdSilent(EtcdUnavailable):
    """Timed out: etcd hangs, or the response is too large for the timeout."""


class EtcdRefused(EtcdError):
    """etcd rejects this request for good; a retry cannot succeed."""


class EtcdCompacted(EtcdError):
    """The requested revision is compacted."""
