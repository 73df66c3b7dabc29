"""An API server that hangs, restarts or fails, and half-open connections: answers stay, changes arrive."""

import itertools
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from kube2etcd.kube.client import ApiConnection
from kube2etcd.kube.objects import KINDS, Changed, Failing, Listed
from kube2etcd.kube.reflector import Reflector
from kube2etcd.settings import Cluster
from kube2etcd.sync.events import EventQueue
from tests.stack.faults import Fault, Proxy, Run, Tunnel, create_and_wait, keys_of, wait_for_keys
from tests.stack.harness import SLOW, ApiServer, Binaries, CoreDns, Etcd, wait_for
from tests.stack.objects import service, services


def test_answers_and_readiness_survive_a_hung_api_server(
    apiserver: ApiServer, dns: CoreDns, run: Run
) -> None:
    bridge = run(objects=services(3))
    name = "s001.default.svc.cluster.local."
    wait_for(lambda: dns.addresses(name), "the answer", 10)
    expected = dns.addresses(name)
    apiserver.pause()
    until = time.monotonic() + 3
    while time.monotonic() < until:
        assert dns.addresses(name) == expected
        assert bridge.ready()
    apiserver.resume()
    apiserver.apply(service("later"))
    wait_for(lambda: dns.addresses("later.default.svc.cluster.local."), "the new name", 10)


def test_watch_events_are_not_buffered(apiserver: ApiServer, etcd: Etcd, run: Run) -> None:
    run()
    delays = []
    for number in range(20):
        began = time.monotonic()
        create_and_wait(apiserver, etcd, f"quick{number}")
        delays.append(time.monotonic() - began)
    # A line that waits for a buffer to fill takes seconds; on a slow machine it takes tenths.
    assert sorted(delays)[10] < 0.25 * SLOW


def test_watch_resumes_after_a_restart(apiserver: ApiServer, etcd: Etcd, proxy: Proxy, run: Run) -> None:
    bridge = run(kubeconfig=proxy.kubeconfig, objects=services(3))
    listed = bridge.metric("kube2etcd_lists_total", kind="services")
    before = etcd.dump("/skydns")
    apiserver.kill()
    bridge.wait_readyz("stale", 15)
    assert bridge.ready()
    assert etcd.dump("/skydns") == before
    apiserver.start()
    create_and_wait(apiserver, etcd, "later", 40)
    wait_for(lambda: "stale" not in bridge.readyz(), "the watches to be current", 40)
    more = bridge.metric("kube2etcd_lists_total", kind="services") - listed
    assert more == proxy.gone["services"], "relisted only after 410 Gone"


def test_new_cluster_at_the_same_address_is_listed(
    binaries: Binaries, etcd: Etcd, run: Run, tmp_path: Path
) -> None:
    """A recreated cluster or restored backup, where a watch from the old version would stay silent."""
    data = Etcd(tmp_path / "data", binaries, name="data")
    with data, ApiServer(tmp_path / "api", binaries, data.url) as apiserver:
        apiserver.apply(service("old"))
        for number in range(200):
            apiserver.patch("/api/v1/namespaces/default", {"metadata": {"labels": {"n": str(number)}}})
        bridge = run(kubeconfig=apiserver.kubeconfig())
        assert keys_of(etcd, "old")
        apiserver.kill()
        data.wipe()
        apiserver.start()
        create_and_wait(apiserver, etcd, "new", 60)
        wait_for(lambda: not keys_of(etcd, "old"), "the old name to go", 20, bridge)
        wait_for(lambda: "stale" not in bridge.readyz(), "the watches to be current", 40)


HUNG = ("nothing", "api server", "api server before the list", "etcd", "etcd for long", "both", "etcd gone")


@pytest.mark.parametrize(
    ("etcd", "options"),
    [((), ()), ((), ("--leader-elect",)), ("v2", ())],
    indirect=["etcd"],
    ids=["alone", "elected", "v2"],
)
def test_stop_within_a_second(options: tuple[str, ...], apiserver: ApiServer, etcd: Etcd, run: Run) -> None:
    bridge = run(*options, objects=services(3))
    for number, hung in enumerate(HUNG):
        print(hung)
        wait_for(lambda: bridge.metric("kube2etcd_leader") == 1, "it to lead", 20)
        try:
            if hung == "api server before the list":
                bridge.stop()
                connected = connections(apiserver.port)
                apiserver.pause()
                bridge.start()
                # in a handshake that nobody answers
                wait_for(lambda before=connected: connections(apiserver.port) > before, "the connection", 20)  # type: ignore[misc]
            if hung in ("etcd", "etcd for long", "both"):
                etcd.pause()
                # a change, so that the loop waits for etcd
                apiserver.apply(service(f"later{number}"))
            if hung == "etcd for long":
                bridge.wait_readyz("not answer in time", 20)
            if hung in ("api server", "both"):
                apiserver.pause()
            if hung == "etcd gone":
                etcd.kill()
                wait_for(lambda: not bridge.ready(), "the bridge to notice", 15)
            bridge.stop_within(1.0)
        finally:
            apiserver.resume()
            etcd.resume()
        if not etcd.alive:
            etcd.wipe()  # a killed etcd 3.4 without fsync may not start again
        if options:  # the leader key that could not be deleted
            etcd.delete("/kube2etcd")
        bridge.start()
        bridge.wait_ready()
    bridge.send_signal(signal.SIGINT)
    assert bridge.wait(1.0) == 0


def connections(port: int) -> int:
    """The number of established connections to this port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and row[3] == "01" for row in rows)


#: `test_guarantee_no_mass_deletion.py` has those of lists.
WATCH_FAULTS: dict[str, dict[str, Any]] = {
    "410 when a watch is opened": {"status": 410, "times": 2},
    "429 when a watch is opened": {"status": 429, "headers": {"Retry-After": "1"}, "times": 2},
    "500 when a watch is opened": {"status": 500, "times": 3},
    "a truncated event": {"truncate": True, "times": 2},
}


def test_watch_faults_lose_no_change(apiserver: ApiServer, etcd: Etcd, proxy: Proxy, run: Run) -> None:
    bridge = run(kubeconfig=proxy.kubeconfig, objects=services(5))
    before = etcd.dump("/skydns")
    for number, (name, what) in enumerate(WATCH_FAULTS.items()):
        print(name)
        fault = proxy.fault("services", watch=True, **what)
        assert proxy.expire_watches() >= 3
        turns = itertools.count(1)

        def met(fault: Fault = fault, turns: Iterator[int] = turns) -> bool:
            # the watch is truncated at its next event
            apiserver.apply(service("busy", externalIPs=[f"192.0.2.{next(turns) % 250 + 1}"]))
            return fault.exhausted

        wait_for(met, "the fault to be met", 30, bridge)
        create_and_wait(apiserver, etcd, f"later{number}", 30)
        present = etcd.dump("/skydns")
        assert {key: present.get(key) for key in before} == before
        assert bridge.metric("kube2etcd_held_deletes") == 0
        assert bridge.ready()


def test_half_open_etcd_connection_is_detected(apiserver: ApiServer, etcd: Etcd, run: Run) -> None:
    apiserver.apply_all(services(3))
    real = etcd.url
    with closing(Tunnel(etcd.port)) as tunnel:
        etcd.url = f"http://127.0.0.1:{tunnel.port}"
        bridge = run()
        etcd.url = real
        tunnel.blackhole()
        wait_for(lambda: not bridge.ready(), "the silence to be noticed", 20, bridge)
        assert bridge.get("/livez").status_code == 200
        apiserver.apply(service("later"))
        carried = tunnel.connections
        tunnel.mend()
        bridge.wait_ready(20)
        assert tunnel.connections > carried
        wait_for_keys(etcd, "later")
        # the watch recovers too
        etcd.delete("/skydns")
        wait_for_keys(etcd, "later")


def test_half_open_watch_is_detected(apiserver: ApiServer) -> None:
    with closing(Tunnel(apiserver.port)) as tunnel:
        server = {"server": f"https://127.0.0.1:{tunnel.port}"}
        kubeconfig = apiserver.kubeconfig(cluster=server, name="tunnelled")
        queue = EventQueue()
        api = ApiConnection(Cluster(str(kubeconfig)))
        # `run` waits for 90 s, longer than the interval of bookmarks
        reflector = Reflector(KINDS["services"], api, queue.deliver, inactivity=2.0, connect_timeout=2.0)
        names: set[str] = set()
        failures: list[Failing] = []

        def seen(name: str) -> bool:
            for event in queue.drain(0.1):
                if isinstance(event, Listed):
                    names.update(one.metadata.name for one in event.objects)
                elif isinstance(event, Changed):
                    names.add(event.event.name)
                elif isinstance(event, Failing):
                    failures.append(event)
            return name in names

        try:
            reflector.start()
            apiserver.apply(service("before"))
            wait_for(lambda: seen("before"), "the watch", 10)
            tunnel.blackhole()
            apiserver.apply(service("unseen"))
            wait_for(lambda: seen("unseen") or failures, "the silence to be noticed", 20)
            assert not seen("unseen")
            tunnel.mend()
            wait_for(lambda: seen("unseen"), "the missed change", 20)
            apiserver.apply(service("after"))
            wait_for(lambda: seen("after"), "the watch to be open again", 20)
        finally:
            reflector.stop()
            api.close()
