from collections.abc import Callable

import pytest

from kube2etcd.metrics import Metrics, Status

CASES: list[tuple[Callable[[Metrics], None], str, float]] = [
    (lambda m: m.left_out({"taken": 3}), 'left_out_records{reason="taken"}', 3),
    (lambda m: m.left_out({"taken": 3}), 'left_out_records{reason="invalid"}', 0),
    (lambda m: setattr(m, "received", lambda: {"pods": 9}), 'api_received_bytes_total{kind="pods"}', 9),
    (lambda m: m.listed("services"), 'lists_total{kind="services"}', 1),
    (lambda m: m.listed("services"), 'synced{kind="services"}', 1),
    (lambda m: m.stale_for("services", None), 'stale_since_timestamp_seconds{kind="services"}', 0),
    (lambda m: m.foreign(4, 1), "foreign_keys", 4),
    (lambda m: m.foreign(4, 1), "malformed_keys", 1),
    (lambda m: m.wrote(5, 6), 'writes_total{op="put"}', 5),
    (lambda m: m.wrote(5, 6), 'writes_total{op="delete"}', 6),
    (lambda m: m.etcd_up(True), "etcd_up", 1),
    (lambda m: m.etcd_up(False), "etcd_failures_total", 1),
    (lambda m: m.resynced(0.2), "resync_duration_seconds_count", 1),
]


@pytest.mark.parametrize(("update", "name", "value"), CASES, ids=[name for _, name, _ in CASES])
def test_values_are_exported(update: Callable[[Metrics], None], name: str, value: float) -> None:
    metrics = Metrics()
    update(metrics)
    lines = metrics.page().decode().splitlines()
    assert f"kube2etcd_{name} {float(value)}" in lines


def test_counters_used_by_alerts_start_at_zero() -> None:
    page = Metrics().page().decode()
    for name in ('writes_total{op="put"}', 'writes_total{op="delete"}', "repairs_total", "ready"):
        assert f"kube2etcd_{name} 0.0" in page


def test_metrics_are_not_shared() -> None:
    one, other = Metrics(), Metrics()
    one.keys.set(5)
    assert "kube2etcd_keys 0.0" in other.page().decode()


def test_status_reports_ages() -> None:
    now = 100.0
    status = Status(lambda: now)
    first = status.snapshot()
    assert (first.ready, first.reasons, first.heartbeat_age) == (False, ("starting",), 0.0)
    now = 130.0
    assert status.snapshot().heartbeat_age == 30.0
    status.report(True, ["one thing"], {"services": 90.0})
    now = 131.0
    later = status.snapshot()
    assert (later.ready, later.reasons, later.heartbeat_age) == (True, ("one thing",), 1.0)
    assert later.stale == {"services": 41.0}
    status.beat()
    assert status.snapshot().heartbeat_age == 0.0


def test_status_includes_added_checks() -> None:
    now, faults = 100.0, ["no file"]
    status = Status(lambda: now)
    status.add(lambda: (faults, ["a remark"]))
    status.report(True, ["one thing"])
    assert (status.snapshot().ready, status.snapshot().reasons) == (
        False,
        ("no file", "one thing", "a remark"),
    )
    faults.clear()
    assert (status.snapshot().ready, status.snapshot().reasons) == (True, ("one thing", "a remark"))
    status.beat("webhook")
    now = 103.0
    status.beat()
    assert status.snapshot().heartbeat_age == 3.0, "the slowest"
