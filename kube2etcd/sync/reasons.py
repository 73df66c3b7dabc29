"""Logs each reason once per object, at most :data:`MOST` of them, so memory does not grow with events.

A guest that changes its address every second gives a new reason each time; past the limit,
``kube2etcd explain`` shows the current one.  Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from kube2etcd.kube.store import Unit

#: Reasons logged in one turn, such as after the initial lists.
AT_ONCE: Final = 100
#: Characters of a reason that are logged; an annotation may hold 256 KiB.
LONGEST: Final = 300
#: Different reasons logged per object.
MOST: Final = 16
#: Replaces the last one.
ENOUGH: Final = "the reason keeps changing; see kube2etcd explain for the current one"


class LoggedReasons:
    """The reasons logged for each unit, as hashes: the texts may be long, and users write them."""

    def __init__(self) -> None:
        self._logged: dict[Unit, tuple[int, ...]] = {}

    def __len__(self) -> int:
        """Number of units with a logged reason."""
        return len(self._logged)

    def fresh(self, unit: Unit, reasons: Iterable[str]) -> list[str]:
        """The ``reasons`` not logged for ``unit`` yet; marks them as logged."""
        logged = self._logged.get(unit, ())
        new = []
        for reason in dict.fromkeys(reasons):
            if len(logged) < MOST and hash(reason) not in logged:
                logged += (hash(reason),)
                new.append(reason if len(logged) < MOST else ENOUGH)
        if new:
            self._logged[unit] = logged
        return new

    def forget(self, unit: Unit) -> None:
        """Drop a deleted unit; a later one of the same name starts afresh."""
        self._logged.pop(unit, None)

    def listed(self, kind: str, there: Callable[[Unit], bool]) -> None:
        """Drop every unit of ``kind`` for which ``there`` is false, after a complete list."""
        for unit in [unit for unit in self._logged if unit.kind == kind and not there(unit)]:
            self.forget(unit)


def lines(reasons: Sequence[tuple[Unit, str]]) -> list[str]:
    """Log lines for these, at most :data:`AT_ONCE` and one that counts the rest."""
    found = [
        f"{unit}: {reason if len(reason) <= LONGEST else reason[:LONGEST] + '…'}"
        for unit, reason in reasons[:AT_ONCE]
    ]
    if reasons[AT_ONCE:]:
        found.append(
            f"{len(reasons) - AT_ONCE} more records are left out for odd reasons; "
            "kube2etcd explain NAME tells one"
        )
    return found
