"""A faulty list deletes nothing; a real mass deletion is held until a second list agrees."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.stack.bridge import call
from tests.stack.faults import Proxy, Run, create_and_wait, keys_of, keys_of_fresh_bridge, same_keys
from tests.stack.harness import SLOW, ApiServer, Binaries, Bridge, Etcd, Object, free_port, wait_for
from tests.stack.objects import endpoints, identity, service, services

LIST_FAULTS: dict[str, dict[str, Any]] = {
    "403": {"status": 403, "times": 2},
    "500": {"status": 500, "times": 2},
    "429": {"status": 429, "headers": {"Retry-After": "1"}, "times": 2},
    "a truncated page": {"truncate": True, "times": 2},
    "410": {"status": 410, "times": 2},
    # the reflector then lists without pages, which succeeds
    "410 at the second page": {"status": 410, "later_pages": True, "times": 1},
    "500 at the second page": {"status": 500, "later_pages": True, "times": 2},
    "an empty list once": {"empty": True, "times": 1},
}


def many(count: int) -> list[Object]:
    """``count`` Services with a cluster IP, and as many headless ones with endpoints."""
    heads = [service(f"h{number:03d}", clusterIP="None") for number in range(count)]
    slices = [endpoints(f"h{number:03d}", f"10.7.0.{number + 1}") for number in range(count)]
    return [*services(count), *heads, *slices]


#: Created by the API server itself.
BUILT_IN = {(kind, "default", "kubernetes") for kind in ("Service", "EndpointSlice")}


def lists(bridge: Bridge, kind: str) -> float:
    return bridge.metric("kube2etcd_lists_total", kind=kind)


@pytest.fixture
def apiserver(shared_apiserver: ApiServer) -> ApiServer:
    """The session's API server with `many` (40); reset only after a test that deleted some."""
    wanted = many(40)
    kinds = (("v1", "Service"), ("discovery.k8s.io/v1", "EndpointSlice"))
    present = [one for kind in kinds for one in shared_apiserver.list(*kind)]
    if {identity(one) for one in present} - BUILT_IN != {identity(one) for one in wanted}:
        shared_apiserver.reset()
        shared_apiserver.apply_all(wanted)
    return shared_apiserver


@pytest.mark.parametrize("fault_name", LIST_FAULTS)
@pytest.mark.parametrize("resource", ["services", "namespaces", "endpointslices"])
def test_faulty_lists_delete_nothing(
    fault_name: str, resource: str, apiserver: ApiServer, etcd: Etcd, proxy: Proxy, run: Run
) -> None:
    proxy.page = 2 if resource == "namespaces" else 10
    bridge = run(kubeconfig=proxy.kubeconfig)
    expected = etcd.dump("/skydns")
    revision = etcd.revision()
    fault = proxy.fault(resource, **LIST_FAULTS[fault_name])
    before = lists(bridge, resource)
    assert proxy.expire_watches() >= 3
    wait_for(lambda: fault.exhausted, "the faults to be injected", 20, bridge)
    # one good list, after the empty one, which counts as a list
    enough = before + ("empty" in LIST_FAULTS[fault_name])
    wait_for(lambda: lists(bridge, resource) > enough, "a good list", 30, bridge)
    if "empty" in fault_name:
        assert "held until a second listing agrees" in bridge.log_text()
    wait_for(lambda: bridge.metric("kube2etcd_held_deletes") == 0, "nothing to be held", 10)
    assert bridge.metrics()['kube2etcd_writes_total{op="delete"}'] == 0
    assert etcd.dump("/skydns") == expected
    assert etcd.revision() == revision
    assert bridge.ready()
    create_and_wait(apiserver, etcd, "later")
    apiserver.delete(service("later"))


def test_empty_list_at_start_deletes_nothing(
    apiserver: ApiServer, etcd: Etcd, tmp_path: Path, binaries: Binaries, proxy: Proxy, run: Run
) -> None:
    expected = keys_of_fresh_bridge(tmp_path, binaries, apiserver.kubeconfig())

    run(kubeconfig=proxy.kubeconfig).kill()
    revision = etcd.revision()
    fault = proxy.fault("services", empty=True, times=1)
    bridge = run(kubeconfig=proxy.kubeconfig)
    wait_for(lambda: lists(bridge, "services") >= 2, "a second list", 20)
    wait_for(lambda: bridge.metric("kube2etcd_held_deletes") == 0, "nothing to be held", 10)
    assert fault.done == 1
    assert etcd.dump("/skydns") == expected
    assert etcd.revision() == revision


def delete_services_unseen(proxy: Proxy, apiserver: ApiServer, bridge: Bridge, etcd: Etcd) -> dict[str, str]:
    """Delete 60 % of the Services while lists fail, so that the next list shows it at once."""
    before = etcd.dump("/skydns")
    proxy.fault("*", status=500)
    proxy.expire_watches()
    wait_for(lambda: bridge.metric("kube2etcd_api_failures_total") > 0, "the lists to fail", 10)
    apiserver.delete_all(many(24))
    return before


def test_real_mass_deletion_runs_after_a_second_list(
    apiserver: ApiServer, etcd: Etcd, tmp_path: Path, binaries: Binaries, proxy: Proxy, run: Run
) -> None:
    bridge = run(kubeconfig=proxy.kubeconfig)
    before = delete_services_unseen(proxy, apiserver, bridge, etcd)
    assert etcd.dump("/skydns") == before
    # the first list holds the deletions, a second one confirms them
    proxy.mend()
    listed = lists(bridge, "services")
    wait_for(lambda: lists(bridge, "services") > listed, "the Services to be listed", 40)
    began = time.monotonic()
    wait_for(lambda: len(keys_of(etcd, "s0")) <= 16 * 3, "the deletions to be carried out", 40)
    assert time.monotonic() - began < 40 * SLOW
    wait_for(lambda: bridge.metric("kube2etcd_held_deletes") == 0, "nothing to be held", 5)
    log = bridge.log_text()
    assert "held until a second listing agrees" in log
    assert "a second listing agrees" in log
    assert bridge.ready()
    same_keys(etcd, keys_of_fresh_bridge(tmp_path, binaries, apiserver.kubeconfig()), 5)


def test_deletions_stay_held_without_a_second_list(etcd: Etcd, proxy: Proxy, run: Run) -> None:
    page = f":{free_port()}"

    bridge = run("--listen-page", page, kubeconfig=proxy.kubeconfig)
    before = etcd.dump("/skydns")
    proxy.fault("services", empty=True, times=1)
    proxy.fault("services", status=500)
    proxy.expire_watches()
    wait_for(lambda: bridge.metric("kube2etcd_held_deletes") > 0, "the plan to be held", 20)
    failures = bridge.metric("kube2etcd_api_failures_total")
    wait_for(lambda: bridge.metric("kube2etcd_api_failures_total") > failures + 2, "more failures", 20)
    assert bridge.metric("kube2etcd_held_deletes") > 0
    assert bridge.ready()
    assert "held" in bridge.readyz()
    explained = call("explain", "s001.default.svc.cluster.local", "A", "--bridge", page)
    assert (explained.returncode, explained.stderr) == (0, ""), "the name is still there"
    assert "why: deletions are held: " in explained.stdout
    assert "why: services have not been watched since 2" in explained.stdout
    assert etcd.dump("/skydns") == before
    proxy.mend()
    wait_for(lambda: bridge.metric("kube2etcd_held_deletes") == 0, "a complete list", 40)
    assert etcd.dump("/skydns") == before
