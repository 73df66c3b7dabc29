"""Shutdown within a second, and restart when settings change."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue

from kube2etcd.errors import Kube2EtcdError, SettingsError
from kube2etcd.etcd import Connection
from kube2etcd.metrics import Check
from kube2etcd.settings import Loaded, Settings
from kube2etcd.sync.events import EventQueue, Wake

log = logging.getLogger(__name__)

#: Seconds from the request to stop until a hanging request to etcd is aborted.
STOP_PATIENCE = 0.2
#: Seconds between looks at the settings file.
LOOK = 5.0
#: Seconds until settings with a fault are tried again unchanged: that may run a cloud's exec plugin.
RETRY = 30.0


@contextlib.contextmanager
def signals(stop: threading.Event, queue: EventQueue) -> Iterator[Sequence[int]]:
    """SIGTERM and SIGINT set ``stop`` and wake the loop; SIGUSR1 logs at debug level, SIGUSR2 at the
    configured one, and are ignored afterwards.

    Yields the SIGTERM and SIGINT that came, also after something else set ``stop``.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    # A thread sets the event: the interrupted one may be setting it just now, which is not reentrant.
    # Putting into a SimpleQueue is.
    arrived: SimpleQueue[bool] = SimpleQueue()

    def end() -> None:
        if arrived.get():
            stop.set()
            queue.put(Wake())

    def handle(number: int, _frame: object) -> None:
        # At once, since the process may be about to start anew.
        asked.append(number)
        arrived.put(True)

    logger = logging.getLogger("kube2etcd")
    configured = logger.level

    handlers = {
        signal.SIGTERM: handle,
        signal.SIGINT: handle,
        signal.SIGUSR1: lambda *_: logger.setLevel(logging.DEBUG),
        signal.SIGUSR2: lambda *_: logger.setLevel(configured),
    }
    threading.Thread(target=end, name="stop-on-signal", daemon=True).start()
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield asked
    finally:
        # Ignored signals stay so in a process started anew: one about the log must not end it at its start.
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            before[number] = signal.SIG_IGN
        for number, handler in before.items():
            signal.signal(number, handler)
        arrived.put(False)


@contextlib.contextmanager
def impatient(stop: threading.Event, connection: Connection) -> Iterator[None]:
    """Abort a hanging request to etcd, for which the loop may be waiting, soon after ``stop``.

    Nothing is half-written: a transaction is executed completely or not at all.
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


class Reload:
    """Stops a process when its settings file differs from the settings it was started with.

    It restarts instead of changing in place, so there is one way to apply settings.  The keys stay in etcd
    meanwhile, so DNS keeps answering.
    """

    def __init__(
        self,
        loaded: Loaded,
        check: Callable[[Settings], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``check`` raises `SettingsError` for settings with which the process could not start."""
        self.ending = threading.Event()
        """Set when the process is to end; others may set it too."""
        self.wanted = False
        """Whether the process is to restart then."""
        self._loaded, self._check, self._clock = loaded, check, clock
        self._seen: bytes | None = None
        """Content without a fault: whatever else has a fault may be mended without a change of the file, such
        as a certificate that is mounted later."""
        self._fault = ""
        self._failed, self._retry_at = b"", 0.0
        self._thread = threading.Thread(target=self._run, name="settings", daemon=True)

    def start(self) -> None:
        """Look at the file, if there is one, until the process ends."""
        if self._loaded.config is not None:
            self._thread.start()

    def stop(self) -> None:
        """End; a look in progress may still be waiting for an exec plugin, and ends with the process."""
        self.ending.set()

    def check(self) -> Check:
        """Why changed settings are not applied, which does not affect readiness."""
        return [], [self._fault] if self._fault else []

    def _run(self) -> None:
        while not self.ending.wait(LOOK):
            self.look()

    def look(self) -> str:
        """Check the file; returns why its changes are not applied, or an empty text."""
        config = self._loaded.config
        if config is None:
            return ""
        try:
            content = config.read_bytes()
        except OSError as error:
            self._retry_at = 0.0
            return self._say(f"{config} cannot be read: {error.strerror}")
        if content == self._seen:
            return self._say("")
        if content == self._failed and self._clock() < self._retry_at:
            return self._fault
        try:
            settings = self._loaded.again()
            if changed := settings != self._loaded.settings:
                if not content.strip():
                    # An editor that truncates before it writes must not cost the names of all settings.
                    raise SettingsError("it is empty; write {} for the defaults")
                self._check(settings)
        except Exception as error:
            why = str(error)
            if not isinstance(error, Kube2EtcdError):
                # No file may end the thread that looks at it.
                log.exception("looking at %s failed", config)
                why = f"internal error ({type(error).__name__}); see the log of kube2etcd"
            self._failed, self._retry_at = content, self._clock() + RETRY
            return self._say(f"the changed {config} is not taken: {why}")
        self._seen = content
        if changed:
            log.info("settings changed; restarting", extra={"fields": {"file": str(config)}})
            self.wanted = True
            self.ending.set()
        return self._say("")

    def start_anew(self) -> None:
        """Replace this process by a new one with the same command line, if requested."""
        if self.wanted:
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

    def _say(self, fault: str) -> str:
        if fault and fault != self._fault:
            log.error("%s", fault)
        self._fault = fault
        return fault
