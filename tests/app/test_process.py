from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from kube2etcd.app.process import RETRY, Reload, impatient, signals
from kube2etcd.errors import SettingsError
from kube2etcd.etcd.client import EtcdConnection
from kube2etcd.settings import Settings, load_all
from kube2etcd.sync.events import EventQueue, Wake


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "settings.yaml"
    file.write_text("ttl: 5")
    return file


def valid(_: Settings) -> None: ...


def reload(
    file: Path | None,
    check: Callable[[Settings], object] = valid,
    clock: Callable[[], float] = lambda: 0.0,
) -> Reload:
    return Reload(load_all({}, {}, file), check, clock)


def test_equal_settings_are_no_change(file: Path) -> None:
    one = reload(file)
    for text in ("ttl: 5", "# a comment\nttl: 5\n", 'ttl: "5"'):
        file.write_text(text)
        assert (one.look(), one.wanted, one.ending.is_set()) == ("", False, False)
    one.start_anew()  # no restart wanted, so it returns


def test_change_stops_the_process_for_a_restart(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "kube2etcd")
    one = reload(file)
    assert one.look() == ""
    file.write_text("ttl: 6")
    assert one.look() == ""
    assert (one.wanted, one.ending.is_set()) == (True, True)
    assert vars(caplog.records[-1])["fields"] == {"file": str(file)}


def test_invalid_settings_are_ignored_and_logged_once(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = reload(file)
    file.write_text("ttl: none")
    fault = one.look()
    assert fault.startswith(f"the changed {file} is not taken: ")
    assert "ttl" in fault
    assert one.look() == fault
    assert [record.getMessage() for record in caplog.records] == [fault]
    file.unlink()
    assert one.look() == f"{file} cannot be read: No such file or directory"
    assert not one.ending.is_set()
    file.write_text("ttl: 5")
    assert one.look() == ""
    assert not one.wanted


def test_change_is_noticed_by_a_thread(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kube2etcd.app.process.LOOK", 0.01)
    one = reload(file)
    one.start()
    file.write_text("ttl: none")
    deadline = time.monotonic() + 10
    while not one.check()[1]:
        assert time.monotonic() < deadline
    assert one.check()[0] == [], "the process stays ready"
    file.write_text("ttl: 6")
    assert one.ending.wait(10)
    assert one.wanted


def test_stop_ends_the_looks(file: Path) -> None:
    one = reload(file)
    one.start()
    one.stop()
    assert (one.ending.is_set(), one.wanted) == (True, False)
    reload(None).start()


def test_emptied_file_does_not_mean_the_defaults(file: Path) -> None:
    one = reload(file)
    file.write_text("\n")
    assert one.look() == f"the changed {file} is not taken: it is empty; write {{}} for the defaults"
    assert not one.wanted
    file.write_text("{}")
    assert one.look() == ""
    assert one.wanted


def test_file_that_was_empty_at_the_start_is_no_fault(file: Path) -> None:
    file.write_text("")
    assert reload(file).look() == ""


def test_file_that_reappears_is_no_fault(file: Path) -> None:
    one, content = reload(file), file.read_text()
    assert one.look() == ""
    file.unlink()
    assert one.look()
    file.write_text(content)
    assert (one.look(), one.wanted) == ("", False)


def test_settings_that_cannot_start_are_retried(file: Path) -> None:
    def check(settings: Settings) -> None:
        checked.append(now)
        if not certificates:
            raise SettingsError(f"no certificate for {settings.ttl}")

    certificates, checked, now = list[str](), list[float](), 0.0
    one = reload(file, check, lambda: now)
    assert one.look() == "", "the current settings are not checked"
    file.write_text("ttl: 6")
    for _ in range(2):
        assert one.look() == f"the changed {file} is not taken: no certificate for 6"
        assert not one.ending.is_set()
    assert checked == [0.0], "no immediate retry: the check may run an exec plugin"
    certificates.append("certificate")
    now = RETRY
    assert one.look() == ""
    assert one.wanted


def test_unforeseen_error_is_reported(file: Path) -> None:
    def check(settings: Settings) -> None:
        raise LookupError(settings.ttl)

    one = reload(file, check)
    file.write_text("ttl: 6")
    assert one.look().endswith("is not taken: internal error (LookupError); see the log of kube2etcd")
    assert not one.wanted
    file.write_text("ttl: 5")
    assert one.look() == ""


def test_no_file_is_no_fault() -> None:
    one = reload(None)
    assert (one.look(), one.wanted) == ("", False)


def test_restart_keeps_the_command_line(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr("kube2etcd.app.process.os.execv", lambda _, arguments: started.append(arguments))
    monkeypatch.setattr("kube2etcd.app.process.sys.orig_argv", ["python3", "-m", "kube2etcd", "run"])
    one = reload(file)
    file.write_text("ttl: 6")
    one.look()
    one.start_anew()
    assert [arguments[1:] for arguments in started] == [["-m", "kube2etcd", "run"]]


def test_signals_stop_the_loop_and_change_the_log_level() -> None:
    logger, queue, stop = logging.getLogger("kube2etcd"), EventQueue(), threading.Event()
    before = logger.level, signal.getsignal(signal.SIGTERM)
    with signals(stop, queue) as received:
        pass
    assert (received, stop.is_set()) == ([], False)
    with signals(stop, queue) as received:
        signal.raise_signal(signal.SIGUSR1)
        assert logger.level == logging.DEBUG
        signal.raise_signal(signal.SIGUSR2)
        assert (logger.level, stop.is_set()) == (before[0], False)
        signal.raise_signal(signal.SIGTERM)
        assert stop.wait(10)
        assert received == [signal.SIGTERM]
        assert queue.drain(10) == [Wake()]
    assert (logger.level, signal.getsignal(signal.SIGTERM)) == before


RESTARTED = """
import os, signal, sys, threading
from kube2etcd.app.process import signals
from kube2etcd.sync.events import EventQueue

if sys.argv[1:] == ["restarted"]:
    signal.raise_signal(signal.SIGUSR1)
    signal.raise_signal(signal.SIGUSR2)
    print("alive")
else:
    with signals(threading.Event(), EventQueue()):
        pass
    os.execv(sys.executable, [sys.executable, "-c", sys.orig_argv[2], "restarted"])
"""


def test_log_level_signal_does_not_end_a_restarting_process() -> None:
    done = subprocess.run([sys.executable, "-c", RESTARTED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "alive\n")


class BlockingEvent(threading.Event):
    """`set` waits for ``release``."""

    def __init__(self) -> None:
        super().__init__()
        self.release = threading.Event()

    def set(self) -> None:
        assert self.release.wait(10)
        super().set()


def test_signal_is_recorded_before_the_stop() -> None:
    stop = BlockingEvent()
    with signals(stop, EventQueue()) as received:
        signal.raise_signal(signal.SIGINT)
        assert (received, stop.is_set()) == ([signal.SIGINT], False)
        stop.release.set()
        assert stop.wait(10)


class ReentrantSet(threading.Event):
    """While it is being set, the same signal arrives, whose handler must not set it again: a deadlock."""

    def __init__(self) -> None:
        super().__init__()
        self.lock, self.deadlocked = threading.Lock(), False

    def set(self) -> None:
        if not self.lock.acquire(timeout=2):
            self.deadlocked = True
            return
        if not self.is_set():
            signal.raise_signal(signal.SIGTERM)
        super().set()
        self.lock.release()


def test_signal_during_a_signal_does_not_deadlock() -> None:
    stop, queue = ReentrantSet(), EventQueue()
    with signals(stop, queue):
        signal.raise_signal(signal.SIGTERM)
        assert stop.wait(10)
        assert queue.drain(10)
    assert not stop.deadlocked


def test_only_the_main_thread_sets_signal_handlers() -> None:
    def serve() -> None:
        with signals(threading.Event(), EventQueue()):
            seen.append(signal.getsignal(signal.SIGTERM))

    seen: list[object] = []
    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


class FakeConnection:
    def __init__(self) -> None:
        self.closed = threading.Event()

    def close(self) -> None:
        self.closed.set()


def test_stop_closes_a_hanging_connection() -> None:
    stop, connection = threading.Event(), FakeConnection()
    with impatient(stop, cast("EtcdConnection", connection)):
        stop.set()
        assert connection.closed.wait(10)


def test_loop_that_ends_in_time_closes_nothing() -> None:
    stop, connection = threading.Event(), FakeConnection()
    with impatient(stop, cast("EtcdConnection", connection)):
        assert not stop.is_set()
    assert stop.is_set(), "its thread ends too"
    for thread in threading.enumerate():
        if thread.name == "stop":
            thread.join(10)
    assert not connection.closed.is_set()
