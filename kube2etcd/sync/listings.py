"""Applies cluster events to the store: tracks which kinds are listed and which units to publish again, and
logs why records are left out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from kube2etcd.kube.objects import Changed, Failing, Healthy, Listed, Rejected
from kube2etcd.kube.store import Unit
from kube2etcd.log import several
from kube2etcd.metrics import Metrics
from kube2etcd.sync.claims import FormerGroups
from kube2etcd.sync.events import Rezoned, Wake
from kube2etcd.sync.publisher import Publisher

log = logging.getLogger(__name__)

GONE_AFTER: Final = 300.0
"""Seconds for which the API server must report a kind as not installed before that counts as an empty list:
it also does so while it starts, or while a CRD is replaced."""

LONG_AGO: Final = float("-inf")
"""In place of a time: the kind counts as empty already, and an outage of the API server does not restart the
wait."""

BATCH: Final = 64
"""Units published per batch: etcd must not run out of transactions while the next batch is derived."""

MAX_REASON_LENGTH: Final = 300
"""Characters logged of one reason; an annotation may hold 256 KiB."""

MAX_REASONS_PER_OBJECT: Final = 16
"""Different reasons logged per object: a guest that changes its address every second causes a new one each
time.  The last of them is `LAST_REASON`."""

LAST_REASON: Final = "the reason keeps changing; see kube2etcd explain for the current one"
"""Logged in place of an object's last reason."""

ClusterEvent = Listed | Changed | Failing | Healthy | Rezoned | Wake

OnLeftOut = Callable[[Sequence[tuple[Unit, str]]], None]
"""Called with pairs of an object and a new reason why a record of it is left out; must not block."""


def unlogged_reason(logged: dict[Unit, tuple[int, ...]], unit: Unit, reason: str) -> str:
    """``reason`` if it was not logged for ``unit`` before, else empty; adds its hash to ``logged``.

    The hash alone, since texts may be long.
    """
    known = logged.get(unit, ())
    if len(known) == MAX_REASONS_PER_OBJECT or hash(reason) in known:
        return ""
    logged[unit] = (*known, hash(reason))
    return reason if len(known) + 1 < MAX_REASONS_PER_OBJECT else LAST_REASON


def left_out_lines(reasons: Sequence[tuple[Unit, str]]) -> list[str]:
    """Log lines for pairs of a unit and a reason, limited since the initial lists may bring thousands."""
    found = [
        f"{unit}: {reason if len(reason) <= MAX_REASON_LENGTH else reason[:MAX_REASON_LENGTH] + '…'}"
        for unit, reason in reasons
    ]
    return several(found, "records are left out; kube2etcd explain NAME says why")


class Listings:
    """Applies cluster events to the publisher's store."""

    def __init__(
        self,
        publisher: Publisher,
        kinds: Iterable[str],
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        left_out: OnLeftOut = lambda reasons: None,
        gone_after: float = GONE_AFTER,
    ) -> None:
        """``gone_after``: seconds, see `GONE_AFTER`."""
        self.waiting = set(kinds)
        """Kinds that have not been listed yet; nothing is published until all are."""
        self.counts: dict[str, int] = {}
        """How often each kind was listed."""
        self.stale: dict[str, float] = {}
        """Kinds that cannot be listed or watched, and since when (clock)."""
        self._publisher, self._metrics, self._clock = publisher, metrics, clock
        self._left_out, self._gone_after, self._began = left_out, gone_after, clock()
        self.logged: dict[Unit, tuple[int, ...]] = {}
        """Reasons logged for each unit that has any (`fresh`)."""
        self.units = publisher.with_affected_services(set(publisher.units()))
        """The units to publish again."""
        self.touched: set[Unit] = set()
        """The units of the last `refresh`."""
        self._empty = False
        self._absent: dict[str, float] = {}
        """Optional kinds that are not installed, and since when (clock); `LONG_AGO`: counted as empty."""

    def apply(self, event: ClusterEvent) -> None:
        """Apply one event; an unforeseen error is logged, and the event dropped."""
        publisher, metrics = self._publisher, self._metrics
        try:
            match event:
                case Listed(kind):
                    self._listed(event)
                    metrics.listed(kind)
                case Changed(kind, change):
                    units = publisher.store.apply(kind, change)
                    self.units |= publisher.with_affected_services(units) if kind == "namespaces" else units
                    metrics.events.labels(kind).inc()
                    if change.type == "DELETED":
                        # `refresh` forgets the reasons of units only; an EndpointSlice is not one.
                        self.logged.pop(Unit(kind, change.namespace, change.name), None)
                    elif change.rejected is not None:
                        self._log_rejected(kind, [change.rejected])
                case Failing(kind, absent=True):
                    self._not_installed(kind)
                case Failing(kind, since):
                    if self._absent.get(kind) != LONG_AGO:  # else it has no names that a list must confirm
                        self._absent.pop(kind, None)
                    self.stale[kind] = since
                    metrics.failures.labels(kind).inc()
                    metrics.stale_for(kind, self._clock() - since)
                case Healthy(kind):
                    self._recovered(kind)
                    metrics.watches.labels(kind).inc()
                case Rezoned(zones):
                    self.units |= publisher.rezone(zones)
        except Exception:
            what = event.event if isinstance(event, Changed) else event
            self._log_unforeseen(f"{type(event).__name__} {what}"[:300])

    def blind_for(self) -> float:
        """Seconds for which some kind has been neither listed nor watched, 0 if all are; from any thread."""
        now = self._clock()
        return now - min([*self.stale.values(), self._began if self.waiting else now])

    def expect(self, kinds: Sequence[str]) -> None:
        """Hold deletions, as after an empty list, until these kinds are listed too."""
        self.counts.update(dict.fromkeys(kinds, 0))
        self._empty = self._empty or bool(kinds)

    def refresh(self) -> Iterator[FormerGroups]:
        """Publish `units` again, in batches; yields keys whose desired value changed, with the former one.

        A unit that causes an unforeseen error keeps its former keys and affects no other unit.
        """
        publisher = self._publisher
        self.touched, self.units = self.units, set()
        units = list(self.touched)
        if not units:
            return
        if len(units) > BATCH:
            # The oldest first: no later unit takes a name from them.
            units.sort(key=publisher.seniority)
        for first in range(0, len(units), BATCH):
            some = units[first : first + BATCH]
            try:
                yield publisher.refresh(some)
            except Exception:
                for unit in sorted(some):
                    try:
                        yield publisher.refresh([unit])
                    except Exception:
                        self._log_unforeseen(str(unit))
                while True:  # collect what had changed before the last error, and units that gained a name
                    try:
                        yield publisher.refresh(())
                        break
                    except Exception:
                        self._log_unforeseen("an object that gained a name")
        for unit in self.logged.keys() & self.touched:
            if not publisher.exists(unit):
                del self.logged[unit]  # a later object of that name starts afresh
        if new := self._log_left_out(publisher.take_reasons()):
            self._left_out(new)

    def take_listed_empty(self) -> bool:
        """Whether a list was empty since the last call, for a kind that had objects or was never listed."""
        empty, self._empty = self._empty, False
        return empty

    def _log_unforeseen(self, what: str) -> None:
        log.exception("%s: unforeseen error; its records stay as they were", what)
        self._metrics.unforeseen.inc()

    def _listed(self, event: Listed) -> None:
        kind, store = event.kind, self._publisher.store
        if not (event.objects or event.rejected) and (store.count(kind) or kind in self.waiting):
            self._empty = True
        units = store.replace(kind, event.objects, event.rejected)
        self.units |= self._publisher.with_affected_services(units) if kind == "namespaces" else units
        self.waiting.discard(kind)
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self._recovered(kind)
        for unit in [one for one in self.logged if one.kind == kind and not store.knows(one)]:
            del self.logged[unit]
        self._log_rejected(kind, event.rejected)

    def _recovered(self, kind: str) -> None:
        """The kind is listed or watched again."""
        self._absent.pop(kind, None)
        self.stale.pop(kind, None)
        self._metrics.stale_for(kind, None)

    def _not_installed(self, kind: str) -> None:
        """An optional kind is not installed; once that has lasted, its list counts as empty.

        At the start, etcd may still have names of its objects: other names are published, but surplus
        keys are deleted only then.
        """
        if kind in self.waiting:
            self.waiting.discard(kind)
            self.expect((kind,))
        now = self._clock()
        since = self._absent.setdefault(kind, now)
        if now - since < self._gone_after:
            return
        if self._publisher.store.count(kind):
            log.warning("%s: no longer installed; its names will be deleted", kind)
        self._listed(Listed(kind, ()))
        self._absent[kind] = LONG_AGO

    def _log_rejected(self, kind: str, rejected: Iterable[Rejected]) -> None:
        self._log_left_out(
            (Unit(kind, one.namespace, one.name), f"cannot be read: {one.reason}") for one in rejected
        )

    def _log_left_out(self, reasons: Iterable[tuple[Unit, str]]) -> list[tuple[Unit, str]]:
        """Log the new ones among the reasons; returns them."""
        found = ((unit, unlogged_reason(self.logged, unit, reason)) for unit, reason in reasons)
        new = [one for one in found if one[1]]
        for line in left_out_lines(new):
            log.warning("%s", line)
        return new
