"""Watch events lost without a trace are made good by the next resync."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.stack.faults import HERE, Proxy, metric, proxy_to, running, same_keys
from tests.stack.harness import ApiServer, Bridge, Etcd, wait_for
from tests.stack.objects import endpoints, service, services


def lost(apiserver: ApiServer, proxy: Proxy, bridge: Bridge, change: Callable[[], None]) -> None:
    """One event of Services and one of slices reach nobody; then there are two full passes."""
    faults = [proxy.fault(kind, watch=True, lose=True, left=1) for kind in ("services", "endpointslices")]
    proxy.break_watches()
    wait_for(lambda: all(one.taken == 1 for one in faults), "the watches to be opened", 20, bridge.process)
    change()
    turn = 0

    def gone() -> bool:
        # A list that was just being made may have told it: then another one gets lost.
        nonlocal turn
        turn += 1
        apiserver.apply(service("busy", externalIPs=[f"192.0.2.{turn % 250 + 1}"]))
        apiserver.apply(endpoints("busy", f"10.8.1.{turn % 250 + 1}"))
        return all(one.left == 0 for one in faults)

    wait_for(gone, "the events to get lost", 20, bridge.process)
    bridge.full_passes(2)
    proxy.mend()


def labels(etcd: Etcd, below: str) -> set[str]:
    prefix = f"{HERE}/svc/default/{below}"
    return {key.removeprefix(prefix).partition("/")[0] for key in etcd.dump(prefix)}


def test_events_that_got_lost_are_made_good_by_the_next_pass(
    apiserver: ApiServer, etcd: Etcd, tmp_path: Path
) -> None:
    apiserver.apply_all([*services(20), service("head", clusterIP="None"), endpoints("head", "10.8.0.1")])
    apiserver.apply(endpoints("head", "10.8.0.2", number=1))

    def first() -> None:
        apiserver.delete(service("s001"))
        apiserver.apply(endpoints("head", "10.8.0.9"))

    def second() -> None:
        apiserver.apply(service("s002", ports=[{"name": "other", "port": 81, "protocol": "TCP"}]))
        apiserver.delete(endpoints("head", "10.8.0.2", number=1))

    def third() -> None:
        apiserver.apply(service("later"))
        apiserver.apply(endpoints("head", "10.8.0.7", number=2))

    with proxy_to(tmp_path, apiserver) as proxy:
        with running(tmp_path, proxy.kubeconfig, etcd, "--resync-period", "2") as bridge:
            lost(apiserver, proxy, bridge, first)
            assert not labels(etcd, "s001")
            assert labels(etcd, "head/10") == {"-8-0-9", "-8-0-2"}
            lost(apiserver, proxy, bridge, second)
            assert labels(etcd, "s002/_tcp/") == {"_other"}
            assert labels(etcd, "head/10") == {"-8-0-9"}
            lost(apiserver, proxy, bridge, third)
            assert labels(etcd, "later/_tcp/") == {"_http"}
            assert labels(etcd, "head/10") == {"-8-0-9", "-8-0-7"}
            assert metric(bridge, "kube2etcd_repairs_total") == 0, "nobody has touched the keys"
            assert bridge.ready()
            seen = etcd.dump("/skydns")
        with running(tmp_path, apiserver.kubeconfig(), etcd):
            same_keys(etcd, seen, 5)
