"""Prometheus metrics, and the status behind the probes.

The reconciler's thread writes both, the HTTP server's threads read them.  Nothing is global: each `Metrics()`
has its own registry.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVar

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from kube2etcd import __version__

log = logging.getLogger(__name__)

_M = TypeVar("_M", Gauge, Counter, Histogram)

#: Seconds; the target is one second from change to key, so most buckets are below that.
LATENCY_STEPS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0)
#: Seconds; ten thousand Services relist in seconds, a hundred thousand endpoints in tens.
RESYNC_STEPS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)

#: Changes kept for the status page's plot.
DELAYS = 500

#: Label values of `Metrics.left_out`.
LEFT_OUT = ("pending", "invalid", "taken", "unreadable")

RECEIVED = "kube2etcd_api_received_bytes_total"
RECEIVED_HELP = "Bytes of lists and watches from the API server, decompressed, by kind."

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics(Collector):
    """All metrics of one bridge."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)

        self.catalog: list[tuple[str, str, tuple[str, ...], str]] = []
        """Name as scraped, type, labels and help of each of our metrics."""

        def made(kind: type[_M], name: str, text: str, *labels: str, **more: Any) -> _M:
            suffix = "_total" if kind is Counter else ""
            self.catalog.append((f"kube2etcd_{name}{suffix}", kind.__name__.lower(), labels, text))
            return kind(f"kube2etcd_{name}", text, labels, registry=registry, **more)

        gauge, counter, histogram = partial(made, Gauge), partial(made, Counter), partial(made, Histogram)
        gauge("build_info", "Always 1; the label says which version runs.", "version").labels(
            __version__
        ).set(1)
        self.objects = gauge("objects", "Objects in the store, by kind.", "kind")
        self.rejected = gauge("rejected_objects", "Objects that cannot be read, by kind.", "kind")
        self._left_out = gauge(
            "left_out_records",
            "Records left out, by reason: pending (no address or ready endpoint yet), invalid (not valid in"
            " DNS or not servable), taken (another object or zone has the name), unreadable (the object).",
            "reason",
        )
        for reason in LEFT_OUT:
            self._left_out.labels(reason)
        self.refused = gauge("refused_keys", "Keys that etcd refuses; each is logged.")
        self._synced = gauge("synced", "1 if the kind has been listed.", "kind")
        self._stale = gauge(
            "stale_since_timestamp_seconds", "When the kind was last watched; 0 while it is watched.", "kind"
        )
        self._lists = counter("lists", "Complete lists of a kind.", "kind")
        self.watches = counter("watches", "Watches opened, at the start and after failures.", "kind")
        self.received: Callable[[], Mapping[str, int]] = dict
        """Called at each scrape; returns the bytes received from the API server so far, by kind."""
        self.catalog.append((RECEIVED, "counter", ("kind",), RECEIVED_HELP))
        registry.register(self)
        self.events = counter("watch_events", "Watch events received.", "kind")
        self.failures = counter("api_failures", "Lists and watches that failed.", "kind")
        self.keys = gauge("keys", "Our keys in etcd.")
        self._foreign = gauge("foreign_keys", "Other writers' keys under our zones; never touched.")
        self._malformed = gauge(
            "malformed_keys", "Foreign values under our zones that no DNS server can read."
        )
        self.contested = gauge(
            "contested_keys", "Keys that we want but another writer keeps: its owner ID sorts before ours."
        )
        self.disputed = gauge(
            "disputed_keys", "Keys left to another writer with our owner ID; nothing is deleted meanwhile."
        )
        self.unforeseen = counter(
            "unforeseen_errors", "Events and objects dropped because of an unforeseen error; each is logged."
        )
        self._thread_deaths = counter(
            "thread_deaths",
            "Threads that died of an unforeseen error; restart the process.",
            "thread",
        )
        self._writes = counter("writes", "Keys written to etcd, by operation.", "op")
        for op in ("put", "delete"):
            self._writes.labels(op)
        self.repairs = counter(
            "repairs", "Keys repaired after another writer changed them, or they were lost."
        )
        self.held = gauge("held_deletes", "Deletes held until a second listing confirms them.")
        self.ready = gauge("ready", "1 if etcd matched the cluster at the last comparison and is reachable.")
        self.leads = gauge("leader", "1 if this bridge writes; 0 if it is on standby (--leader-elect).")
        self._etcd_up = gauge("etcd_up", "1 if the last request to etcd was answered.")
        self._etcd_failures = counter("etcd_failures", "Requests to etcd that failed.")
        self.etcd_watches_lost = counter(
            "etcd_watch_failures",
            "Watches on etcd that ended or could not be opened; each costs a full read.",
        )
        self._resync = histogram("resync_duration_seconds", "Time of a full resync.", buckets=RESYNC_STEPS)
        self.latency = histogram(
            "change_to_write_seconds",
            "Time from the loop receiving a change to its keys in etcd.",
            buckets=LATENCY_STEPS,
        )
        self._programming = histogram(
            "programming_duration_seconds",
            "Time from an object's event to its keys in etcd, by kind of the object.",
            "kind",
            buckets=LATENCY_STEPS,
        )
        self.queue = gauge("queue_length", "Events waiting for the loop.")
        self.delays: deque[tuple[float, float, str]] = deque(maxlen=DELAYS)
        """The latest changes: seconds since the epoch, seconds from event to keys, kind of the object."""
        self._resynced = gauge("last_resync_timestamp_seconds", "When the last full resync succeeded.")
        self.calls = counter("webhook_calls", "Calls of the ExternalDNS webhook.", "method", "path", "status")
        self.last_call = gauge(
            "webhook_last_success_timestamp_seconds", "When a call of the ExternalDNS webhook last succeeded."
        )
        self.skipped = counter(
            "webhook_skipped_endpoints", "Unusable endpoints in calls, by reason.", "reason"
        )
        self.endpoints = gauge("webhook_endpoints", "Endpoints that the webhook stores.")
        self.domains = gauge("webhook_domains", "Domains that the webhook manages.")

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The reflectors' counts of bytes, one sample per kind."""
        family = CounterMetricFamily(RECEIVED, RECEIVED_HELP, labels=["kind"])
        for kind, count in self.received().items():
            family.add_metric([kind], count)
        yield family

    def page(self) -> bytes:
        """The metrics page in Prometheus's text format (`CONTENT_TYPE`)."""
        return generate_latest(self.registry)

    # The API server's side

    def left_out(self, counts: Mapping[str, int]) -> None:
        """Set the number of records left out, by reason (`LEFT_OUT`)."""
        for reason in LEFT_OUT:
            self._left_out.labels(reason).set(counts.get(reason, 0))

    def listed(self, kind: str) -> None:
        """``kind`` was listed in full: it is synced."""
        self._lists.labels(kind).inc()
        self._synced.labels(kind).set(1)

    def stale_for(self, kind: str, seconds: float | None) -> None:
        """``kind`` has not been watched for ``seconds``; ``None``: it is not stale."""
        self._stale.labels(kind).set(0 if seconds is None else time.time() - seconds)

    # etcd's side

    def foreign(self, count: int, malformed: int = 0) -> None:
        """Our zones have ``count`` keys of others, ``malformed`` of them unreadable."""
        self._foreign.set(count)
        self._malformed.set(malformed)

    def thread_died(self, name: str) -> None:
        """A thread died of an unforeseen error."""
        # Libraries number their threads, which would make endless label values.
        self._thread_deaths.labels("other" if name.startswith("Thread-") else name).inc()

    def wrote(self, puts: int, deletes: int) -> None:
        """Count keys written and deleted."""
        self._writes.labels("put").inc(puts)
        self._writes.labels("delete").inc(deletes)

    def etcd_up(self, yes: bool) -> None:
        """Whether etcd answered the last request."""
        self._etcd_up.set(yes)
        if not yes:
            self._etcd_failures.inc()

    # The loop

    def resynced(self, seconds: float) -> None:
        """A full resync succeeded, in ``seconds``."""
        self._resync.observe(seconds)
        self._resynced.set_to_current_time()

    def programmed(self, kind: str, seconds: float) -> None:
        """An event of an object of ``kind`` had its keys in etcd ``seconds`` after it arrived."""
        self._programming.labels(kind).observe(seconds)
        self.delays.append((time.time(), seconds, kind))


class StatusSnapshot(msgspec.Struct, frozen=True):
    """The status at one moment."""

    ready: bool
    #: Why it is not ready, or warnings of a ready bridge: one sentence each.
    reasons: tuple[str, ...]
    #: Seconds since the oldest of the latest heartbeats, of the loop and others.
    heartbeat_age: float
    #: Seconds since the last watch, for the kinds not being watched.
    stale: Mapping[str, float] = {}
    #: Threads that died of an unforeseen error: neither ready nor live.
    dead: tuple[str, ...] = ()


Check: TypeAlias = tuple[Sequence[str], Sequence[str]]
"""Reasons for being unready, and warnings that do not affect readiness: one sentence each."""


class Status:
    """Set by the reconciler, read by the probes; thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._ready = False
        self._reasons: tuple[str, ...] = ("starting",)
        self._stale: Mapping[str, float] = {}
        self._beats = {"loop": clock()}
        self._dead: tuple[str, ...] = ()
        self._checks: list[Callable[[], Check]] = []

    def add(self, check: Callable[[], Check]) -> None:
        """Call ``check`` too, at each snapshot; it must be thread-safe."""
        self._checks.append(check)

    def thread_died(self, name: str) -> None:
        """A thread died of an unforeseen error: this process cannot be trusted until it restarts."""
        with self._lock:
            self._dead += (name,) if name not in self._dead else ()

    def beat(self, name: str = "loop") -> None:
        """Heartbeat of the loop ``name``; call it at least every few seconds, also while waiting."""
        with self._lock:
            self._beats[name] = self._clock()

    def report(
        self, ready: bool, reasons: tuple[str, ...] | list[str] = (), stale: Mapping[str, float] | None = None
    ) -> None:
        """Record the loop's findings; ``stale`` maps a kind to when it was last watched (clock)."""
        with self._lock:
            self._ready, self._reasons, self._stale = ready, tuple(reasons), dict(stale or {})
            self._beats["loop"] = self._clock()

    def snapshot(self) -> StatusSnapshot:
        """The status now."""
        checks = [check() for check in self._checks]
        with self._lock:
            now = self._clock()
            stale = {kind: now - since for kind, since in self._stale.items()}
            faults = [f"thread {name} died: restart this process" for name in self._dead]
            faults += [fault for check in checks for fault in check[0]]
            worries = [worry for check in checks for worry in check[1]]
            return StatusSnapshot(
                self._ready and not faults,
                tuple(dict.fromkeys((*faults, *self._reasons, *worries))),
                now - min(self._beats.values()),
                stale,
                self._dead,
            )


@contextlib.contextmanager
def watched(metrics: Metrics, status: Status) -> Iterator[None]:
    """Within this block, log and count any thread that dies of an unforeseen error, and fail readiness."""

    def died(args: threading.ExceptHookArgs) -> None:
        if issubclass(args.exc_type, SystemExit):
            return  # it asked to end
        name = args.thread.name if args.thread is not None else "unknown"
        log.critical(
            "thread %s died of an unforeseen error",
            name,
            exc_info=(args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback),
        )
        metrics.thread_died(name)
        status.thread_died(name)

    before, threading.excepthook = threading.excepthook, died
    try:
        yield
    finally:
        threading.excepthook = before
