"""Which reasons have been told, so that a log tells each once for each object, and as much as is read.

What it may know: units and texts.  What it must never do: grow with events.  A guest that changes
its address every second gives a new reason each time; after :data:`MOST` of them an object has said
enough, and ``kube2etcd explain`` tells the present one.  Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from kube2etcd.kube.store import Unit

#: Reasons that are told at once, such as at the start.
AT_ONCE: Final = 100
#: Characters of a reason that are told; an annotation may have a quarter of a million.
LONGEST: Final = 300
#: Different reasons that are told of one object.
MOST: Final = 16
#: What stands in the place of the last.
ENOUGH: Final = "it changes its reasons again and again; kube2etcd explain tells the present one"


class Reasons:
    """What was told of each unit; hashes, since the texts may be long and come from strangers."""

    def __init__(self) -> None:
        self._told: dict[Unit, tuple[int, ...]] = {}

    def __len__(self) -> int:
        """How many units something was told of."""
        return len(self._told)

    def fresh(self, unit: Unit, reasons: Iterable[str]) -> list[str]:
        """Those of ``reasons`` that have not been told of ``unit``; from now on they have."""
        told = self._told.get(unit, ())
        new = []
        for reason in dict.fromkeys(reasons):
            if len(told) < MOST and hash(reason) not in told:
                told += (hash(reason),)
                new.append(reason if len(told) < MOST else ENOUGH)
        if new:
            self._told[unit] = told
        return new

    def forget(self, unit: Unit) -> None:
        """The unit is gone: one that comes under its name is another."""
        self._told.pop(unit, None)

    def listed(self, kind: str, there: Callable[[Unit], bool]) -> None:
        """A complete list of ``kind`` has come: forget every unit that is not ``there``."""
        for unit in [unit for unit in self._told if unit.kind == kind and not there(unit)]:
            self.forget(unit)


def lines(untold: Sequence[tuple[Unit, str]]) -> list[str]:
    """What a log is told of these, no more at once than somebody would read."""
    found = [
        f"{unit}: {reason if len(reason) <= LONGEST else reason[:LONGEST] + '…'}"
        for unit, reason in untold[:AT_ONCE]
    ]
    if untold[AT_ONCE:]:
        found.append(
            f"{len(untold) - AT_ONCE} more records are left out for odd reasons; "
            "kube2etcd explain NAME tells one"
        )
    return found
