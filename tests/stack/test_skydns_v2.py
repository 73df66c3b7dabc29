"""The bridge on etcd's v2 API: the same guarantees as with v3, as far as SkyDNS can see."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.stack.asking import asked_all_the_time
from tests.stack.bridge import call
from tests.stack.etcd_v2 import EtcdV2
from tests.stack.faults import HERE, Run, args, same_keys
from tests.stack.harness import ApiServer, Binaries, wait_for
from tests.stack.objects import HTTP, endpoints, external, port, service, services


@pytest.fixture
def etcd(binaries: Binaries, tmp_path: Path) -> Iterator[EtcdV2]:
    with EtcdV2(tmp_path / "etcd", binaries) as server:
        yield server


def data(etcd: EtcdV2, name: str, qtype: str = "A") -> set[str]:
    answer = etcd.look_up(f"{name}.default.svc.cluster.local", qtype)
    assert answer.rcode == "NOERROR", (name, answer)
    return {one.data for one in answer.answers}


MANY = [service("many", clusterIP="None"), endpoints("many", "10.9.0.1", "10.9.0.2")]
SHOP = [*MANY, *services(4), external("ext", "ext.example")]


def test_skydns_finds_what_the_cluster_has(apiserver: ApiServer, etcd: EtcdV2, run: Run) -> None:
    bridge = run("--resync-period", "1", objects=SHOP)
    address = apiserver.get("v1", "Service", "s000", "default")["spec"]["clusterIP"]
    assert data(etcd, "s000") == {address}
    assert {one.split()[2] for one in data(etcd, "_http._tcp.s000", "SRV")} == {"80"}
    assert data(etcd, "many") == {"10.9.0.1", "10.9.0.2"}
    assert {one.split()[3] for one in data(etcd, "_http._tcp.many", "SRV")} == {
        f"10-9-0-{n}.many.default.svc.cluster.local." for n in (1, 2)
    }
    assert data(etcd, "ext") == {"ext.example."}
    assert etcd.look_up("default.svc.cluster.local").rcode == "NOERROR"
    for above in ("", "default.svc.", "svc.", "dns.", "*.", "*.svc.", "*.dns."):
        answer = etcd.look_up(f"{above}cluster.local")
        assert (answer.rcode, answer.answers) == ("NOERROR", ()), above
        assert len(etcd.look_up(f"{above}cluster.local", "SRV").answers) == 1, above
    assert etcd.look_up("gone.default.svc.cluster.local").rcode == "NXDOMAIN"
    reverse = "/".join(["/skydns/arpa/in-addr", *address.split(".")])
    assert json.loads(etcd.dump("/skydns/arpa")[reverse])["host"] == "s000.default.svc.cluster.local"
    # nothing differs, so nothing is written
    index = etcd.revision()
    bridge.full_passes(3)
    assert etcd.revision() == index
    assert bridge.metric("kube2etcd_repairs_total") == 0


def test_names_vanish_with_their_directories(apiserver: ApiServer, etcd: EtcdV2, run: Run) -> None:
    etcd.put(f"{HERE}/svc/default/s001/theirs", '{"host":"192.0.2.9"}')
    bridge = run(objects=SHOP)
    (leaf,) = etcd.listed(f"{HERE}/svc/default/s000")
    (port,) = etcd.listed(f"{HERE}/svc/default/s000/_tcp/_http")
    assert etcd.index(leaf) < etcd.index(port), "the name comes with its address"
    before, web = etcd.revision(), f"{HERE}/svc/default/s000"
    apiserver.delete_all([*services(2), service("many")])
    for name in ("s000", "many"):
        wait_for(lambda name=name: not etcd.exists(f"{HERE}/svc/default/{name}"), name, 10)  # type: ignore[misc]
        assert etcd.look_up(f"{name}.default.svc.cluster.local").rcode == "NXDOMAIN"
    ends = [etcd.index(path, before + 1) for path in (port, f"{web}/_tcp", leaf, web)]
    assert ends == sorted(ends), "hidden keys, then the address, then the directory"
    wait_for(lambda: not etcd.exists(f"{HERE}/svc/default/s001/_tcp"), "the ports of s001 to go", 10)
    assert etcd.listed(f"{HERE}/svc/default/s001") == {
        f"{HERE}/svc/default/s001/theirs": '{"host":"192.0.2.9"}'
    }, "foreign keys stay, with their directory"
    # deleted while the bridge was down, hidden keys included
    bridge.kill()
    apiserver.delete_all(services(3)[2:])
    bridge.start()
    bridge.wait_ready()
    assert not etcd.exists(f"{HERE}/svc/default/s002")
    assert etcd.exists(f"{HERE}/svc/default/s003/_tcp/_http")
    notes = etcd.listed("/skydns/_kube2etcd/hidden")
    assert notes
    assert all("s003" in note or "kubernetes" in note for note in notes), "notes go with their directories"


def test_no_gap(apiserver: ApiServer, etcd: EtcdV2, run: Run) -> None:
    more, second = [HTTP, port("more", 81)], f"{HERE}/svc/default/web/_tcp/_more"
    run(objects=[service("web"), *MANY])

    def instead(name: str, qtype: str) -> str:
        answer = etcd.look_up(f"{name}.default.svc.cluster.local", qtype)
        return "" if answer.rcode == "NOERROR" and answer.answers else str(answer)

    asked = [("web", "A"), ("_http._tcp.web", "SRV"), ("many", "A"), ("_http._tcp.many", "SRV")]
    with asked_all_the_time({f"{one} {rtype}": partial(instead, one, rtype) for one, rtype in asked}, 50):
        for turn in range(3):
            apiserver.apply(service("web", ports=more))
            wait_for(lambda: etcd.exists(second), "the port", 10)
            apiserver.apply(service("web"))
            wait_for(lambda: not etcd.exists(second), "the port to go", 10)
            for chosen in ([f"10.9.{turn}.7", "10.9.0.2"], [f"10.9.{turn}.8"], ["10.9.0.1", "10.9.0.2"]):
                apiserver.apply(endpoints("many", *chosen))
                wait_for(lambda chosen=chosen: data(etcd, "many") == set(chosen), "the endpoints", 10)  # type: ignore[misc]


def test_foreign_changes_of_hidden_keys(etcd: EtcdV2, run: Run) -> None:
    # no watch reports them, and no full pass is due for minutes
    bridge = run(objects=SHOP)
    expected = etcd.dump("/skydns")
    hidden = next(key for key in expected if "/default/s000/_tcp/" in key)
    etcd.put(hidden, "{")
    same_keys(etcd, expected, 20)
    etcd.delete(hidden)
    same_keys(etcd, expected, 20)
    etcd.put(f"{hidden}X", expected[hidden])
    same_keys(etcd, expected, 20)
    bridge.wait_ready(20)


def test_foreign_changes_amid_our_own(
    apiserver: ApiServer, etcd: EtcdV2, servers: list[str], run: Run
) -> None:
    bridge = run(objects=SHOP)
    expected = etcd.dump("/skydns")
    hidden, listed = (
        next(key for key in expected if part in key) for part in ("s000/_tcp/", "many/10-9-0-1/")
    )
    for turn in range(8):
        apiserver.apply(service(f"more{turn}"))
        wait_for(lambda: etcd.exists(f"{HERE}/svc/default/more{turn}"), "the next", 10)  # noqa: B023
        for key in (hidden, listed):
            etcd.put(key, "{")
    wait_for(
        lambda: all(etcd.dump("/skydns")[key] == expected[key] for key in (hidden, listed)), "repairs", 20
    )
    bridge.wait_ready(20)
    assert call("resync", *servers, "--dry-run").returncode == 0


def test_a_value_in_place_of_a_directory(etcd: EtcdV2, run: Run) -> None:
    etcd.put(f"{HERE}/svc/default/s001", '{"host":"192.0.2.2"}')
    etcd.put("/skydns/config", '{"domain":"elsewhere."}')
    bridge = run(objects=services(3))
    assert data(etcd, "s000")
    assert data(etcd, "s002")
    log = bridge.log_text()
    assert f"{HERE}/svc/default/s001 holds a value, and a value has no keys below it" in log
    assert etcd.dump(f"{HERE}/svc/default/s001") == {f"{HERE}/svc/default/s001": '{"host":"192.0.2.2"}'}
    assert etcd.dump("/skydns")["/skydns/config"] == '{"domain":"elsewhere."}'


def test_skydns_config(etcd: EtcdV2, servers: list[str]) -> None:
    own = ("--skydns-config", "true", "--skydns-dns-addr", ":5353", "--skydns-nameserver", "192.0.2.53")
    assert call("resync", *servers, *own).returncode == 0
    assert json.loads(etcd.dump("/skydns")["/skydns/config"]) == {
        "domain": "cluster.local.",
        "hostmaster": "hostmaster.cluster.local.",
        "dns_addr": "0.0.0.0:5353",
        "nameservers": ["192.0.2.53:53"],
        "ttl": 30,
        "min_ttl": 30,
        "owner": "kube2etcd",
    }
    soa = call("explain", "cluster.local", "SOA", *servers).stdout
    assert "SOA ns.dns.cluster.local. hostmaster.cluster.local." in soa, "even without the options"
    assert "does not match" not in soa
    assert call("resync", *servers).returncode == 0
    assert "/skydns/config" not in etcd.dump("/skydns")


def test_an_etcd_without_v2(binaries: Binaries, apiserver: ApiServer, tmp_path: Path) -> None:
    with EtcdV2(tmp_path / "v3", binaries, enable=False) as server:
        done = call("resync", *args(apiserver.kubeconfig(), server))
    assert done.returncode == 1
    assert "has no v2 API: start etcd 3.2 to 3.5 with --enable-v2" in done.stderr
