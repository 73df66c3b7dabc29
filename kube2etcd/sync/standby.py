"""Readiness of a bridge that does not write (guarantee G7, with ``--leader-elect``).

It compares etcd with what it would write itself, and for a while believes that the leader will see to the
difference.  Knows keys and times; never writes, and decides nothing about who leads.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable, Set

from kube2etcd.sync.plan import HELD_SHARE

log = logging.getLogger(__name__)

#: Seconds that it waits for the leader to write what is missing, before it calls itself unready: so long
#: may another one take to lead.
PATIENCE = 10.0
#: Seconds after which a difference is no delay any more: the leader has other settings or another version.
#: One that stayed unready for that would hold up the very update that is to end it.
OTHERWISE = 30.0


class Standby:
    """What etcd lacks in the eyes of a bridge that may not write."""

    def __init__(self) -> None:
        self.settled = False
        """Whether the difference is there to stay."""
        self._since: dict[bytes, float] = {}

    @property
    def keys(self) -> Set[bytes]:
        """The keys that are not as this bridge would write them."""
        return self._since.keys()

    def note(self, keys: Iterable[bytes], now: float) -> None:
        """These keys, and no others, differ."""
        self._since = {key: self._since.get(key, now) for key in keys}

    def lead(self) -> None:
        """From now on the difference is ours to mend."""
        self._since.clear()

    def bearable(self, now: float, was_equal: bool, entries: Container[bytes], wanted: int) -> bool:
        """Whether etcd is as good as equal; ``entries``: its keys, ``wanted``: how many there should be."""
        if not self._since:
            return True
        age = now - min(self._since.values())
        missing = sum(key not in entries for key in self._since)
        settled = age > OTHERWISE and missing <= HELD_SHARE * wanted
        if settled and not self.settled:
            log.warning(
                "%d keys in etcd are not as this bridge would write them: has the leader the same version and"
                " settings?",
                len(self._since),
            )
        self.settled = settled
        return settled or (was_equal and age <= PATIENCE)
