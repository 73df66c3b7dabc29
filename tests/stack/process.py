"""Servers as child processes: free ports, deadlines, start, stop, kill, pause."""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import dns.exception
import requests

T = TypeVar("T")

LOOPBACK = "127.0.0.1"

#: What counts as "not yet" where something is waited for: a refused connection is an OSError, and CoreDNS
#: leaves questions without an answer while it pauses before it tries an etcd again that was away.
NOT_YET = (OSError, AssertionError, dns.exception.DNSException)

#: Time limits in tests are for a quiet machine and are multiplied by this for slower ones. It is small enough
#: that a timeout (5 s and more) does not pass for promptness. Speed is measured by the benchmarks.
SLOW = 4.0

#: Asks the kernel for SIGKILL when the parent dies (PR_SET_PDEATHSIG), then becomes the command.
_EXEC_WITH_PDEATHSIG = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""
_USED_PORTS: set[int] = set()


def free_port() -> int:
    """A loopback port, free in TCP and UDP, that this process has not handed out before.

    It is below the range of ephemeral ports: a server that restarts must find its port free.
    """
    for _ in range(1000):
        port = random.randint(20000, 31999)
        if port not in _USED_PORTS and is_free(port):
            _USED_PORTS.add(port)
            return port
    raise RuntimeError("no free loopback port between 20000 and 31999")


def is_free(port: int) -> bool:
    """Whether this loopback port is free in TCP and UDP."""
    try:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(socket.AF_INET, kind) as probe:
                probe.bind((LOOPBACK, port))
    except OSError:
        return False
    return True


def http(method: str, url: str, *, timeout: float = 5, **more: Any) -> requests.Response:
    """One request on a connection of its own, without the environment's proxies and netrc."""
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, url, timeout=timeout, **more)


def run_command(*command: str, timeout: float = 60, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; returns what it printed."""
    if "input" not in more:
        more["stdin"] = subprocess.DEVNULL
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **more)


@contextlib.contextmanager
def atomic_directory(home: Path) -> Iterator[Path]:
    """A path for what becomes ``home`` in one step if the block succeeds; beside it is room for more."""
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{home.name}-", dir=home.parent) as folder:
        aside = Path(folder) / "made"
        yield aside
        shutil.rmtree(home, ignore_errors=True)
        aside.rename(home)


class DeadlineError(AssertionError):
    """Something did not happen in time; the text says what, with the last lines of the processes' logs."""


def wait_for(
    condition: Callable[[], T | None],
    what: str,
    deadline_s: float = 20.0,
    *processes: Process,
    not_yet: tuple[type[BaseException], ...] = NOT_YET,
) -> T:
    """Poll ``condition`` until the deadline; returns its first true value.

    ``deadline_s`` is for a quiet machine: it fails after ``SLOW`` times as long.

    The exceptions ``not_yet`` count as false; the error shows the last one. It fails at once when one of
    ``processes`` has exited.
    """
    began = time.monotonic()
    pause = 0.01
    seen: object = None
    while True:
        try:
            value = condition()
            if value:
                return value
            seen = value
        except not_yet as error:
            seen = f"{type(error).__name__}: {error}"
        gone = [process for process in processes if not process.alive]
        waited = time.monotonic() - began
        if gone or waited >= deadline_s * SLOW:
            why = f"{gone[0].name} exited with {gone[0].exit_code}" if gone else f"not within {waited:.1f} s"
            logs = "".join(f"\nlast lines of {process.name}:\n{process.log_tail()}" for process in processes)
            raise DeadlineError(f"waited for {what}: {why}; last seen: {seen!r}{logs}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.2)


class Context:
    """Started on entering the context, killed on leaving it."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        raise NotImplementedError

    def kill(self) -> None:
        raise NotImplementedError


class Process(Context):
    """A child process with a log file, which never outlives its parent.

    The kernel kills it when the parent dies, however that happens. It leads a session of its own, so that
    Ctrl-C leaves the order of stopping to the parent. To the kernel the parent is the thread that starts it,
    which must live as long as the process should.
    """

    def __init__(
        self, name: str, command: Sequence[str], directory: Path, *, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.command = list(command)
        self.directory = directory
        self.env = None if env is None else dict(env)
        self.log = directory / f"{name}.log"
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.launch()

    def launch(self) -> None:
        """Start it without waiting for anything; its output is appended to the log file."""
        if self.alive:
            raise RuntimeError(f"{self.name} runs already")
        self.directory.mkdir(parents=True, exist_ok=True)
        # not by preexec_fn: Python code between fork and exec may hang where there are threads
        wrapper = [sys.executable, "-I", "-S", "-c", _EXEC_WITH_PDEATHSIG, str(os.getpid())]
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [*wrapper, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.env,
                start_new_session=True,
            )
        _RUNNING.add(self)

    @property
    def pid(self) -> int:
        """The process id; a RuntimeError before the first start."""
        if self._child is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether it is running; a paused process is."""
        return self._child is not None and self._child.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Its exit code, negative for a signal; None while it is running or before its start."""
        return None if self._child is None else self._child.poll()

    def stop(self, deadline_s: float = 10.0 * SLOW) -> int | None:
        """Send SIGTERM, and SIGKILL after the deadline; returns the exit code."""
        if self._child is not None and self.alive:
            self._signal(signal.SIGTERM)
            self._signal(signal.SIGCONT)
            try:
                self._child.wait(deadline_s)
            except subprocess.TimeoutExpired:
                self.kill()
        _RUNNING.discard(self)
        return self.exit_code

    def stop_within(self, seconds: float) -> None:
        """Stop it; it must exit with 0 in this time on a quiet machine."""
        began = time.monotonic()
        code = self.stop()
        assert (code, time.monotonic() - began < seconds * SLOW) == (0, True), self.log_tail()

    def kill(self) -> None:
        """Send SIGKILL and wait until it is gone."""
        if self._child is not None and self.alive:
            self._signal(signal.SIGKILL)
            self._child.wait(10 * SLOW)
        _RUNNING.discard(self)

    def pause(self) -> None:
        """Send SIGSTOP and wait until every thread has stopped: connections stay open, nothing answers."""
        self._signal(signal.SIGSTOP)
        tasks = Path(f"/proc/{self.pid}/task")

        def stands() -> bool:
            if not self.alive:
                return True
            states = [(task / "stat").read_text().rpartition(")")[2].split()[0] for task in tasks.iterdir()]
            return all(state in "tTZX" for state in states)

        wait_for(stands, f"{self.name} to stand still", 5)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def send_signal(self, number: signal.Signals) -> None:
        """Send another signal, to the process alone."""
        os.kill(self.pid, number)

    def restart(self) -> None:
        """Stop it and start it with the same ports and data."""
        self.stop()
        self.start()

    def wait(self, deadline_s: float) -> int:
        """Wait until it exits; returns the exit code."""
        wait_for(lambda: not self.alive, f"{self.name} to exit", deadline_s)
        code = self.exit_code
        assert code is not None
        return code

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def log_tail(self, lines: int = 20) -> str:
        try:
            text = self.log_text()
        except OSError:
            return "    (no log)"
        return "\n".join(f"    {line[:600]}" for line in text.splitlines()[-lines:]) or "    (empty log)"

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


_RUNNING: weakref.WeakSet[Process] = weakref.WeakSet()


@atexit.register
def _kill_all() -> None:
    for process in list(_RUNNING):
        process.kill()


class Server(Process):
    """A process that counts as up once it answers."""

    def is_up(self) -> bool:
        """Whether it answers; an OSError counts as no."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.launch()
        self.wait_up()

    def wait_up(self, deadline_s: float = 60.0) -> None:
        wait_for(self.is_up, f"{self.name} to answer", deadline_s, self)
