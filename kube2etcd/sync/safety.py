"""Deletions that wait until a second listing agrees (guarantee G3).

A plan that would take many of our names away is what a wrong answer of the API server looks like, and so
is any deletion after a list that came empty.  Such deletions are held, and asked about again.  Knows plans
and how often each kind was listed; the loop tells it the time.  Writes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from kube2etcd.sync.plan import Plan, to_hold

log = logging.getLogger(__name__)

#: Seconds after which a held plan asks for another listing.
ASK_AGAIN = (5.0, 10.0, 20.0)


class Holding:
    """The deletions that are held at present."""

    def __init__(self, owner: str, force: bool = False) -> None:
        self.keys: frozenset[bytes] = frozenset()
        self._mark = f'"owner":"{owner}"'.encode()
        self._force = force
        self._asked: frozenset[bytes] = frozenset()
        self._doubted: frozenset[bytes] = frozenset()
        self._since: dict[str, int] = {}
        self._ask_at: list[float] = []

    def allowed(
        self,
        plan: Plan,
        entries: Mapping[bytes, bytes],
        listings: Mapping[str, int],
        empty: bool,
        now: float,
    ) -> Plan:
        """The plan without deletions that nobody has confirmed yet.

        ``entries``: what etcd holds; ``listings``: how often each kind was listed.  ``empty``: a kind has
        come empty that was not, or at the start.  That is what a server says that has not yet read its own
        data, and in a small cluster it takes few names away: then every deletion waits.
        """
        deletes = frozenset(change.key for change in plan.deletes)
        rest, waiting = plan, self.keys & deletes
        if self._asked and all(listings[kind] > count for kind, count in self._since.items()):
            # Only what was held when it was asked for: a list on its way to that may have been wrong about
            # more, and nobody has looked at those a second time.
            confirmed, self._asked = self._asked & deletes, frozenset()
            if confirmed:
                log.warning("a second listing agrees: %d keys are deleted after all", len(confirmed))
                entries = {key: value for key, value in entries.items() if key not in confirmed}
            deletes -= confirmed
            rest, waiting = plan.without(confirmed), self._doubted & deletes
        suspect = to_hold(rest, entries, self._mark) | waiting
        if empty:
            suspect |= deletes
            self._doubted |= deletes
        if self._force:
            suspect = frozenset()
        self.keys = suspect
        self._asked &= suspect
        self._doubted &= suspect
        if suspect and not self._asked:
            why = "after an empty list" if empty else "at once"
            log.warning("%d keys would be deleted %s: held until a second listing agrees", len(suspect), why)
            self._since, self._asked, self._doubted = dict(listings), suspect, frozenset()
            self._ask_at = [now, *(now + pause for pause in ASK_AGAIN)]
        return plan.without(suspect) if suspect else plan

    def asks(self, now: float) -> bool:
        """Whether it is time for another listing; each such time is told once."""
        due = bool(self.keys and self._ask_at) and now >= self._ask_at[0]
        if due:
            self._ask_at.pop(0)
        return due
