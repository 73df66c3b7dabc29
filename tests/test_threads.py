"""A thread's death shows in the log, a metric, readiness and liveness."""

import sys
import threading

import pytest

from kube2etcd.metrics import Metrics, Status, watched


def run(name: str, error: BaseException) -> None:
    def fail() -> None:
        raise error

    thread = threading.Thread(target=fail, name=name)
    thread.start()
    thread.join(30)


@pytest.mark.parametrize(
    ("name", "label"), [("etcd-watch", "etcd-watch"), ("Thread-17 (_spin)", "other")], ids=["ours", "other"]
)
def test_dead_thread_is_reported(caplog: pytest.LogCaptureFixture, name: str, label: str) -> None:
    metrics, status = Metrics(), Status()
    status.report(True)
    before = threading.excepthook
    with watched(metrics, status):
        run(name, ZeroDivisionError("a bug"))
    assert f"thread {name} died" in caplog.text
    assert "a bug" in caplog.text
    assert metrics.registry.get_sample_value("kube2etcd_thread_deaths_total", {"thread": label}) == 1
    status.report(True)
    now = status.snapshot()
    assert not now.ready, "a later report does not hide it"
    assert now.dead == (name,)
    assert name in now.reasons[0]
    assert threading.excepthook is before


def test_system_exit_is_not_a_death() -> None:
    metrics, status = Metrics(), Status()
    status.report(True)
    with watched(metrics, status):
        run("tidy", SystemExit())
    assert status.snapshot().ready
    assert sys.exc_info() == (None, None, None)
