"""Ready only with all keys written, and not while etcd is down or keys are being restored."""

import threading

import pytest

from tests.stack.faults import Proxy, Run
from tests.stack.harness import ApiServer, Etcd, wait_for
from tests.stack.objects import large_headless_services, services


@pytest.mark.parametrize("kind", ["services", "namespaces", "endpointslices"])
def test_unready_until_listed(kind: str, apiserver: ApiServer, etcd: Etcd, proxy: Proxy, run: Run) -> None:
    apiserver.apply_all(services(3))
    proxy.fault(kind, status=403)
    revision = etcd.revision()
    bridge = run(kubeconfig=proxy.kubeconfig, ready=False)
    wait_for(lambda: bridge.metric("kube2etcd_api_failures_total") >= 2, "failures", 20)
    assert bridge.get("/readyz").status_code == 503
    assert kind in bridge.readyz()
    assert bridge.get("/livez").status_code == 200
    assert etcd.revision() == revision
    proxy.mend()
    bridge.wait_ready(40)
    assert etcd.dump("/skydns")


def test_ready_again_only_with_every_key_restored(etcd: Etcd, run: Run) -> None:
    """After an outage with data loss, and after a deletion of all keys."""
    bridge = run(objects=large_headless_services(10))
    expected, pid = etcd.dump("/skydns"), bridge.pid
    assert len(expected) >= 10_000
    short: list[int] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            # check the keys at the first ready after an unready
            if bridge.ready():
                continue
            wait_for(bridge.ready, "readiness", 20)
            present = len(etcd.dump("/skydns"))
            if present != len(expected):
                short.append(present)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        etcd.kill()
        wait_for(lambda: bridge.get("/readyz").status_code == 503, "readiness to be withdrawn", 10)
        etcd.wipe()
        bridge.wait_ready(10)
        assert etcd.dump("/skydns") == expected
        etcd.delete("/skydns")
        wait_for(lambda: not bridge.ready(), "readiness to be withdrawn", 5)
        bridge.wait_ready(20)
        assert etcd.dump("/skydns") == expected
    finally:
        ended.set()
        looking.join(30)
    assert not looking.is_alive()
    assert short == []
    assert (bridge.alive, bridge.pid) == (True, pid)
