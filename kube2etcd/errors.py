"""Errors, named after what the caller can do about them.

    Kube2EtcdError
    +-- SettingsError            correct the setting that is named, start again
    +-- ObjectsError             correct the manifest file that is named
    +-- ApiError                 something between us and the API server
    |   +-- ApiUnavailable       try again later
    |   |   +-- ApiTooMany       try again after ``retry_after`` seconds
    |   |   +-- ApiTruncated     the answer was cut short: nothing of it may be used
    |   +-- ApiGone              the version is too old: list again
    |   +-- ApiForbidden         credentials or rights are missing: keep serving, say so
    |   +-- ApiNotFound          this kind is not installed (yet)
    +-- EtcdError                something between us and etcd
        +-- EtcdUnavailable      try again later, after re-reading etcd
        |   +-- EtcdUnauthenticated   re-read the password and try again
        |   +-- EtcdNoSpace      etcd takes no writes until its alarm is cleared
        |   +-- EtcdDeposed      another bridge writes now: stand by
        |   +-- EtcdSilent       no answer in time: ask for less at once
        +-- EtcdRefused          this very request will never be accepted
        +-- EtcdCompacted        the revision is gone: begin from a new snapshot

A message is one sentence that says what is wrong, where, and what to try.
No message ever holds a token, a password or a key.  This module imports nothing.
"""

from __future__ import annotations


class Kube2EtcdError(Exception):
    """Whatever this program reports to its user as one sentence."""


class SettingsError(Kube2EtcdError):
    """Every fault of the settings at once, one line each."""

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class ObjectsError(Kube2EtcdError):
    """A manifest file that cannot be read at all."""


class ApiError(Kube2EtcdError):
    """The API server's side."""


class ApiUnavailable(ApiError):
    """No usable answer; the same request may work later."""


class ApiTooMany(ApiUnavailable):
    """429: the server asks for a pause of ``retry_after`` seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ApiTruncated(ApiUnavailable):
    """A body or a line ended early; what was read of it counts for nothing."""


class ApiGone(ApiError):
    """410: the resource version or continue token is too old."""


class ApiForbidden(ApiError):
    """401 or 403 after the credentials were read anew."""


class ApiNotFound(ApiError):
    """404: the API server does not know this kind."""


class EtcdError(Kube2EtcdError):
    """The etcd side."""


class EtcdUnavailable(EtcdError):
    """Not reached, or no answer in time; what was sent may or may not be applied."""


class EtcdUnauthenticated(EtcdUnavailable):
    """User or password is not accepted, at present."""


class EtcdNoSpace(EtcdUnavailable):
    """The NOSPACE alarm is raised: reads work, writes do not."""


class EtcdDeposed(EtcdUnavailable):
    """Another bridge leads, or may lead: nothing of ours was written."""


class EtcdSilent(EtcdUnavailable):
    """No answer within the timeout: the server hangs, or the answer is too long for the way it takes."""


class EtcdRefused(EtcdError):
    """etcd will not take this request, however often it is sent."""


class EtcdCompacted(EtcdError):
    """The revision that was asked for is compacted away."""
