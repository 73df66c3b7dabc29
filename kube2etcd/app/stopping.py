"""How a process of ours is told to end, and does so within a second.

For every command that runs until it is stopped.  Knows signals, the inbox and what a connection to etcd
can be told; must never wait.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator

from kube2etcd.etcd import Connection
from kube2etcd.sync.events import Inbox, Wake

#: Seconds after a stop was asked for until a request to etcd that hangs is cut off.
STOP_PATIENCE = 0.2


@contextlib.contextmanager
def signals(stop: threading.Event, inbox: Inbox) -> Iterator[None]:
    """SIGTERM and SIGINT set ``stop`` and wake the loop; SIGUSR1 logs at debug, SIGUSR2 as configured
    again."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(_signal: int, _frame: object) -> None:
        stop.set()
        inbox.put(Wake())

    logger = logging.getLogger("kube2etcd")
    configured = logger.level

    def louder(_signal: int, _frame: object) -> None:
        logger.setLevel(logging.DEBUG)

    def as_configured(_signal: int, _frame: object) -> None:
        logger.setLevel(configured)

    handlers = {
        signal.SIGTERM: handle,
        signal.SIGINT: handle,
        signal.SIGUSR1: louder,
        signal.SIGUSR2: as_configured,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def impatient(stop: threading.Event, connection: Connection) -> Iterator[None]:
    """Cut off a request to an etcd that hangs, a moment after ``stop``: the loop may wait for it.

    Nothing is half-written by that: a transaction is carried out whole or not at all.
    """
    done = threading.Event()

    def wait() -> None:
        stop.wait()
        if not done.wait(STOP_PATIENCE):
            connection.close()

    threading.Thread(target=wait, name="stop", daemon=True).start()
    try:
        yield
    finally:
        done.set()
        stop.set()
