"""What came of each change that was written through etcd's v2 API, for the one who asked for it.

Pure: is told each outcome, and adds up.  Must never decide what is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kube2etcd.errors import EtcdRefused, EtcdUnavailable
from kube2etcd.etcd.changes import ApplyResult, Change

# So many refused and nothing ever accepted: it is not the changes.
_HOPELESS = 64


class ChangedError(EtcdRefused):
    """What was to be deleted is no longer what was read."""


class Account:
    """What has come of one call of `V2Store.apply` so far."""

    def __init__(self, progress: Callable[[int], None] | None) -> None:
        self.revision = 0
        self._conflicts: list[bytes] = []
        self.refused: list[tuple[Change, str]] = []
        self._progress = progress
        self._own: set[int] = set()
        self._written = 0

    @property
    def hopeless(self) -> bool:
        """Whether it is not the changes that are refused, but we."""
        return self._written == 0 and len(self.refused) >= _HOPELESS

    def settle(self, change: Change, found: int | EtcdRefused) -> None:
        """Account for one change."""
        if isinstance(found, ChangedError):
            self._conflicts.append(change.key)
        elif isinstance(found, EtcdRefused):
            self.refused.append((change, str(found)))
        else:
            self._written += 1
            if found:
                self.revisions([found])
            if self._progress is not None:
                self._progress(self._written)

    def revisions(self, made: Sequence[int]) -> None:
        """Indices that we made."""
        self._own.update(made)
        self.revision = max([self.revision, *made])

    def result(self) -> ApplyResult:
        """For the caller; EtcdUnavailable where others were in the way of a deletion."""
        if self._conflicts:
            raise EtcdUnavailable(
                f"{len(self._conflicts)} keys in etcd were changed by others while they were to be deleted,"
                f" first {self._conflicts[0].decode(errors='replace')}: read it anew"
            )
        return ApplyResult(self.revision, frozenset(self._own), self._written, tuple(self.refused))
