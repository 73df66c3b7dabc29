"""Foreign keys stay as they are, one odd thing spoils only itself, and nothing is written twice."""

from __future__ import annotations

from pathlib import Path

from tests.stack.faults import HERE, endpoints, metric, running, same_keys, service, services
from tests.stack.harness import ApiServer, Etcd, wait_for

FOREIGN = {
    "/skydns/com/example/www": '{"host":"192.0.2.1"}',
    "/skydns/local/cluster/svc/default/elsewhere": '{"host":"192.0.2.2","owner":"another"}',
    "/skydns/local/cluster/svc/default/odd": "no JSON at all",
    "/elsewhere": "x",
}


def test_foreign_keys_are_untouched_and_a_malformed_one_is_named(
    apiserver: ApiServer, etcd: Etcd, tmp_path: Path
) -> None:
    for key, value in FOREIGN.items():
        etcd.put(key, value)
    apiserver.apply_all(services(3))
    with running(tmp_path, apiserver.kubeconfig(), etcd) as bridge:
        apiserver.delete_all(services(3))
        apiserver.apply(service("last"))
        wait_for(lambda: [key for key in etcd.dump(HERE) if "/default/last" in key], "the last one", 10)
        wait_for(lambda: not [key for key in etcd.dump(HERE) if "/default/s00" in key], "the first to go", 40)
        present = etcd.dump("")
        assert {key: present.get(key) for key in FOREIGN} == FOREIGN
        assert "svc/default/odd is malformed" in bridge.process.log.read_text()
        assert metric(bridge, "kube2etcd_malformed_keys") == 1
        etcd.put("/skydns/local/cluster/svc/default/late", "[")
        wait_for(lambda: "svc/default/late is malformed" in bridge.process.log.read_text(), "a name", 5)
        assert bridge.ready()


def test_two_bridges_on_one_etcd_do_not_fight(apiserver: ApiServer, etcd: Etcd, tmp_path: Path) -> None:
    apiserver.apply_all(services(10))
    extra = ("--resync-period", "1")
    with (
        running(tmp_path, apiserver.kubeconfig(), etcd, *extra) as one,
        running(tmp_path, apiserver.kubeconfig(), etcd, *extra, name="second") as two,
    ):
        apiserver.apply(service("last"))
        wait_for(lambda: [key for key in etcd.dump(HERE) if "/default/last" in key], "the last one", 10)
        writes = {bridge: metric(bridge, "kube2etcd_writes_total") for bridge in (one, two)}

        def resyncs() -> list[float]:
            return [metric(bridge, "kube2etcd_resync_duration_seconds_count") for bridge in (one, two)]

        def several(more: int, before: list[float]) -> bool:
            return all(now >= then + more for now, then in zip(resyncs(), before, strict=True))

        begun = resyncs()
        wait_for(lambda: several(1, begun), "both to have looked again", 20)
        revision, keys, begun = etcd.revision(), etcd.dump("/skydns"), resyncs()
        wait_for(lambda: several(3, begun), "several resyncs of both", 30)
        assert etcd.revision() == revision
        assert etcd.dump("/skydns") == keys
        assert one.ready()
        assert two.ready()
        assert writes


def test_odd_objects_affect_their_own_names_only(apiserver: ApiServer, etcd: Etcd, tmp_path: Path) -> None:
    good = [*services(20), service("head", clusterIP="None"), endpoints("head", "10.8.0.1")]
    apiserver.apply_all(good)
    with running(tmp_path, apiserver.kubeconfig(), etcd) as bridge:
        expected = etcd.dump("/skydns")
        nothing = endpoints("none", "10.8.1.1")
        nothing["endpoints"] = None
        nothing["ports"] = None
        orphan = endpoints("orphan", "10.8.1.2")
        nameless = endpoints("nameless", "10.8.1.3")
        nameless["metadata"]["labels"] = {}
        odd_host = endpoints("odd", "10.8.1.4")
        odd_host["endpoints"][0]["conditions"] = {}
        outside = service("outside", type="ExternalName", externalName="example.com", ports=None)
        apiserver.apply_all([nothing, orphan, nameless, odd_host, outside, service("odd", clusterIP="None")])
        apiserver.apply(service("last"))
        wait_for(lambda: [key for key in etcd.dump(HERE) if "/default/last" in key], "the last one", 10)
        present = etcd.dump("/skydns")
        assert {key: present.get(key) for key in expected} == expected
        assert bridge.ready()
        assert "Traceback" not in bridge.process.log.read_text()
        apiserver.delete_all([nothing, orphan, nameless, odd_host, outside])
        apiserver.delete_all([service("odd"), service("last")])
        same_keys(etcd, expected, 10)
