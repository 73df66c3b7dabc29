"""How many bytes the bridge reads from the API server, beside a client that lists everything at each change.

Bytes are counted on the wire of one API server with the same objects; they depend on the objects, their
ratio hardly does.
"""

from collections.abc import Iterator
from contextlib import closing

from tests.bench.measure import Bench, Row
from tests.bench.prepared import PATHS
from tests.stack.faults import Tunnel
from tests.stack.harness import LOOPBACK, ApiServer, Bridge, Object, http, wait_for
from tests.stack.objects import endpoints, namespace, nic, pod, service, vmi

NAMESPACES = 20
CHANGES = 100


def reads(bench: Bench) -> Iterator[Row]:
    """500 Services with slices, 2,000 pods of which half have ended, 50 machines."""
    with bench.apiserver() as api:
        api.apply_all(cluster(500, 2000))
        first, later = _lists(api)
        bench.say(f"everything listed, compressed: {first:,} bytes, {later:,} for {CHANGES} changes")
        for name, options in (("", ()), (" with --pods verified", ("--pods", "verified"))):
            ours, ours_later = _bridge(bench, api, *options)
            details = {"first": [ours, first], "later": [ours_later, later]}
            against = "all listed, compressed"
            yield Row(f"bytes read until ready{name}", against, ours / first, 1.0, details=details)
            yield Row(f"bytes read for {CHANGES} changes{name}", against, ours_later / later, 0.01)


def cluster(services: int, pods: int) -> Iterator[Object]:
    """Objects with labels and annotations as a cluster's have them."""
    yield from (namespace(f"ns-{number}") for number in range(NAMESPACES))
    for number in range(services):
        name, place = f"service-{number}", f"ns-{number % NAMESPACES}"
        labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/managed-by": "Helm"}
        yield service(name, place, labels=labels, annotations={"example.com/note": "n" * 200})
        yield endpoints(name, f"172.16.{number // 250}.{number % 250 + 1}", namespace=place)
    for number in range(pods):
        address = f"172.20.{number // 250}.{number % 250 + 1}"
        phase = "Running" if number % 2 else "Succeeded"
        yield pod(f"pod-{number}", address, namespace=f"ns-{number % NAMESPACES}", phase=phase)
    for number in range(services // 10):
        address = f"10.10.{number // 250}.{number % 250}"
        yield vmi(f"ns-{number % NAMESPACES}", f"vm-{number}", nic("nic1", address))


def _taken(tunnel: Tunnel) -> int:
    count, tunnel.bytes_back = tunnel.bytes_back, 0
    return count


def _lists(api: ApiServer) -> tuple[int, int]:
    """At first, and for all changes, of a client without pages, watches and selectors."""
    headers = {"Authorization": f"Bearer {api.token}", "Accept-Encoding": "gzip"}
    with closing(Tunnel(api.port)) as tunnel:
        for path in PATHS.values():
            url = f"https://{LOOPBACK}:{tunnel.port}{path}"
            http("GET", url, headers=headers, verify=str(api.ca_file), timeout=60).raise_for_status()
        first = _taken(tunnel)
        return first, first * CHANGES


def _bridge(bench: Bench, api: ApiServer, *options: str) -> tuple[int, int]:
    """At first, and for all changes, of the bridge."""
    with bench.etcd() as etcd, closing(Tunnel(api.port)) as tunnel:
        server = {"server": f"https://{LOOPBACK}:{tunnel.port}"}
        kubeconfig = api.kubeconfig(cluster=server, name="counted")
        where = ["--kubeconfig", str(kubeconfig), "--etcd-server", etcd.url, "--vm-domain", ""]
        with Bridge(bench.folder(), [*where, *options]) as bridge:
            bridge.wait_ready()
            first, before = _taken(tunnel), written(bridge)
            for number in range(CHANGES):
                path = api.path("v1", "Service", f"ns-{number % NAMESPACES}", f"service-{number}")
                # a number that no former bridge has seen
                ports = [{"name": "http", "port": tunnel.port}]
                api.patch(path, {"spec": {"ports": ports}})
            wait_for(lambda: written(bridge) >= before + CHANGES, "the changes", 60, bridge)
            return first, _taken(tunnel)


def written(bridge: Bridge) -> float:
    return bridge.metrics()['kube2etcd_writes_total{op="put"}']
