"""Logs and counts threads that die of an unforeseen error, and fails readiness and liveness for a restart."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

from kube2etcd.metrics import Metrics, Status

log = logging.getLogger(__name__)


@contextlib.contextmanager
def watched(metrics: Metrics, status: Status) -> Iterator[None]:
    """Report the death of any thread of this process to both, within this block."""

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
