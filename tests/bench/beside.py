"""Against CoreDNS's kubernetes plugin on a real API server: start, memory, latency of a change."""

import contextlib
import time
from collections.abc import Callable, Iterator
from statistics import median

from tests.bench.measure import Bench, DnsClient, Row, memory, p95, start_until_ready
from tests.bench.prepared import (
    CLUSTER,
    VERSIONS,
    ClusterSize,
    Object,
    endpoint_slice,
    machine,
    name_of,
    service,
)
from tests.bench.scale import machine_change, our_coredns, slice_change
from tests.stack import objects
from tests.stack.coredns import plugin_corefile
from tests.stack.harness import ApiServer, Bridge, CoreDns, Etcd

_SERVER_FIELDS = ("uid", "resourceVersion", "creationTimestamp", "managedFields")


def writable(kind: str, one: Object) -> Object:
    """The object without the fields that the API server sets."""
    metadata = {key: value for key, value in one["metadata"].items() if key not in _SERVER_FIELDS}
    return one | {"apiVersion": VERSIONS.get(kind, "v1"), "kind": kind, "metadata": metadata}


def beside(bench: Bench) -> Iterator[Row]:
    """2,000 Services with 20,000 endpoints and 5,000 VMIs; then 10,000 Services, 100,000 endpoints."""
    divisor = 4 if bench.quick else 1
    with bench.apiserver() as api:
        cluster = ClusterSize(services=2_000 // divisor, machines=5_000 // divisor)
        apply(bench, api, cluster, range(cluster.services), range(cluster.machines))
        services, machines = cluster.services, cluster.machines
        name = f"{services:,} Services, {services * 10:,} endpoints, {machines:,} VMIs"
        yield from _ready(bench, api, name)
        yield from _latency(bench, api)
        yield from _burst(bench, api)
        larger = ClusterSize(services=10_000 // divisor)
        apply(bench, api, larger, range(cluster.services, larger.services), range(0))
        yield from _peak(bench, api, f"{larger.services:,} Services, {larger.services * 10:,} endpoints")


def apply(bench: Bench, api: ApiServer, cluster: ClusterSize, services: range, machines: range) -> None:
    began = time.monotonic()
    lists = cluster.lists()
    api.apply_all(writable("Namespace", one) for one in lists["Namespace"])
    api.apply_all(writable("Service", service(number)) for number in services)
    api.apply_all(writable("EndpointSlice", endpoint_slice(number, cluster.endpoints)) for number in services)
    api.apply_all(writable("VirtualMachineInstance", machine(number)) for number in machines)
    bench.log(f"{2 * len(services) + len(machines):,} objects created in {time.monotonic() - began:.0f} s")


def _bridge(bench: Bench, api: ApiServer, etcd: Etcd, *options: str) -> Bridge:
    where = ["--kubeconfig", str(api.kubeconfig()), "--etcd-server", etcd.url, "--vm-domain", ""]
    return Bridge(bench.folder(), [*where, *options])


def _plugin(bench: Bench, api: ApiServer) -> CoreDns:
    text = plugin_corefile(f"kubeconfig {api.kubeconfig()}")
    return CoreDns(bench.folder(), bench.programs, text, name="plugin")


def _start_plugin(server: CoreDns) -> float:
    """Start it; returns the seconds to its first answer (before all lists are complete it says SERVFAIL)."""
    began = time.monotonic()
    server.start()
    with contextlib.closing(DnsClient(server.port)) as client:
        client.until(name_of(0), "172.0.0.2", 120)
    return time.monotonic() - began


def _ready(bench: Bench, api: ApiServer, name: str) -> Iterator[Row]:
    ours, theirs = [], []
    for _ in range(bench.rounds):
        with bench.etcd() as etcd:
            bridge, server = _bridge(bench, api, etcd), _plugin(bench, api)
            try:
                began = time.monotonic()
                seconds = start_until_ready(bridge) - began
                ours.append((seconds, memory(bridge.pid)[1]))
                bridge.kill()
                theirs.append((_start_plugin(server), memory(server.pid)[1]))
            finally:
                bridge.kill()
                server.kill()
        bench.log(
            f"{name}: ready {ours[-1][0]:.2f} s (the plugin, without the VMIs, {theirs[-1][0]:.2f}), "
            f"{ours[-1][1]:.0f} MiB ({theirs[-1][1]:.0f})"
        )
    details = {"ours": ours, "plugin": theirs}
    for number, what in ((0, "ready"), (1, "memory until ready")):
        ratio = median([one[number] for one in ours]) / median([one[number] for one in theirs])
        yield Row(f"{what}: {name}", "the kubernetes plugin, no VMIs", ratio, 1.2, details=details)


@contextlib.contextmanager
def both_ready(bench: Bench, api: ApiServer, *options: str) -> Iterator[tuple[Bridge, CoreDns, CoreDns]]:
    """The bridge, its CoreDNS and the plugin, all ready."""
    with bench.etcd() as etcd:
        bridge, ours, plugin = (
            _bridge(bench, api, etcd, *options),
            our_coredns(bench, etcd),
            _plugin(bench, api),
        )
        try:
            start_until_ready(bridge)
            ours.start()
            _start_plugin(plugin)
            yield bridge, ours, plugin
        finally:
            for one in (bridge, ours, plugin):
                one.kill()


def _latency(bench: Bench, api: ApiServer) -> Iterator[Row]:
    """Ours and the plugin take turns: concurrent clients would slow each other."""
    rounds = 60 if bench.quick else 200
    with both_ready(bench, api) as (_, ours, plugin):
        for kind in ("EndpointSlice", "Service", "VirtualMachineInstance"):
            times: dict[str, list[float]] = {"ours": [], "plugin": []}
            for turn in range(2 * rounds):
                who = "plugin" if turn % 2 and kind != "VirtualMachineInstance" else "ours"
                act, name, address = _change(api, kind, turn)
                with contextlib.closing(DnsClient((plugin if who == "plugin" else ours).port)) as client:
                    client.ask(name)
                    began = time.monotonic()
                    act()
                    client.until(name, address)
                    times[who].append((time.monotonic() - began) * 1000)
            mine, its = times["ours"], times["plugin"]
            bench.log(
                f"{kind} changed: {median(mine):.1f} ms, p95 {p95(mine):.1f}"
                + (f"; the plugin {median(its):.1f}, p95 {p95(its):.1f}" if its else "")
            )
            what, details = f"p95 from API to answer, {kind}", {"ours": mine, "plugin": its}
            if its:
                yield Row(what, "the kubernetes plugin", p95(mine) / p95(its), 1.4, details=details)
            else:
                yield Row(what, "", p95(mine), 250.0, "ms", details=details)


def _burst(bench: Bench, api: ApiServer) -> Iterator[Row]:
    """1,000 Services at once: from the last creation to the last answer."""
    times: dict[str, list[float]] = {"ours": [], "plugin": []}
    with both_ready(bench, api) as (_, ours, plugin):
        for turn in range(2 * bench.rounds):
            who, server = ("plugin", plugin) if turn % 2 else ("ours", ours)
            place = f"burst-{turn}"
            api.apply(objects.namespace(place))
            api.apply_all(objects.service(f"s{at}", place) for at in range(1000))
            created = time.monotonic()
            with contextlib.closing(DnsClient(server.port)) as client:
                answered = client.until_all([f"s{at}.{place}.{CLUSTER}" for at in range(1000)])
            times[who].append(answered - created)
            api.delete_namespace(place)
    mine, its = (median(each) for each in times.values())
    bench.log(f"1,000 Services at once: {mine:.2f} s after the last creation, the plugin {its:.2f} s")
    yield Row("1,000 Services at once, from the last one to its answer", "", mine, 2.0, "s", details=times)


def _change(api: ApiServer, kind: str, turn: int) -> tuple[Callable[[], object], str, str]:
    """A change through the API: the function that makes it, the name that shows it, and its new address."""
    number, generation = turn % 400, 1 + turn // 400
    if kind == "Service":
        # A new Service: a headless one cannot get an address, and port numbers show in no address.
        name, address = f"new-{turn}", f"10.0.{200 + turn // 250}.{turn % 250 + 1}"
        new = objects.service(name, "bench-0", clusterIP=address)
        return lambda: api.apply(new), f"{name}.bench-0.{CLUSTER}", address
    if kind == "EndpointSlice":
        changed, shows, address = slice_change(number, 10, generation)
        part = "endpoints"
    else:
        changed, shows, address = machine_change(number, generation)
        part = "status"
    one = changed[kind]
    path = api.path(VERSIONS[kind], kind, "bench-0", one["metadata"]["name"])
    return lambda: api.patch(path, {part: one[part]}), shows, address


def _peak(bench: Bench, api: ApiServer, name: str) -> Iterator[Row]:
    with both_ready(bench, api, "--resync-period", "5") as (bridge, _, plugin):
        bridge.full_passes(2, 150)
        ours, theirs = memory(bridge.pid), memory(plugin.pid)
    bench.log(f"{name}: {ours[1]:.0f} MiB at most, relists included; the plugin {theirs[1]:.0f}")
    what, details = f"memory at most: {name}, relists included", {"ours": ours, "plugin": theirs}
    yield Row(what, "the kubernetes plugin", ours[1] / theirs[1], 1.0, details=details)
