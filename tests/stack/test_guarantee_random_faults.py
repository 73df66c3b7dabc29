"""Continuous changes while etcd, the API server and the bridge die, hang and lose data at random.

KUBE2ETCD_FAULT_SECONDS is the duration (30), KUBE2ETCD_FAULT_SEED the seed, a number or ``random``, to replay
a run. It is fixed by default, so that a failure is due to the change under test.
"""

import contextlib
import gc
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.stack.bridge import kube2etcd
from tests.stack.etcd import EtcdctlError
from tests.stack.faults import Proxy, Run, keys_of_fresh_bridge, same_keys
from tests.stack.harness import ApiServer, Binaries, Bridge, DeadlineError, Etcd, KubeError, Server, wait_for
from tests.stack.known_differences import KNOWN
from tests.stack.pair import running_pair
from tests.stack.questions import questions
from tests.stack.random_cluster import mutate, random_cluster

# Read at import, as tests run without our variables.
SECONDS = float(os.environ.get("KUBE2ETCD_FAULT_SECONDS") or "30")
_SEED = os.environ.get("KUBE2ETCD_FAULT_SEED") or "625889"
SEED = random.randrange(1_000_000) if _SEED == "random" else int(_SEED)
#: When the API server is killed just as the proxy connects, ssl of Python 3.11 leaks the socket
#: (SSLSocket._create, with the peer gone).
LEAK = "ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"
#: Seconds from the last fault until the keys equal those of a new bridge.
CONVERGED_WITHIN = 20.0
FAULTS = (
    *("etcd wipe", "etcd kill", "etcd pause", "etcd keys", "etcd compact"),
    *("api kill", "api pause", "bridge kill", "bridge pause"),
    *("proxy cut", "proxy expire", "proxy wrong", "proxy wrong"),
)
LIST_FAULTS: tuple[dict[str, Any], ...] = (
    {"status": 403},
    {"status": 500},
    {"status": 410},
    {"status": 429, "headers": {"Retry-After": "1"}},
    {"truncate": True},
)
#: Seconds between empty lists: two in a row would confirm each other, so the first must have been refuted,
#: even with the server down in between.
EMPTY_LIST_PAUSE = 60.0
GARBAGE = ("", "{}", "null", "[", '{"host":"192.0.2.1"}', "\\")
OPTIONS = ("--endpoint-names", "all", "--pods", "verified", "--ttl", "30")
ELECT = ("--leader-elect",)


class ApiChanges(threading.Thread):
    """Makes changes in sequence; those that fail with the API server are lost."""

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
                    operation.perform(self.apiserver, wait=False)
                    self.done += 1
                except (KubeError, DeadlineError, requests.RequestException):
                    self.lost += 1


class FaultInjector:
    """Injects random faults in sequence."""

    def __init__(
        self, rng: random.Random, apiserver: ApiServer, proxy: Proxy, etcd: Etcd, bridges: Sequence[Bridge]
    ) -> None:
        self.rng, self.proxy, self.etcd, self.bridges = rng, proxy, etcd, bridges
        self.servers: dict[str, Sequence[Server]] = {"etcd": [etcd], "api": [apiserver], "bridge": bridges}
        self.happened: Counter[str] = Counter()
        self.empty_at = -EMPTY_LIST_PAUSE
        self.foreign: set[tuple[str, str]] = set()

    def run(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        pause = threading.Event()
        try:
            while (left := until - time.monotonic()) > 0:
                for bridge in self.bridges:
                    assert bridge.alive, f"the bridge has exited: {bridge.log_tail()}"
                what = self.rng.choice(FAULTS)
                self.happened[what] += 1
                self.fault(*what.split(), lasting=min(left, self.rng.uniform(0.0, 4.0)))
                pause.wait(self.rng.uniform(0.0, 1.5))
        finally:
            self.mend()

    def mend(self) -> None:
        """End all faults and start all servers."""
        self.proxy.mend()
        for server in (one for several in self.servers.values() for one in several):
            server.resume()
            if not server.alive:
                server.start()

    def fault(self, who: str, what: str, *, lasting: float) -> None:
        if who == "proxy":
            self.proxy_fault(what)
        elif what == "wipe":
            self.etcd.wipe()
        elif what == "keys":
            with contextlib.suppress(EtcdctlError):
                self.change_keys()
        elif what == "compact":
            with contextlib.suppress(EtcdctlError):
                self.etcd.ctl("compact", str(self.etcd.revision()))
        else:
            server = self.rng.choice(self.servers[who])
            away, back = (server.pause, server.resume) if what == "pause" else (server.kill, server.start)
            away()
            threading.Event().wait(lasting)
            back()

    def proxy_fault(self, what: str) -> None:
        if what == "wrong":
            resource = self.rng.choice(("*", "services", "namespaces", "endpointslices", "pods"))
            how = {"times": self.rng.randint(1, 3), **self.rng.choice(LIST_FAULTS)}
            if self.rng.random() < 0.2 and time.monotonic() > self.empty_at + EMPTY_LIST_PAUSE:
                how = {"empty": True, "times": 1}
                self.empty_at = time.monotonic()
            self.proxy.mend()
            self.proxy.fault(resource, **how)
        with self.proxy.lock:
            if what != "cut":
                self.proxy.expired |= set(self.proxy.watches)
        self.proxy.break_watches()

    def change_keys(self) -> None:
        keys = sorted(self.etcd.dump("/skydns"))
        for key in self.rng.sample(keys, min(5, len(keys))):
            value = self.rng.choice(GARBAGE)
            self.foreign.add((key, value))
            self.etcd.put(key, value)
        if keys:
            self.etcd.delete(self.rng.choice(keys))


def unknown_differences(
    binaries: Binaries, directory: Path, apiserver: ApiServer, etcd: Etcd, bridge: Bridge
) -> list[str]:
    """Differences from the kubernetes plugin's answers that are not known."""
    with running_pair(binaries, directory, apiserver, etcd, bridge=bridge) as pair:
        pair.catch_up()
        report = pair.compare(questions(pair.objects()))
    unknown = (one for one in report.found if not any(known.covers(one) for known in KNOWN))
    return [str(difference) for difference in unknown]


@pytest.mark.filterwarnings(LEAK)
@pytest.mark.parametrize("elect", [False, True], ids=["alone", "elected"])
def test_keys_and_answers_converge_after_random_faults(
    elect: bool,
    binaries: Binaries,
    apiserver: ApiServer,
    etcd: Etcd,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    proxy: Proxy,
    run: Run,
) -> None:
    seconds, seed = SECONDS, SEED
    apiserver.apply_all(random_cluster(seed, 30))
    with capsys.disabled():
        bridges = [
            run(*OPTIONS, *options, kubeconfig=proxy.kubeconfig, name=name)
            for name, options in ([("first", ELECT), ("second", ELECT)] if elect else [("kube2etcd", ())])
        ]
        print(f"\nseed {seed}, {seconds:g} s")
        mutator = ApiChanges(apiserver, seed)
        injector = FaultInjector(random.Random(seed), apiserver, proxy, etcd, bridges)
        mutator.start()
        try:
            injector.run(seconds)
        finally:
            mutator.ended.set()
            mutator.join(60)
        assert not mutator.is_alive()
        expected = keys_of_fresh_bridge(tmp_path, binaries, apiserver.kubeconfig(), *OPTIONS)
        # A value that was put while no bridge watched, at a name that is gone since, is foreign (G6): nothing
        # shows that it was not always there. It is reported, and `resync --prune-foreign` deletes it.
        took = same_keys(etcd, expected, CONVERGED_WITHIN, injector.foreign)
        left = etcd.dump("/skydns").keys() - expected.keys()
        for bridge in bridges:
            counted = partial(bridge.metric, "kube2etcd_foreign_keys")
            wait_for(lambda counted=counted: counted() == len(left), "foreign keys to be counted", 10)  # type: ignore[misc]
        if left:
            api = ("--kubeconfig", str(apiserver.kubeconfig()))
            kube2etcd("resync", "--prune-foreign", *api, "--etcd-server", etcd.url, *OPTIONS)
            same_keys(etcd, expected, CONVERGED_WITHIN)
        for bridge in bridges:
            wait_for(bridge.ready, "readiness", 10, bridge)
        changes = f"{mutator.done} changes, {mutator.lost} lost"
        print(f"{dict(injector.happened)}, {changes}, equal after {took:.1f} s, {len(left)} foreign keys")
        assert expected
        wait_for(lambda: sum(bridge.metric("kube2etcd_leader") for bridge in bridges) == 1, "one leader", 10)
        gc.collect()  # report leaked sockets here, not in a later test
        different = unknown_differences(binaries, tmp_path, apiserver, etcd, bridges[0])
        assert not different, "\n".join(different)
