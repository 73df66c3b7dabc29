"""An etcd that is full, compacted, away or refuses a part: told, got over, and nobody else pays for it.

KUBE2ETCD_FAULT_OUTAGE says for how many seconds it is away (10): minutes are no different, since no pause of
ours grows (`test_no_pause_grows_however_long_etcd_is_away`), but they can be seen.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from tests.stack.faults import HERE, keys_of, metric, running, same_keys
from tests.stack.harness import ApiServer, Etcd, wait_for
from tests.stack.objects import endpoints, service, services

# Read here, as no test sees the variables of ours.
OUTAGE = float(os.environ.get("KUBE2ETCD_FAULT_OUTAGE") or "10")


def test_a_full_etcd_is_named_and_written_again_when_there_is_space(
    binaries: dict[str, Path], apiserver: ApiServer, tmp_path: Path
) -> None:
    apiserver.apply_all(services(3))
    with (
        Etcd(tmp_path / "small", binaries, extra_args=["--quota-backend-bytes=2000000"]) as etcd,
        running(tmp_path, apiserver.kubeconfig(), etcd) as bridge,
    ):
        before = etcd.dump("/skydns")

        def fill() -> bool:
            try:
                etcd.ctl("put", "/elsewhere", stdin="x" * 200_000)
            except RuntimeError as error:
                return "space exceeded" in str(error)
            return False

        wait_for(fill, "etcd to be full", 30)
        apiserver.apply(service("later"))
        wait_for(lambda: "NOSPACE" in bridge.get("/readyz").text, "the reason", 15, bridge.process)
        assert not bridge.ready()
        assert bridge.get("/livez").status_code == 200
        assert etcd.dump("/skydns") == before, "what is there is still served"
        log = bridge.process.log.read_text()
        assert log.count("has no space left") < 5, "told when it changes, not with each attempt"

        etcd.ctl("compact", str(etcd.revision()))
        etcd.ctl("defrag")
        etcd.ctl("alarm", "disarm")
        bridge.wait_ready(10)
        assert keys_of(etcd, "later")
        assert bridge.process.alive


def test_changes_that_were_compacted_away_unseen_are_put_right(
    apiserver: ApiServer, etcd: Etcd, tmp_path: Path
) -> None:
    apiserver.apply_all(services(10))
    with running(tmp_path, apiserver.kubeconfig(), etcd) as bridge:
        expected = etcd.dump("/skydns")
        bridge.pause()
        for key in sorted(expected)[:5]:
            etcd.put(key, "spoilt")
        etcd.delete(f"{HERE}/svc/default/s003")
        for number in range(20):
            etcd.put("/elsewhere", str(number))
        etcd.ctl("compact", str(etcd.revision()))
        etcd.restart()
        bridge.resume()
        same_keys(etcd, expected, 10)
        bridge.wait_ready(5)
        # and a compaction under a watch that lives takes nothing away
        etcd.ctl("compact", str(etcd.revision()))
        etcd.delete(f"{HERE}/svc/default/s004")
        same_keys(etcd, expected, 5)


def test_a_long_time_without_etcd_costs_nothing_but_readiness(
    apiserver: ApiServer, etcd: Etcd, tmp_path: Path
) -> None:
    apiserver.apply_all(services(10))
    with running(tmp_path, apiserver.kubeconfig(), etcd) as bridge:
        etcd.kill()
        wait_for(lambda: not bridge.ready(), "readiness to be withdrawn", 10)
        apiserver.delete_all(services(3))
        apiserver.apply(service("later"))
        cpu = metric(bridge, "process_cpu_seconds_total")
        until, turn = time.monotonic() + OUTAGE, 0
        while time.monotonic() < until:
            turn += 1
            apiserver.apply(service("busy", externalIPs=[f"192.0.2.{turn % 250 + 1}"]))
            assert bridge.get("/livez").status_code == 200
            assert not bridge.ready()
            threading.Event().wait(0.5)
        assert metric(bridge, "process_cpu_seconds_total") - cpu < OUTAGE / 5, "it does not spin"
        assert bridge.process.log.read_text().count("cannot be reached") < 10
        etcd.start()
        bridge.wait_ready(10)
        assert keys_of(etcd, "later")
        assert keys_of(etcd, "busy")
        assert metric(bridge, "kube2etcd_repairs_total") == 0, "etcd lost nothing"
        assert keys_of(etcd, "s005")
        assert not keys_of(etcd, "s001")


@pytest.mark.parametrize("limit", ["--max-txn-ops=20", "--max-request-bytes=2000"])
def test_an_etcd_that_takes_less_at_once_gets_it_in_pieces(
    limit: str, binaries: dict[str, Path], apiserver: ApiServer, tmp_path: Path
) -> None:
    apiserver.apply_all([*services(40), service("head", clusterIP="None")])
    apiserver.apply(endpoints("head", *(f"10.8.0.{number}" for number in range(1, 60))))
    with (
        Etcd(tmp_path / "narrow", binaries, extra_args=[limit]) as etcd,
        running(tmp_path, apiserver.kubeconfig(), etcd) as bridge,
    ):
        for number in range(40):
            assert keys_of(etcd, f"s{number:03d}")
        assert len(keys_of(etcd, "head/")) >= 59
        assert "etcd refuses" not in bridge.process.log.read_text()
        etcd.delete("/skydns")
        wait_for(lambda: len(keys_of(etcd, "head/")) >= 59, "the repair", 10)


def test_keys_that_etcd_refuses_are_named_and_all_others_are_written(
    apiserver: ApiServer, etcd: Etcd, tmp_path: Path
) -> None:
    culprit = f"{HERE}/svc/default/s050"
    etcd.ctl("role", "add", "names")
    etcd.ctl("role", "grant-permission", "names", "--prefix=true", "read", "/skydns/")
    etcd.ctl("role", "grant-permission", "names", "readwrite", "/skydns/", culprit)
    etcd.ctl("role", "grant-permission", "names", "readwrite", f"{HERE}/svc/default/s051", "/skydns0")
    etcd.ctl("user", "add", "bridge:hunter2")
    etcd.ctl("user", "grant-role", "bridge", "names")
    etcd.enable_auth("root", "secret")
    password = tmp_path / "password"
    password.write_text("hunter2")
    apiserver.apply_all(services(100))
    user = ("--etcd-user", "bridge", "--etcd-password-file", str(password))
    with running(tmp_path, apiserver.kubeconfig(), etcd, *user) as bridge:
        for number in range(100):
            assert bool(keys_of(etcd, f"s{number:03d}")) == (number != 50)
        refused = [line for line in bridge.process.log.read_text().splitlines() if "etcd refuses /" in line]
        assert refused
        assert all("s050" in line and "permission denied" in line for line in refused)
        apiserver.apply(service("later"))
        wait_for(lambda: keys_of(etcd, "later"), "the next change", 5)
