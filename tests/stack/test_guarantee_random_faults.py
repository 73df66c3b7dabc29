"""Changes all the time while etcd, the API server and the bridge die, hang and lose their data at random.

KUBE2ETCD_FAULT_SECONDS says how long (60), KUBE2ETCD_FAULT_SEED which one: a failing one can be replayed.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import requests

from tests.stack.faults import fresh_keys, running, same_keys
from tests.stack.harness import ApiServer, Etcd, KubeError, NotInTimeError, wait_for
from tests.stack.random_cluster import mutate, random_cluster

#: Within this time of the last fault the keys are those of a fresh start.
WITHIN = 20.0
FAULTS = (
    *("etcd wipe", "etcd kill", "etcd pause", "etcd keys"),
    *("api kill", "api pause", "bridge kill", "bridge pause"),
)


class Changing(threading.Thread):
    """Performs changes one after the other; those that meet a server that is away are lost."""

    def __init__(self, apiserver: ApiServer, seed: int) -> None:
        super().__init__(daemon=True)
        self.apiserver, self.seed = apiserver, seed
        self.ended = threading.Event()
        self.done = 0
        self.lost = 0

    def run(self) -> None:
        turn = self.seed
        while not self.ended.is_set():
            turn += 1
            for operation in mutate(turn, random_cluster(self.seed, 30), 100):
                if self.ended.wait(0.01):
                    return
                try:
                    if operation.verb == "apply":
                        self.apiserver.apply(operation.obj)
                    else:
                        self.apiserver.delete(operation.obj, wait=False)
                    self.done += 1
                except (KubeError, NotInTimeError, requests.RequestException):
                    self.lost += 1


def test_after_random_faults_the_keys_are_those_of_a_fresh_start(
    binaries: dict[str, Path],
    apiserver: ApiServer,
    etcd: Etcd,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seconds = float(os.environ.get("KUBE2ETCD_FAULT_SECONDS", "60"))
    seed = int(os.environ.get("KUBE2ETCD_FAULT_SEED") or random.randrange(1_000_000))
    rng = random.Random(seed)
    apiserver.apply_all(random_cluster(seed, 30))
    happened: Counter[str] = Counter()
    with (
        capsys.disabled(),
        running(tmp_path, apiserver.kubeconfig(), etcd, "--pods", "verified") as bridge,
    ):
        print(f"\nseed {seed}, {seconds:g} s")
        changing = Changing(apiserver, seed)
        changing.start()
        servers = {"etcd": etcd, "api": apiserver, "bridge": bridge}
        until = time.monotonic() + seconds
        try:
            while (left := until - time.monotonic()) > 0:
                what = rng.choice(FAULTS)
                happened[what] += 1
                who, fault = what.split()
                lasting = min(left, rng.uniform(0.0, 4.0))
                pause = threading.Event()
                if fault == "wipe":
                    etcd.wipe()
                elif fault == "keys":
                    with contextlib.suppress(RuntimeError):
                        keys = sorted(etcd.dump("/skydns"))
                        for key in rng.sample(keys, min(5, len(keys))):
                            etcd.put(key, rng.choice(["", "{}", "null", '{"host":"192.0.2.1"}', "\\"]))
                        if keys:
                            etcd.delete(rng.choice(keys))
                elif fault == "pause":
                    servers[who].pause()
                    pause.wait(lasting)
                    servers[who].resume()
                else:
                    servers[who].kill()
                    pause.wait(lasting)
                    servers[who].start()
                pause.wait(rng.uniform(0.0, 1.5))
        finally:
            for server in servers.values():
                server.resume()
            changing.ended.set()
            changing.join(60)
        for server in servers.values():
            if not server.alive:
                server.start()
        assert not changing.is_alive()
        expected = fresh_keys(tmp_path, binaries, apiserver.kubeconfig(), "--pods", "verified")
        took = same_keys(etcd, expected, WITHIN)
        wait_for(bridge.ready, "it to say so", 10, bridge.process)
        print(f"{dict(happened)}, {changing.done} changes, {changing.lost} lost, equal after {took:.1f} s")
        assert expected
        assert "Traceback" not in bridge.process.log.read_text()
