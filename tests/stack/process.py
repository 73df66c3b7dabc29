"""Servers as child processes: ports, deadlines, start, stop, kill, pause."""

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

#: Errors after which `wait_for` tries again: a refused connection is an OSError, and CoreDNS answers nothing
#: during its backoff after an etcd outage.
NOT_YET = (OSError, AssertionError, dns.exception.DNSException)

#: Deadlines are for an idle machine and are multiplied by this for slower ones. It is small enough that a
#: timeout (5 s and more) does not pass as prompt. Benchmarks measure speed.
SLOW = 4.0

#: Requests SIGKILL on the parent's death (PR_SET_PDEATHSIG), then executes the command.
_EXEC_WITH_PDEATHSIG = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""
_USED_PORTS: set[int] = set()


def free_port() -> int:
    """A loopback port, free in TCP and UDP, that this process has not returned before.

    It is below the ephemeral range, so that a restarted server finds it free.
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
    """One request on a new connection, without the environment's proxies and netrc."""
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, url, timeout=timeout, **more)


def run_command(*command: str, timeout: float = 60, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a command until it exits."""
    if "input" not in more:
        more["stdin"] = subprocess.DEVNULL
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **more)


@contextlib.contextmanager
def atomic_directory(target: Path) -> Iterator[Path]:
    """A temporary path that replaces ``target`` when the block succeeds; its parent is temporary too."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as folder:
        temporary = Path(folder) / "new"
        yield temporary
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)


class DeadlineError(AssertionError):
    """A condition was not met in time; the message has the last log lines of its processes."""


def wait_for(
    condition: Callable[[], T | None],
    what: str,
    deadline_s: float = 20.0,
    *processes: Process,
    not_yet: tuple[type[BaseException], ...] = NOT_YET,
) -> T:
    """Poll ``condition`` until it is true; returns its value, or raises `DeadlineError`.

    ``deadline_s`` is multiplied by `SLOW`. The exceptions ``not_yet`` count as false; the error shows the
    last one. It is raised at once when one of ``processes`` has exited.
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
    """A context manager that starts on entry and kills on exit."""

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

    The kernel kills it when its parent dies; to the kernel that is the thread that started it, which must
    stay alive. It has its own session, so that on Ctrl-C the parent decides in which order processes stop.
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
        """Start it without waiting; its output is appended to the log file."""
        if self.alive:
            raise RuntimeError(f"{self.name} is already running")
        self.directory.mkdir(parents=True, exist_ok=True)
        # not preexec_fn: Python code between fork and exec may deadlock with threads
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
        """Whether it is running or paused."""
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
        """Assert that it exits with 0 within this time (multiplied by `SLOW`) after SIGTERM."""
        began = time.monotonic()
        code = self.stop()
        assert (code, time.monotonic() - began < seconds * SLOW) == (0, True), self.log_tail()

    def kill(self) -> None:
        """Send SIGKILL and wait for its exit."""
        if self._child is not None and self.alive:
            self._signal(signal.SIGKILL)
            self._child.wait(10 * SLOW)
        _RUNNING.discard(self)

    def pause(self) -> None:
        """Send SIGSTOP and wait until every thread has stopped: connections stay open and silent."""
        self._signal(signal.SIGSTOP)
        tasks = Path(f"/proc/{self.pid}/task")

        def stopped() -> bool:
            if not self.alive:
                return True
            states = [(task / "stat").read_text().rpartition(")")[2].split()[0] for task in tasks.iterdir()]
            return all(state in "tTZX" for state in states)

        wait_for(stopped, f"{self.name} to stop", 5)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone, not its group."""
        os.kill(self.pid, number)

    def restart(self) -> None:
        """Stop and start it with the same ports and data."""
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
    """A process that is up once it answers."""

    def is_up(self) -> bool:
        """Whether it answers; an OSError means no."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.launch()
        self.wait_up()

    def wait_up(self, deadline_s: float = 60.0) -> None:
        wait_for(self.is_up, f"{self.name} to answer", deadline_s, self)
