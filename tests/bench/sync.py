"""First sync against a bare Go client that writes the same keys; start; a no-op resync."""

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from statistics import median

from tests.bench.measure import Bench, Row, Sync, cpu, first_sync, start_until_ready
from tests.bench.prepared import ClusterSize
from tests.stack.bridge import clean_environment, kube2etcd

#: The bare client's operations per transaction (etcd's limit) and transactions in flight.
GO_TRANSACTIONS = ("128", "8")
SMALL = ClusterSize(services=20, machines=10)


def idle(bench: Bench) -> tuple[list[float], float]:
    """Seconds from start to ready with few objects, several times, and the median CPU."""
    bench.api.fill(SMALL)
    seconds, costs = [], []
    with bench.etcd() as etcd:
        for _ in range(max(3, bench.rounds)):
            bridge = bench.bridge(etcd)
            began = time.monotonic()
            seconds.append(start_until_ready(bridge) - began)
            costs.append(cpu(bridge.pid))
            bridge.kill()
    return seconds, median(costs)


def start(bench: Bench) -> Iterator[Row]:
    """Seconds of a start, and of its imports."""
    seconds, _ = idle(bench)
    yield Row("start of `run` to ready, small cluster", "", median(seconds), 0.8, "s")
    imports = []
    for _ in range(5):
        began = time.monotonic()
        command = [sys.executable, "-c", "import kube2etcd.app.run, kube2etcd.cli"]
        subprocess.run(command, check=True, env=clean_environment())
        with_them = time.monotonic() - began
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        imports.append(with_them - (time.monotonic() - began))
    yield Row("imports of `run`", "", min(imports), 0.25, "s")


def first(bench: Bench) -> Iterator[Row]:
    """First syncs of VMIs, and of Services with their endpoints."""
    _, idle_cpu = idle(bench)
    divisor = 4 if bench.quick else 1
    question_sets = {
        "20,000 VMIs": ClusterSize(machines=20_000 // divisor),
        "5,000 Services + 50,000 endpoints": ClusterSize(services=5_000 // divisor),
    }
    for name, cluster in question_sets.items():
        name = f"{name} / {divisor}" if divisor > 1 else name
        yield from _beside_go_client(bench, name, cluster, idle_cpu)


def _beside_go_client(bench: Bench, name: str, cluster: ClusterSize, idle_cpu: float) -> Iterator[Row]:
    ours: list[Sync] = []
    theirs: list[dict[str, float]] = []
    resyncs: list[float] = []
    reads: list[float] = []
    for number in range(bench.rounds):
        with bench.etcd() as etcd:
            sync, bridge = first_sync(bench, cluster, idle_cpu, etcd)
            bridge.kill()
            file = str(bench.folder() / "entries")
            bench.run_go_client("dump", etcd.url, "/skydns", file)
            reads.append(bench.run_go_client("read", etcd.url, "/skydns")["seconds"])
            resyncs.append(_dry_run_seconds(bench, etcd.url))
        with bench.etcd() as etcd:
            before = cpu(etcd.pid)
            bare = bench.run_go_client("write", etcd.url, file, *GO_TRANSACTIONS)
            bare["etcd_cpu"] = cpu(etcd.pid) - before
        ours.append(sync)
        theirs.append(bare)
        bench.log(
            f"{name}, round {number + 1}: {sync.keys} keys in {sync.seconds:.2f} s"
            f" (Go {bare['seconds']:.2f}),"
            f" CPU a key {sync.cpu / sync.keys * 1e6:.1f} us, etcd's {sync.etcd_cpu / sync.keys * 1e6:.1f}"
            f" (Go {bare['cpu'] / sync.keys * 1e6:.1f}, etcd's {bare['etcd_cpu'] / sync.keys * 1e6:.1f}),"
            f" {sync.peak_mib:.0f} MiB; no-op resync {resyncs[-1]:.2f} s, one Range {reads[-1]:.2f}"
        )
    details = {"ours": [asdict(one) for one in ours], "go": theirs}
    speed = median(
        [run_go_client["seconds"] / one.seconds for one, run_go_client in zip(ours, theirs, strict=True)]
    )
    share = median([one.cpu / one.etcd_cpu for one in ours])
    yield Row(f"first sync, {name}", "a bare Go client, 128 x 8", speed, 0.6, at_least=True, details=details)
    yield Row(f"CPU a key, {name}", "etcd's", share, 1.0)
    ratio = median([ours / bare for ours, bare in zip(resyncs, reads, strict=True)])
    yield Row(
        f"no-op `resync --dry-run`, {name}",
        "one bare Range",
        ratio,
        3.0,
        details={"seconds": resyncs, "range": reads},
    )


def _dry_run_seconds(bench: Bench, etcd_url: str) -> float:
    """Seconds of a `resync --dry-run` that finds no difference."""
    where = ["--kube-master-url", bench.api.url, "--etcd-server", etcd_url, "--vm-domain", ""]
    began = time.monotonic()
    kube2etcd("resync", "--dry-run", *where)
    return time.monotonic() - began
