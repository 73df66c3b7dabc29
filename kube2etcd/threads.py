"""No thread ends unheard: one that dies of an unforeseen error is logged, counted, and makes us unready.

Liveness fails as well, so that whoever watches the process restarts it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

from kube2etcd.metrics import Metrics, Status

log = logging.getLogger(__name__)


@contextlib.contextmanager
def watched(metrics: Metrics, status: Status) -> Iterator[None]:
    """Within this block, a dying thread of this process, whoever started it, is told to both."""

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
