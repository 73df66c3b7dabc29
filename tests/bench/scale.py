"""Cost by cluster size, from 1,000 to 100,000 objects: first sync, memory, latency of a change."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

import yaml

from tests.bench.measure import (
    Bench,
    DnsClient,
    Row,
    cpu,
    dnsperf,
    first_sync,
    memory,
    p95,
    start_until_ready,
)
from tests.bench.prepared import (
    PAGE_SIZE,
    ClusterSize,
    Object,
    endpoint_slice,
    machine,
    name_of,
    namespace,
    service,
)
from tests.bench.sync import idle
from tests.stack.coredns import coredns_for
from tests.stack.harness import CoreDns, Etcd

#: An empty zone that depends on Namespace labels.
ZONES = {"zones": [{"zone": "bench.example", "namespace_selector": "bench=yes"}]}
#: Seconds after which a change under churn counts as lost.
LATE = 10.0


def our_coredns(bench: Bench, etcd: Etcd, *options: str) -> CoreDns:
    """CoreDNS that serves the bridge's keys, without a cache."""
    return coredns_for(bench.folder(), bench.programs, "--etcd-server", etcd.url, "--vm-domain", "", *options)


#: Changed objects by kind, the name that shows the change, and its new address.
Change = tuple[dict[str, Object], str, str]


def slice_change(number: int, endpoints: int, generation: int) -> Change:
    one = endpoint_slice(number, endpoints, generation)
    return {"EndpointSlice": one}, name_of(number), one["endpoints"][0]["addresses"][0]


def machine_change(number: int, generation: int) -> Change:
    one = machine(number, generation)
    address = one["status"]["interfaces"][1]["ipAddresses"][0]
    return {"VirtualMachineInstance": one}, f"nic1.vm-{number}.bench-{number // PAGE_SIZE}.vm.", address


def changes(endpoints: int) -> dict[str, Callable[[int], Change]]:
    """Changes by kind; each turn changes another object."""

    def of_service(turn: int) -> Change:
        number, address = turn + 100, f"10.200.0.{turn + 1}"
        return {"Service": service(number, address)}, name_of(number), address

    def of_namespace(turn: int) -> Change:
        changed, name, address = slice_change(turn, endpoints, 2)
        return {"Namespace": namespace(1, turn=str(turn)), **changed}, name, address

    return {
        "slice": lambda turn: slice_change(turn, endpoints, 1),
        "Service": of_service,
        "VMI": lambda turn: machine_change(turn, 1),
        "Namespace": of_namespace,
    }


def latencies(bench: Bench, client: DnsClient, kind: Callable[[int], Change], rounds: int) -> list[float]:
    """Milliseconds from each event to its answer."""
    found = []
    for turn in range(rounds):
        changed, name, address = kind(turn)
        client.ask(name)
        for each, one in changed.items():
            bench.api.event(each, one)
        found.append(client.until(name, address))
    return found


def scale(bench: Bench) -> Iterator[Row]:
    """Sync and latencies at each size, and the ratio of the largest to the smallest."""
    sizes = (1_000, 10_000) if bench.quick else (1_000, 10_000, 100_000)
    rounds = 50 if bench.quick else 90
    _, idle_cpu = idle(bench)
    found: dict[str, dict[int, float]] = {}
    for size in sizes:
        # Two thirds of the objects are Services and their slices of two endpoints, the rest VMIs.
        cluster = ClusterSize(services=size // 3, machines=size - size // 3 * 2, endpoints=2)
        with contextlib.ExitStack() as exits:
            etcd = exits.enter_context(bench.etcd())
            config = bench.folder() / "settings.yaml"
            config.write_text(yaml.safe_dump(ZONES))
            sync, bridge = first_sync(bench, cluster, idle_cpu, etcd, "--config", str(config))
            exits.callback(bridge.kill)
            dns_server = exits.enter_context(our_coredns(bench, etcd, "--config", str(config)))
            client = exits.enter_context(contextlib.closing(DnsClient(dns_server.port)))
            for name, value in asdict(sync).items():
                found.setdefault(name, {})[size] = value
            for name, kind in changes(cluster.endpoints).items():
                times = latencies(bench, client, kind, rounds)
                found.setdefault(f"p95 {name}", {})[size] = p95(times)
                bench.log(f"{size:,} objects, {name}: median {median(times):.1f} ms, p95 {p95(times):.1f}")
        bench.log(
            f"{size:,} objects: {sync.keys:,} keys in {sync.seconds:.2f} s, {sync.peak_mib:.0f} MiB at most"
        )
    for name in ("slice", "Service", "VMI", "Namespace"):
        values = found[f"p95 {name}"]
        ratio = values[sizes[-1]] / values[sizes[0]]
        yield Row(
            f"p95 of a {name}'s change, {sizes[-1]:,} objects",
            f"itself at {sizes[0]:,}",
            ratio,
            1.2,
            details={"ms": values},
        )
    yield from fit(found, sizes)


def fit(found: dict[str, dict[int, float]], sizes: Sequence[int]) -> Iterator[Row]:
    """The cost per object from the two smallest sizes, and how well it predicts the largest."""
    for name, what in (
        ("keys", "keys"),
        ("cpu", "CPU"),
        ("etcd_cpu", "etcd's CPU"),
        ("seconds", "time of a first sync"),
        ("peak_mib", "memory at most"),
    ):
        values = found[name]
        small, larger, largest = sizes[0], sizes[1], sizes[-1]
        each = (values[larger] - values[small]) / (larger - small)
        predicted = values[small] + each * (largest - small)
        yield Row(
            f"{what} of an object, predicted from {larger:,} for {largest:,}",
            "as measured",
            values[largest] / predicted,
            1.2,
            details={"each": each, "values": values},
        )


def memory_of_machines(bench: Bench) -> Iterator[Row]:
    """The peak memory of a sync of 100,000 VMIs, relists included."""
    count = 10_000 if bench.quick else 100_000
    bench.api.fill(ClusterSize(machines=count))
    with bench.etcd() as etcd, bench.bridge(etcd, "--resync-period", "5") as bridge:
        bridge.wait_ready(150)
        bridge.full_passes(2, 150)
        now, peak = memory(bridge.pid)
    bench.log(f"{count:,} VMIs: {now:.0f} MiB, {peak:.0f} at most")
    yield Row(
        f"memory at most, {count:,} VMIs, relists included", "", peak, 160.0, "MiB", details={"now": now}
    )


def questions(bench: Bench) -> Iterator[Row]:
    """Queries per second after a full sync, against the same etcd restarted."""
    cluster = ClusterSize(services=2_000 if bench.quick else 5_000)
    for old in (False, True):
        version = "3.4" if old else "3.7"
        bench.api.fill(cluster)
        with bench.etcd(old) as etcd:
            bridge = bench.bridge(etcd)
            start_until_ready(bridge)
            names = bench.folder() / "names"
            names.write_text("".join(f"{name_of(at)} A\n" for at in range(cluster.services)))
            fresh = [_rate(bench, etcd, names) for _ in range(bench.rounds)]
            bridge.kill()
            etcd.restart()
            restarted = [_rate(bench, etcd, names) for _ in range(bench.rounds)]
        bench.log(f"etcd {version}: {median(fresh):,.0f} questions/s, restarted {median(restarted):,.0f}")
        yield Row(
            f"questions/s after a full sync, etcd {version}",
            "the same etcd restarted",
            median(fresh) / median(restarted),
            0.95,
            at_least=True,
            details={"fresh": fresh, "restarted": restarted},
        )


def _rate(bench: Bench, etcd: Etcd, names: Path) -> float:
    with our_coredns(bench, etcd) as server:
        return dnsperf(server.port, names, 5)[0]


def churn(bench: Bench) -> Iterator[Row]:
    """1,000 endpoint changes per second: latency of one more, CPU and memory."""
    cluster = ClusterSize(services=2_000 if bench.quick else 10_000, endpoints=2)
    seconds, rate = (30.0 if bench.quick else 600.0), 1000.0
    compacted = ["--auto-compaction-mode=revision", "--auto-compaction-retention=1000"]
    with contextlib.ExitStack() as exits:
        etcd = exits.enter_context(bench.etcd(extra=compacted))
        bench.api.fill(cluster)
        bridge = bench.bridge(etcd)
        exits.callback(bridge.kill)
        start_until_ready(bridge)
        dns_server = exits.enter_context(our_coredns(bench, etcd))
        client = exits.enter_context(contextlib.closing(DnsClient(dns_server.port)))
        before, (first, _) = cpu(bridge.pid), memory(bridge.pid)
        bench.api.churn(cluster, rate, seconds)
        times: list[float] = []
        sizes: list[float] = []
        last = cluster.services - 1
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            changed, name, address = slice_change(last, cluster.endpoints, len(times) % 60 + 1)
            bench.api.event("EndpointSlice", changed["EndpointSlice"])
            # If the bridge falls behind, the wait is bounded.
            times.append(client.until(name, address, LATE, or_else=LATE * 1000))
            sizes.append(memory(bridge.pid)[0])
            time.sleep(0.25)
        bench.api.wait()
        used = (cpu(bridge.pid) - before) / seconds
        store = sum(file.stat().st_size for file in etcd.data.rglob("db")) / 2**20
    middle = sizes[len(sizes) // 2 :]
    details = {"cpu": used, "mib": [first, sizes[-1]], "etcd_mib": store, "most_ms": max(times)}
    bench.log(
        f"churn: median {median(times):.0f} ms, p95 {p95(times):.0f}, {used:.0%} of a core, "
        f"{first:.0f} to {sizes[-1]:.0f} MiB, etcd's file {store:.0f} MiB"
    )
    name = f"{rate:,.0f} endpoint changes/s for {seconds:.0f} s, {cluster.services:,} Services"
    yield Row(f"{name}: p95 of one more", "", p95(times) / 1000, 1.0, "s", details=details)
    yield Row(f"{name}: memory at the end", "half-way", sizes[-1] / middle[0], 1.1)
