"""The loop: news in, store, records, plan, etcd.  The single writer.

    news -> Store -> touched units -> Publisher -> keys -> diff with the Mirror -> Plan -> etcd

It runs in one thread and waits in one place.  Everything else only puts news into the `Inbox`.  A
full pass is the same path without a restriction to keys, after both sides were read anew.  It never
deletes before every kind has been listed, and never believes a mass deletion at first sight.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from kube2etcd.metrics import Metrics, Status
from kube2etcd.sync.applier import Applier, EntryStore
from kube2etcd.sync.events import EtcdChanged, EtcdLost, Inbox, News, Wake
from kube2etcd.sync.intake import Intake
from kube2etcd.sync.publisher import Publisher
from kube2etcd.sync.status import report

#: Seconds that the loop waits for news at most, so that its heartbeat is seen.
TICK = 1.0


class Reconciler:
    """Keeps a store of entries equal to what a publisher wants."""

    def __init__(
        self,
        publisher: Publisher,
        entries: EntryStore,
        inbox: Inbox,
        kinds: Iterable[str],
        *,
        relist: Callable[[str], None],
        follow: Callable[[int], int],
        metrics: Metrics,
        status: Status,
        resync_period: float = 300.0,
        max_txn_ops: int = 128,
        dry: bool = False,
        force: bool = False,
        progress: Callable[[int, int], None] | None = None,
        standing_by: Callable[[], str] = str,
    ) -> None:
        """``relist(reason)`` has every kind listed again; it does not wait for that.

        ``follow(revision)`` watches etcd from there and gives the number of that watch.
        ``standing_by()`` says why nothing may be written at present; empty: it may.
        """
        self.publisher, self.inbox = publisher, inbox
        self._intake = Intake(publisher, kinds, metrics)
        self.applier = Applier(
            publisher,
            entries,
            self._intake,
            follow=follow,
            report=self._report,
            metrics=metrics,
            max_txn_ops=max_txn_ops,
            dry=dry,
            force=force,
            progress=progress,
            standing_by=standing_by,
        )
        self._relist, self._metrics, self._status = relist, metrics, status
        self._period, self._resync_at = resync_period, time.monotonic() + resync_period

    def run(self, stop: threading.Event) -> None:
        """Turn until ``stop`` is set; an event in the inbox, or a tick, makes a turn."""
        while not stop.is_set():
            self.turn(self.inbox.drain(self._pause()))

    def turn(self, news: list[News]) -> None:
        """One pass over what is new."""
        now = time.monotonic()
        changed = self._take_in(news)
        if now >= self._resync_at:
            self._resync_at = now + self._period
            self._relist("resync")
            self.applier.mirror.lose()
        self.applier.take_turns()
        if not self._intake.waiting:
            self._reconcile(self._intake.touched(), changed, now)
        if self.applier.holding.asks(now):
            self._relist("a plan is held")
        self._report()

    def _take_in(self, news: list[News]) -> set[bytes]:
        """What the news is about goes to where it is known; the keys that others changed in etcd."""
        changed: set[bytes] = set()
        for item in news:
            match item:
                case EtcdChanged() | EtcdLost():
                    changed |= self.applier.take(item)
                case Wake():
                    pass
                case _:
                    self._intake.take(item)
        return changed

    def _reconcile(self, touched: set[bytes], changed: set[bytes], began: float) -> None:
        full = self.applier.mirror.lost
        if not self.applier.equalize(touched, changed, began):
            return
        if full:
            self._metrics.resynced(time.monotonic() - began)
        elif touched:
            self._metrics.latency(time.monotonic() - self.inbox.oldest)

    def _pause(self) -> float:
        if self.applier.mirror.lost and not self._intake.waiting:
            return max(0.0, min(TICK, self.applier.retry_at - time.monotonic()))
        return TICK

    def _report(self) -> None:
        report(self.publisher, self._intake, self.applier, self._metrics, self._status)
