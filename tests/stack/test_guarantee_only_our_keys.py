"""Foreign keys stay, odd objects affect only themselves, nothing is written twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.stack.faults import appears, comes, keys_of, metric, running, same_keys
from tests.stack.harness import ApiServer, Etcd, Object, wait_for
from tests.stack.objects import endpoints, service, services

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
        comes(apiserver, etcd, "last")
        wait_for(lambda: not keys_of(etcd, "s00"), "the first to go", 40)
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
        comes(apiserver, etcd, "last")
        for bridge in (one, two):
            bridge.full_passes(1)
        revision, keys = etcd.revision(), etcd.dump("/skydns")
        for bridge in (one, two):
            bridge.full_passes(3)
        assert etcd.revision() == revision
        assert etcd.dump("/skydns") == keys
        assert one.ready()
        assert two.ready()


def odd_ones() -> dict[str, Object]:
    """What a real API server accepts and no DNS server can be told as it is."""
    nothing = endpoints("none", "10.8.1.1")
    nothing["endpoints"] = None
    nothing["ports"] = None
    nameless = endpoints("nameless", "10.8.1.3")
    nameless["metadata"]["labels"] = {}
    unready = endpoints("odd", "10.8.1.4")
    unready["endpoints"][0]["conditions"] = {}
    same = endpoints("head", "10.8.0.1", "10.8.0.1", number=7)
    same["endpoints"][0]["hostname"] = "any"
    tenant = service("tenant")
    tenant["metadata"]["annotations"] = {
        "transparency.tenancy.x-k8s.io/clusterIP": "\x07" * 99,
        "note": "x" * 200_000,
    }
    outside: dict[str, Any] = {"type": "ExternalName", "ports": None}
    return {
        "a slice with nothing in it": nothing,
        "a slice of no Service": endpoints("orphan", "10.8.1.2"),
        "a slice without a label": nameless,
        "an endpoint without conditions": unready,
        "an address twice": same,
        "an annotation that is no address": tenant,
        "an external name": service("outside", externalName="example.com", **outside),
        "an external name that is an address": service("address", externalName="192.0.2.1", **outside),
        "an external name that is its own": service(
            "self", externalName="self.default.svc.cluster.local", **outside
        ),
        "an external name with a dot at its end": service("dot", externalName="example.com.", **outside),
        "a headless Service without a selector": service("odd", clusterIP="None"),
        "a Service named like a wildcard": service("any"),
        "a Service named like a key": service("dns"),
        "many ports": service(
            "ports", ports=[{"name": f"p{one}", "port": one, "protocol": "TCP"} for one in range(1, 200)]
        ),
    }


def test_odd_objects_affect_their_own_names_only(apiserver: ApiServer, etcd: Etcd, tmp_path: Path) -> None:
    good = [*services(98), service("head", clusterIP="None"), endpoints("head", "10.8.0.2")]
    apiserver.apply_all(good)
    with running(tmp_path, apiserver.kubeconfig(), etcd) as bridge:
        expected = etcd.dump("/skydns")
        odd = odd_ones()
        for number, (what, one) in enumerate(odd.items()):
            apiserver.apply(one)
            last = f"last{number:02d}"
            apiserver.apply(service(last))
            appears(etcd, f"{last}")
            present = etcd.dump("/skydns")
            assert {key: present.get(key) for key in expected} == expected, what
        assert bridge.ready()
        assert "Traceback" not in bridge.process.log.read_text()
        apiserver.delete_all(odd.values())
        apiserver.delete_all([service(f"last{number:02d}") for number in range(len(odd))])
        same_keys(etcd, expected, 10)
