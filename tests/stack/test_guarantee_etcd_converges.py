"""etcd converges without a restart, whatever happens to keys or watch events."""

from tests.stack.etcd_v2 import EtcdV2
from tests.stack.faults import HERE, Proxy, Run, both_apis, keys_of, same_keys
from tests.stack.harness import ApiServer, Bridge, Etcd, wait_for
from tests.stack.kubeclient import Operation
from tests.stack.objects import endpoints, port, service, services


def key_of(etcd: Etcd, name: str) -> str:
    return next(key for key in etcd.dump(HERE) if f"/svc/default/{name}/" in f"{key}/")


@both_apis
def test_changed_and_deleted_keys_are_repaired(etcd: Etcd, run: Run) -> None:
    bridge = run(objects=services(5))
    expected = etcd.dump("/skydns")
    assert bridge.metric("kube2etcd_repairs_total") == 0

    changed = key_of(etcd, "s000")
    etcd.put(changed, '{"host":"192.0.2.99"}')
    same_keys(etcd, expected, 5)

    etcd.delete(key_of(etcd, "s001"))
    same_keys(etcd, expected, 5)

    # the v2 API has no keys below a value
    etcd.put(f"{changed}X" if isinstance(etcd, EtcdV2) else f"{changed}/stale", expected[changed])
    same_keys(etcd, expected, 5)
    wait_for(lambda: bridge.metric("kube2etcd_repairs_total") >= 3, "repairs to be counted", 5)

    # later changes are noticed as well
    for everything in (f"{HERE}/svc/default", "/skydns"):
        etcd.delete(everything)
        same_keys(etcd, expected, 5)
    bridge.wait_ready(5)


@both_apis
def test_repeated_etcd_data_loss_is_repaired(etcd: Etcd, run: Run) -> None:
    bridge = run(objects=services(20))
    expected = etcd.dump("/skydns")
    # in quick succession: a short-lived watch does not delay the detection of the next loss
    for _ in range(8):
        etcd.wipe()
        same_keys(etcd, expected, 10)
    bridge.wait_ready(5)


def test_keys_of_objects_deleted_while_down_are_removed(apiserver: ApiServer, etcd: Etcd, run: Run) -> None:
    before = services(8)
    bridge = run(objects=before)
    assert key_of(etcd, "s000")
    bridge.kill()
    apiserver.delete(before[0])
    bridge.start()
    bridge.wait_ready()
    assert not keys_of(etcd, "s000")
    assert key_of(etcd, "s001")


def lose_events(apiserver: ApiServer, proxy: Proxy, bridge: Bridge, *changes: Operation) -> None:
    """Drop one event of Services and one of slices; then wait for two resyncs."""
    faults = [
        proxy.fault(kind, watch=True, drop_event=True, times=1) for kind in ("services", "endpointslices")
    ]
    proxy.break_watches()
    wait_for(lambda: all(one.matched == 1 for one in faults), "the watches to be opened", 20, bridge)
    for change in changes:
        change.perform(apiserver)
    turn = 0

    def dropped() -> bool:
        # A list in progress may have covered the change: drop another event.
        nonlocal turn
        turn += 1
        apiserver.apply(service("busy", externalIPs=[f"192.0.2.{turn % 250 + 1}"]))
        apiserver.apply(endpoints("busy", f"10.8.1.{turn % 250 + 1}"))
        return all(one.exhausted for one in faults)

    wait_for(dropped, "the events to be dropped", 20, bridge)
    bridge.full_passes(2)
    proxy.mend()


def labels(etcd: Etcd, below: str) -> set[str]:
    prefix = f"{HERE}/svc/default/{below}"
    return {key.removeprefix(prefix).partition("/")[0] for key in etcd.dump(prefix)}


def test_resync_recovers_lost_watch_events(apiserver: ApiServer, etcd: Etcd, proxy: Proxy, run: Run) -> None:
    head = [service("head", clusterIP="None"), endpoints("head", "10.8.0.1")]
    second = endpoints("head", "10.8.0.2", number=1)
    objects = [*services(20), *head, second]
    bridge = run("--resync-period", "2", kubeconfig=proxy.kubeconfig, objects=objects)
    first = Operation("apply", endpoints("head", "10.8.0.9"))
    lose_events(apiserver, proxy, bridge, Operation("delete", service("s001")), first)
    assert not labels(etcd, "s001")
    assert labels(etcd, "head/10") == {"-8-0-9", "-8-0-2"}
    other = Operation("apply", service("s002", ports=[port("other", 81)]))
    lose_events(apiserver, proxy, bridge, other, Operation("delete", second))
    assert labels(etcd, "s002/_tcp/") == {"_other"}
    assert labels(etcd, "head/10") == {"-8-0-9"}
    third = Operation("apply", endpoints("head", "10.8.0.7", number=2))
    lose_events(apiserver, proxy, bridge, Operation("apply", service("later")), third)
    assert labels(etcd, "later/_tcp/") == {"_http"}
    assert labels(etcd, "head/10") == {"-8-0-9", "-8-0-7"}
    assert bridge.metric("kube2etcd_repairs_total") == 0, "no key was changed by others"
    assert bridge.ready()
    seen = etcd.dump("/skydns")
    bridge.kill()
    run()
    same_keys(etcd, seen, 5)
