"""Foreign keys stay, unusual objects affect only their own names, nothing is written twice."""

from pathlib import Path
from typing import Any

import pytest

from tests.stack.external_dns import ExternalDns, ingress
from tests.stack.faults import HERE, Run, create_and_wait, keys_of, same_keys, wait_for_keys
from tests.stack.harness import ApiServer, Binaries, Etcd, Object, wait_for
from tests.stack.objects import endpoints, port, service, services

FOREIGN = {
    "/skydns/com/example/www": '{"host":"192.0.2.1"}',
    "/skydns/local/cluster/svc/default/elsewhere": '{"host":"192.0.2.2","owner":"another"}',
    "/skydns/local/cluster/svc/default/odd": "no JSON at all",
    "/elsewhere": "x",
}


def test_foreign_keys_are_untouched(apiserver: ApiServer, etcd: Etcd, run: Run) -> None:
    for key, value in FOREIGN.items():
        etcd.put(key, value)
    bridge = run(objects=services(3))
    apiserver.delete_all(services(3))
    create_and_wait(apiserver, etcd, "last")
    wait_for(lambda: not keys_of(etcd, "s00"), "the first Services' keys to go", 40)
    present = etcd.dump("")
    assert {key: present.get(key) for key in FOREIGN} == FOREIGN
    assert bridge.metric("kube2etcd_malformed_keys") == 1
    etcd.put("/skydns/local/cluster/svc/default/late", "[")
    wait_for(lambda: bridge.metric("kube2etcd_malformed_keys") == 2, "the malformed key to be noticed", 5)
    assert bridge.ready()


def test_two_bridges_on_one_etcd_write_nothing_when_equal(apiserver: ApiServer, etcd: Etcd, run: Run) -> None:
    extra = ("--resync-period", "1")
    one = run(*extra, objects=services(10))
    two = run(*extra, name="second")
    create_and_wait(apiserver, etcd, "last")
    for bridge in (one, two):
        bridge.full_passes(1)
    revision, keys = etcd.revision(), etcd.dump("/skydns")
    for bridge in (one, two):
        bridge.full_passes(3)
    assert etcd.revision() == revision
    assert etcd.dump("/skydns") == keys
    assert one.ready()
    assert two.ready()


def unusual_objects() -> dict[str, Object]:
    """Objects that a real API server accepts and DNS cannot represent as they are."""
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
        "an empty slice": nothing,
        "a slice of a missing Service": endpoints("orphan", "10.8.1.2"),
        "a slice without a label": nameless,
        "an endpoint without conditions": unready,
        "an address twice": same,
        "an invalid tenant annotation": tenant,
        "an externalName": service("outside", externalName="example.com", **outside),
        "an address as externalName": service("address", externalName="192.0.2.1", **outside),
        "an externalName that is the Service itself": service(
            "self", externalName="self.default.svc.cluster.local", **outside
        ),
        "an externalName with a trailing dot": service("dot", externalName="example.com.", **outside),
        "a headless Service without a selector": service("odd", clusterIP="None"),
        "a Service named any": service("any"),
        "a Service named dns": service("dns"),
        "many ports": service("ports", ports=[port(f"p{one}", one) for one in range(1, 200)]),
    }


def test_unusual_objects_affect_no_other_name(apiserver: ApiServer, etcd: Etcd, run: Run) -> None:
    good = [*services(98), service("head", clusterIP="None"), endpoints("head", "10.8.0.2")]
    bridge = run(objects=good)
    expected = etcd.dump("/skydns")
    unusual = unusual_objects()
    for number, (what, one) in enumerate(unusual.items()):
        apiserver.apply(one)
        last = f"last{number:02d}"
        apiserver.apply(service(last))
        wait_for_keys(etcd, f"{last}")
        present = etcd.dump("/skydns")
        assert {key: present.get(key) for key in expected} == expected, what
    assert bridge.ready()
    apiserver.delete_all(unusual.values())
    apiserver.delete_all([service(f"last{number:02d}") for number in range(len(unusual))])
    same_keys(etcd, expected, 10)


#: The last two are in the bridge's zone.
HOSTS = ("c.example.org", "c.cluster.local", "c.default.svc.cluster.local")


def test_coexists_with_the_coredns_provider_of_external_dns(
    binaries: Binaries, apiserver: ApiServer, etcd: Etcd, tmp_path: Path, run: Run
) -> None:
    apiserver.apply_all(services(20))
    strict = ["--provider=coredns", "--coredns-strictly-owned"]
    other = ExternalDns(tmp_path / "other", binaries, apiserver, strict)
    env = {"ETCD_URLS": etcd.url, "HOME": str(tmp_path)}
    bridge = run("--resync-period", "1")
    ours = etcd.dump("/skydns")

    def theirs() -> dict[str, str]:
        return {key: value for key, value in etcd.dump("/skydns").items() if '"owner":"me"' in value}

    writes = bridge.metric("kube2etcd_writes_total")
    for address in ("10.9.0.1", "10.9.0.2"):
        apiserver.apply(ingress("c", *HOSTS, to=[address]))
        other.run_once(env=env)
        written = theirs()
        found = {key for key, value in written.items() if f'"{address}"' in value}
        for host in HOSTS:
            path = "/skydns/" + "/".join(reversed(host.split(".")))
            assert [key for key in found if key.startswith(f"{path}/")], host
        bridge.full_passes(3)
        revision = etcd.revision()
        other.run_once(env=env)
        bridge.full_passes(3)
        assert etcd.revision() == revision, "neither has anything to do"
        present = etcd.dump("/skydns")
        assert {key: present.get(key) for key in ours} == ours
        assert theirs() == written
    assert bridge.metric("kube2etcd_writes_total") == writes
    assert bridge.metric("kube2etcd_foreign_keys") > 0
    # ExternalDNS deletes its names, and ours still change
    apiserver.apply(service("later"))
    apiserver.delete(ingress("c", to=[]))
    other.run_once(env=env)
    assert not [key for key, value in theirs().items() if '"10.9.0' in value]
    bridge.full_passes(1)
    present = etcd.dump("/skydns")
    assert {key: present.get(key) for key in ours} == ours
    assert [key for key in present if "/default/later" in key]
    assert bridge.ready()


@pytest.fixture
def user(etcd: Etcd) -> tuple[str, ...]:
    """The options of an etcd user with rights below /skydns/ only."""
    return ("--etcd-user", "bridge", "--etcd-password-file", str(etcd.restrict("/skydns/")))


def test_etcd_user_needs_rights_below_the_prefix_only(
    user: tuple[str, ...], apiserver: ApiServer, etcd: Etcd, run: Run
) -> None:
    bridge = run(*user, objects=services(5))
    expected = etcd.dump("/skydns")
    etcd.delete(f"{HERE}/svc/default/s001")
    same_keys(etcd, expected, 5)
    etcd.ctl("compact", str(etcd.revision()))
    etcd.restart()
    apiserver.apply(service("later"))
    wait_for(lambda: f"{HERE}/svc/default/later" in etcd.dump(HERE), "the next change", 10)
    bridge.wait_ready()
    assert "permission denied" not in bridge.log_text()


def test_missing_rights_for_leader_election_are_reported(user: tuple[str, ...], etcd: Etcd, run: Run) -> None:
    bridge = run(*user, "--leader-elect", ready=False, objects=services(5))
    bridge.wait_readyz("--leader-elect needs", 20)
    assert bridge.get("/readyz").status_code == 503
    assert bridge.get("/livez").status_code == 200
    assert etcd.dump("/skydns") == {}
    [said] = [line for line in bridge.readyz().splitlines() if "--leader-elect needs" in line]
    key = next(word.strip(":,") for word in said.split() if word.startswith("/"))
    assert not key.startswith("/skydns/")
    etcd.ctl("role", "grant-permission", "names", "readwrite", key)
    bridge.wait_ready(30)
    assert bridge.metric("kube2etcd_leader") == 1
    assert "hunter2" not in bridge.log_text()


def test_keys_and_values_that_are_not_utf8(apiserver: ApiServer, etcd: Etcd, run: Run) -> None:
    """Before the start and under an open watch."""
    odd = f"{HERE}/svc/default/\udcff\udc80x"
    for key in (odd, f"{HERE}//", f"{HERE}/svc/default/{'y' * 5000}", f"{HERE}/svc/default/\x01"):
        etcd.put(key, "\udcfe\udcff")
    bridge = run(objects=services(5))
    ours = f"{HERE}/svc/default/s001"
    present = etcd.ctl("get", ours)
    for number in range(3):
        etcd.put(f"{odd}{number}", "\udcfe")
        etcd.put(ours, f"\udcfe{number}")
        wait_for(lambda: etcd.ctl("get", ours) == present, "the repair", 10, not_yet=(UnicodeError,))
    apiserver.apply(service("later"))
    wait_for(lambda: etcd.ctl("get", f"{HERE}/svc/default/later"), "the next change", 10)
    assert bridge.metric("kube2etcd_foreign_keys") == 7
    assert etcd.ctl("get", "--count-only", "--prefix", "--write-out=fields", odd).count('"Count" : 4')
    assert bridge.ready()
