"""Memory of the bridge with many Services, a full pass included, beside CoreDNS's own kubernetes plugin.

``python -m tests.bench.memory [--count 10000]``.  Both follow the same API server: N Services of two ports,
each with a slice of ten endpoints.  Resident memory when ready, and the highest there was by then and after
passes that list everything anew.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.stack.bridge import Bridge
from tests.stack.build import BRIDGE
from tests.stack.harness import ApiServer, BuildError, CoreDns, Etcd, binaries, wait_for

#: Seconds between full passes here: several of them are in the highest figure.
RESYNC = 5
PASSES = 3
ENDPOINTS = 10
#: Services of one namespace.
EACH = 500
#: What keeps the same objects in mind and answers from them.
PLUGIN = """
.:{{port}} {{
    bind 127.0.0.1
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {}
        pods insecure
    }}
}}
"""


def objects(count: int) -> Iterator[list[dict[str, Any]]]:
    """Namespaces first, then Services with their slices."""
    yield [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"bench-{number}"}}
        for number in range(-(-count // EACH))
    ]
    yield [_service(number) for number in range(count)]
    yield [_slice(number) for number in range(count)]


def _metadata(number: int, **labels: str) -> dict[str, Any]:
    return {"name": f"service-{number}", "namespace": f"bench-{number // EACH}", "labels": labels}


def _service(number: int) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80}, {"name": "https", "port": 443}]
    return {"apiVersion": "v1", "kind": "Service", "metadata": _metadata(number), "spec": {"ports": ports}}


def _slice(number: int) -> dict[str, Any]:
    name = {"kubernetes.io/service-name": f"service-{number}"}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": _metadata(number, **name),
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": [f"172.{16 + number // 4096}.{number // 16 % 256}.{number % 16 * 16 + each}"]}
            for each in range(ENDPOINTS)
        ],
    }


def memory(pid: int) -> tuple[float, float]:
    """Resident memory of a process in MiB, now and at its highest."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.startswith("Vm")}
    return found["VmRSS"], found["VmHWM"]


def run(count: int) -> None:
    """Start the servers, fill the cluster, measure, stop the servers."""
    programs = binaries(names=BRIDGE)
    with tempfile.TemporaryDirectory(prefix="kube2etcd-bench-") as folder:
        directory = Path(folder)
        api_etcd, etcd = Etcd(directory, programs, name="api-etcd"), Etcd(directory, programs)
        api = ApiServer(directory / "apiserver", programs, api_etcd.url)
        config = api.kubeconfig
        bridge: Bridge | None = None
        plugin: CoreDns | None = None
        try:
            for server in (api_etcd, etcd, api):
                server.start()
            began = time.monotonic()
            for some in objects(count):
                api.apply_all(some)
            print(
                f"{count} Services with {ENDPOINTS} endpoints each made in {time.monotonic() - began:.0f} s"
            )
            arguments = ["--etcd-server", etcd.url, "--kubeconfig", str(config()), "--pods", "insecure"]
            bridge = Bridge(directory, [*arguments, "--resync-period", str(RESYNC)])
            bridge.start()
            bridge.wait_ready(120)
            ready, first = memory(bridge.process.pid)
            running = bridge

            def passed() -> bool:
                return running.metrics()["kube2etcd_resync_duration_seconds_count"] > PASSES

            wait_for(passed, f"{PASSES} full passes", 120)
            _, highest = memory(bridge.process.pid)
            plugin = CoreDns(directory, programs, PLUGIN.format(config()), name="plugin")
            plugin.start()
            theirs, theirs_highest = memory(plugin.process.pid)
        finally:
            api.close()
            for one in (bridge, plugin, api, etcd, api_etcd):
                if one is not None:
                    one.kill()
    print(f"the bridge: {ready:.0f} MiB when ready, {first:.0f} at most until then")
    print(
        f"            {highest:.0f} at most after {PASSES} passes, {highest * 1024 / count:.1f} KiB a Service"
    )
    print(f"the kubernetes plugin: {theirs:.0f} MiB when ready, {theirs_highest:.0f} at most")
    print(f"ratio of the highest: {highest / theirs_highest:.2f}")


def main(arguments: Sequence[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.memory", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    given = parser.parse_args(arguments)
    try:
        run(given.count)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
