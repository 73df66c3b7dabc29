"""Whatever happens to the keys, they converge without a restart and before any resync."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.stack.faults import HERE, keys_of, metric, running, same_keys
from tests.stack.harness import ApiServer, Etcd, wait_for
from tests.stack.objects import bulk, services


def key_of(etcd: Etcd, name: str) -> str:
    return next(key for key in etcd.dump(HERE) if f"/svc/default/{name}/" in f"{key}/")


def test_keys_changed_deleted_and_added_by_hand_are_put_right(
    apiserver: ApiServer, etcd: Etcd, tmp_path: Path
) -> None:
    apiserver.apply_all(services(5))
    with running(tmp_path, apiserver.kubeconfig(), etcd) as bridge:
        expected = etcd.dump("/skydns")
        assert metric(bridge, "kube2etcd_repairs_total") == 0

        changed = key_of(etcd, "s000")
        etcd.put(changed, '{"host":"192.0.2.99"}')
        same_keys(etcd, expected, 5)

        etcd.delete(key_of(etcd, "s001"))
        same_keys(etcd, expected, 5)

        etcd.put(f"{changed}/stale", expected[changed])
        same_keys(etcd, expected, 5)
        wait_for(lambda: metric(bridge, "kube2etcd_repairs_total") >= 3, "repairs to be counted", 5)

        # once more, as a repair must not blind it for the next one
        etcd.delete("/skydns")
        same_keys(etcd, expected, 5)
        bridge.wait_ready(5)


def test_an_etcd_that_lost_its_data_is_full_again_within_ten_seconds(
    apiserver: ApiServer, etcd: Etcd, tmp_path: Path
) -> None:
    apiserver.apply_all(bulk(5))
    with running(tmp_path, apiserver.kubeconfig(), etcd) as bridge:
        expected = etcd.dump("/skydns")
        assert len(expected) >= 10_000
        pid = bridge.process.pid

        etcd.kill()
        wait_for(lambda: bridge.get("/readyz").status_code == 503, "readiness to be withdrawn", 10)
        shutil.rmtree(etcd.data)
        etcd.start()
        assert not bridge.ready() or len(etcd.dump("/skydns")) == len(expected)
        bridge.wait_ready(10)
        assert etcd.dump("/skydns") == expected
        assert bridge.process.pid == pid
        assert bridge.process.alive


def test_etcd_wiped_again_and_again_is_filled_each_time(
    apiserver: ApiServer, etcd: Etcd, tmp_path: Path
) -> None:
    apiserver.apply_all(services(20))
    with running(tmp_path, apiserver.kubeconfig(), etcd) as bridge:
        expected = etcd.dump("/skydns")
        # at once again: no watch stands for long, and the next loss is noticed none the later
        for _ in range(8):
            etcd.wipe()
            same_keys(etcd, expected, 10)
        bridge.wait_ready(5)


def test_changes_made_while_etcd_is_away_are_there_when_it_is_back(
    apiserver: ApiServer, etcd: Etcd, tmp_path: Path
) -> None:
    before = services(4)
    apiserver.apply_all(before)
    with running(tmp_path, apiserver.kubeconfig(), etcd) as bridge:
        etcd.kill()
        wait_for(lambda: not bridge.ready(), "readiness to be withdrawn", 10)
        apiserver.delete(before[0])
        apiserver.apply_all(services(6)[4:])
        assert bridge.get("/livez").status_code == 200
        etcd.start()
        bridge.wait_ready(10)
        wait_for(lambda: key_of(etcd, "s005"), "the new key", 5, not_yet=(StopIteration,))
        assert not keys_of(etcd, "s000")


def test_what_was_deleted_while_the_bridge_was_down_goes_at_its_start(
    apiserver: ApiServer, etcd: Etcd, tmp_path: Path
) -> None:
    before = services(8)
    apiserver.apply_all(before)
    with running(tmp_path, apiserver.kubeconfig(), etcd) as bridge:
        assert key_of(etcd, "s000")
        bridge.kill()
        apiserver.delete(before[0])
        bridge.start()
        bridge.wait_ready()
        assert not keys_of(etcd, "s000")
        assert key_of(etcd, "s001")
