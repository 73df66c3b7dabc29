from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from kube2etcd.app import build
from kube2etcd.app.offline import from_files
from kube2etcd.inspect.explain import (
    DOES_NOT,
    RESOLVES,
    UNKNOWN,
    Explainer,
    Explanation,
    exit_code,
    question_name,
    question_type,
)
from kube2etcd.inspect.readers import Reader
from kube2etcd.inspect.wait import ServerReply
from kube2etcd.inspect.why import nearest
from kube2etcd.settings import HostPort, load
from kube2etcd.sync.publisher import Publisher

WEB = "web.shop.svc.cluster.local"
SHOP = str(Path(__file__).parents[2] / "examples" / "shop.yaml")

MORE = """
apiVersion: v1
kind: Pod
metadata: {name: worker, namespace: shop}
status: {phase: Running, podIP: 10.244.9.9, podIPs: [{ip: 10.244.9.9}]}
---
apiVersion: v1
kind: Service
metadata: {name: waiting, namespace: shop}
spec: {type: LoadBalancer}
---
apiVersion: v1
kind: Service
metadata: {name: legacy, namespace: shop}
spec: {type: ExternalName, externalName: 192.0.2.9}
---
apiVersion: v1
kind: Service
metadata: {name: bare, namespace: shop}
spec: {clusterIP: None, ports: [{name: http, port: 80, protocol: TCP}]}
---
apiVersion: v1
kind: Service
metadata: {name: lost, namespace: shop}
spec: {type: ExternalName, externalName: gone.shop.svc.cluster.local}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: legacy-abcde, namespace: shop}
endpoints: none
---
apiVersion: kubevirt.io/v1
kind: VirtualMachineInstance
metadata: {name: vm1, namespace: shop}
spec: {networks: [{name: default, pod: {}}, {name: nic1, multus: {networkName: x}}]}
status: {interfaces: [{name: nic1, ipAddress: 192.0.2.30, ipAddresses: [192.0.2.30]}]}
---
apiVersion: kubevirt.io/v1
kind: VirtualMachineInstance
metadata: {name: vm2, namespace: shop}
spec: {networks: [{name: nic1, multus: {networkName: x}}]}
status: {interfaces: [{name: nic1, ipAddress: 127.0.0.1, ipAddresses: [127.0.0.1]}]}
---
apiVersion: kubevirt.io/v1
kind: VirtualMachineInstance
metadata: {name: starting, namespace: shop}
spec: {networks: [{name: nic1, multus: {networkName: x}}]}
---
apiVersion: v1
kind: Service
metadata: {name: younger, namespace: shop, creationTimestamp: "2026-01-02T00:00:00Z"}
spec: {clusterIP: 10.0.0.77}
---
apiVersion: v1
kind: Service
metadata: {name: older, namespace: shop, creationTimestamp: "2026-01-01T00:00:00Z"}
spec: {clusterIP: 10.0.0.77}
---
apiVersion: v1
kind: Namespace
metadata: {name: any}
---
apiVersion: v1
kind: Service
metadata: {name: set, namespace: any}
spec: {clusterIP: None, ports: [{name: http, port: 80, protocol: TCP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: set-abcde, namespace: any, labels: {kubernetes.io/service-name: set}}
addressType: IPv4
ports: [{name: http, port: 80, protocol: TCP}]
endpoints: [{addresses: [10.244.7.7], conditions: {ready: true}}]
---
apiVersion: externaldns.k8s.io/v1alpha1
kind: DNSEndpoint
metadata: {name: names, namespace: shop}
spec:
  endpoints:
    - {dnsName: foo.dtk.io, recordType: A, targets: [10.0.0.5]}
    - {dnsName: a.b.dtk.io, recordType: A, targets: [10.0.0.5]}
    - {dnsName: invalid.dtk.io, recordType: A, targets: [x]}
    - {dnsName: "*.w.dtk.io", recordType: A, targets: [10.0.0.5]}
    - {dnsName: a-foo.dtk.io, recordType: TXT, targets: [heritage=external-dns]}
"""


class Shop:
    """The examples and `MORE` published with some settings, cached by these."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "more.yaml").write_text(MORE)
        self._published = cache(self._publish)

    def _publish(self, zones: str, *options: tuple[str, Any]) -> tuple[Publisher, Reader]:
        config = self._folder / "settings.yaml"
        config.write_text(f"zones: [{zones}]\n")
        defaults = {"pods": "verified", "vm_domain": "", "domains": ("dtk.io",), "dns_endpoints": True}
        settings = load({**defaults, **dict(options)}, {}, config)
        publisher = from_files(settings, [SHOP, str(self._folder / "more.yaml")])
        return publisher, build.reader(settings, publisher)

    def explainer(
        self, existing: dict[bytes, bytes] | None = None, zones: str = "", **options: Any
    ) -> Explainer:
        """``existing``: keys in etcd besides the desired ones."""
        publisher, reader = self._published(zones, *options.items())
        return Explainer(publisher, reader, None if existing is None else {**publisher.desired, **existing})

    def explain(
        self, name: str, rtype: str | None = "A", existing: dict[bytes, bytes] | None = None, **settings: Any
    ) -> Explanation:
        return self.explainer(existing, **settings).explain(question_name(name), rtype)[0]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


CASES = [
    ("foo.dtk.io", "A", "NOERROR", "A 10.0.0.5 comes from dnsendpoints/shop/names"),
    ("foo.dtk.io", "TXT", "NOERROR", "has A only"),
    ("b.dtk.io", "A", "NOERROR", "without any data"),
    ("dtk.io", "A", "NOERROR", "the name exists (zones/dtk.io)"),
    ("invalid.dtk.io", "A", "NXDOMAIN", "dnsendpoints/shop/names: invalid.dtk.io A 'x'"),
    ("x.w.dtk.io", "A", "NXDOMAIN", "there is *.w.dtk.io, but wildcards are not supported"),
    ("a-foo.dtk.io", "TXT", "NXDOMAIN", "a registry record of ExternalDNS"),
    ("none.dtk.io", "A", "NXDOMAIN", "neither ExternalDNS nor a DNSEndpoint has this name"),
    ("10-244-9-9.shop.pod.cluster.local", "A", "NOERROR", "comes from pods/shop/worker"),
    ("10-244-9-8.shop.pod.cluster.local", "A", "NXDOMAIN", "no running pod in the Namespace shop"),
    ("10-244-9-9.shop.pod.cluster.local", "TXT", "NOERROR", "exists (pods/shop/worker) and has A, SRV only"),
    ("x.10-244-9-9.shop.pod.cluster.local", "A", "NOERROR", "labels in front of a pod's name are ignored"),
    ("shop.pod.cluster.local", "A", "NOERROR", "the name exists"),
    ("none.pod.cluster.local", "A", "NXDOMAIN", "there is no Namespace none"),
    ("waiting.shop.svc.cluster.local", "A", "NXDOMAIN", "has no cluster address yet"),
    ("legacy.shop.svc.cluster.local", "A", "NXDOMAIN", "192.0.2.9 is an address, which a CNAME cannot hold"),
    (
        "legacy.shop.svc.cluster.local",
        "A",
        "NXDOMAIN",
        "endpointslices/shop/legacy-abcde, by its name a slice of this Service",
    ),
    ("_http._tcp.bare.shop.svc.cluster.local", "SRV", "NXDOMAIN", "has this port, but no ready endpoint"),
    ("_tcp.bare.shop.svc.cluster.local", "SRV", "NOERROR", "have names of two labels, such as _http._tcp"),
    (
        "_gone._tcp.bare.shop.svc.cluster.local",
        "SRV",
        "NXDOMAIN",
        "no such port; its named ports are: _http._tcp",
    ),
    ("web-0.web.shop.svc.cluster.local", "A", "NXDOMAIN", "names only with --endpoint-names all"),
    ("x.bare.shop.svc.cluster.local", "A", "NXDOMAIN", "has no endpoint named x; it has: none"),
    ("x.lost.shop.svc.cluster.local", "A", "NXDOMAIN", "is an ExternalName, and no name below it exists"),
    ("lost.shop.svc.cluster.local", "A", "NOERROR", "to gone.shop.svc.cluster.local., which leads"),
    ("vm1.shop.vm", "A", "NOERROR", "comes from virtualmachineinstances/shop/vm1"),
    ("nic1.vm1.shop.vm", "A", "NOERROR", "192.0.2.30"),
    ("vm2.shop.vm", "A", "NXDOMAIN", "virtualmachineinstances/shop/vm2: "),
    ("nic9.vm1.shop.vm", "A", "NXDOMAIN", "shop/vm1: its status has no secondary interface with an address"),
    ("starting.shop.vm", "A", "NXDOMAIN", "shop/starting: its status has no secondary interface"),
    ("x.shop.starting.vm", "A", "NXDOMAIN", "no object has this name in vm"),
    ("vm3.shop.vm", "A", "NXDOMAIN", "no object has this name in vm"),
    ("vm1.shop.vm", "AAAA", "NOERROR", "has A only"),
    ("svc.cluster.local", "A", "NOERROR", "the parent of all namespaces exists"),
    ("web.shpo.svc.cluster.local", "A", "NXDOMAIN", "there is no Namespace shpo"),
    ("shop.svc.cluster.local", "A", "NOERROR", "the Namespace shop exists"),
    ("nothing.cluster.local", "A", "NXDOMAIN", "only svc, pod, dns and dns-version exist below"),
    ("db-2.db.shop.svc.cluster.local", "A", "NXDOMAIN", "it has: db-0, db-1"),
    ("db.shop.svc.cluster.local", "A", "NOERROR", "10.244.3.13 is not ready"),
    ("a.b.c.d.10.in-addr.arpa", "PTR", "REFUSED", "not the full reverse name"),
    ("10.0.0.77", "PTR", "NOERROR", "PTR older.shop.svc.cluster.local. comes from services/shop/older"),
    ("10.0.0.77", "PTR", "NOERROR", "services/shop/younger also claims 10.0.0.77"),
    ("db.shop", "A", "REFUSED", "list turns it into db.shop.svc.cluster.local: NOERROR"),
    ("db-2.db.shop", "A", "REFUSED", "why: services/shop/db: endpoint 10.244.3.13 is not ready"),
    ("web.shop.svc", "A", "REFUSED", "list turns it into web.shop.svc.cluster.local: NOERROR"),
    ("wbe.shop", "A", "REFUSED", "nearest: web.shop.svc.cluster.local."),
    ("dns-version.cluster.local", "TXT", "NOERROR", "1.1.0"),
    ("dns-version.cluster.local", "A", "NOERROR", "has TXT only"),
    ("svc.cluster.local", "TXT", "NOERROR", "exists without data"),
    ("web.shop.svc.cluster.local", "DS", "NOERROR", "has A, AAAA, SRV only"),
    ("web.shop.svc.cluster.local", "TYPE64", "NOERROR", "has A, AAAA, SRV only"),
    ("cluster.local", "ANY", "NOERROR", "RFC 8482"),
    ("cluster.local", "A", "NOERROR", "the name exists (zones/cluster.local) without any data"),
    ("cluster.local", "SOA", "NOERROR", "why: the DNS server generates the SOA"),
    ("cluster.local", "NS", "NOERROR", "why: no NS record without --dns-server-ip"),
    ("vm", "NS", "NOERROR", "why: no NS record without --name-server-ip"),
    ("dtk.io", "NS", "NOERROR", "why: no NS record in zones of this kind"),
]


@pytest.mark.parametrize(
    ("name", "rtype", "rcode", "hint"),
    CASES,
    ids=[f"{name}-{rtype}-{hint[:12]}" for name, rtype, _, hint in CASES],
)
def test_answer_and_reason(shop: Shop, name: str, rtype: str, rcode: str, hint: str) -> None:
    found = shop.explain(name, rtype)
    assert found.rcode == rcode
    assert hint in str(found)


LONG = ".".join([*["a" * 60] * 3, "b" * 50, "shop"])
NESTED = "{zone: one}, {zone: shop.one, namespaces: [other]}, {zone: b.dtk.io}"
NO_ADDRESS = "services/shop/waiting: the Service has no external or internal address"
CREATED = "services/shop/web (ClusterIP, created 2026-01-05T09:00:00Z)"
UNSELECTED = "namespaces/shop: namespace shop is not selected for b.example"
TEAM = "{zone: b.example, namespace_selector: team=b}"
SELECTED = "{zone: shop.example, namespaces: [shop]}"


SINGLE: list[tuple[str, dict[str, Any], str]] = [
    ("shop.b.example A", {"zones": TEAM}, "namespaces/shop: namespace shop is not selected for b.example"),
    (
        "none.shop.b.example A",
        {"zones": TEAM},
        "namespaces/shop: namespace shop is not selected for b.example",
    ),
    ("waiting.shop.shop.example A", {"zones": SELECTED}, NO_ADDRESS),
    ("none.shop.shop.example A", {"zones": SELECTED}, "no object has this name in shop.example"),
    (
        "cluster.local NS",
        {"dns_server_ip": ("10.0.0.10",)},
        "it is made from the addresses of ns.dns.cluster.local",
    ),
    ("db.shop A", {"no_cluster_zone": True}, "db.shop is not in vm or dtk.io, nor a reverse name"),
    (f"{LONG} A", {}, f"{LONG} is not in cluster.local or vm or dtk.io, nor a reverse name"),
    ("shop.svc.cluster.local A", {}, "the Namespace shop exists, but has no data of its own"),
    ("web.shop.svc.cluster.local A", {"existing": {}}, f"A 10.96.20.10 comes from {CREATED}"),
]


WILDCARD = "has no name in DNS: the label 'any' is a wildcard to the DNS server and cannot be served"
UNNAMED = f"namespaces/any: the namespace {WILDCARD}"
BELOW = "below a Service are only endpoints, such as db-0, and ports, such as _http._tcp"
IGNORED = "labels in front of a pod's name are ignored"
WHATEVER = "whether or not the name exists"
POD = "the name exists (pods/shop/worker) and has A, SRV only"
PARENT = "the parent of all namespaces exists without data"
INSECURE = {"pods": "insecure"}

SINGLE += [
    # below Services
    (
        "x.payments.shop.svc.cluster.local A",
        {},
        "the Service shop/payments is an ExternalName, and no name below it exists",
    ),
    ("a.db-0.web.shop.svc.cluster.local A", {}, BELOW),
    ("_http._tcp.a.web.shop.svc.cluster.local SRV", {}, BELOW),
    ("_http.tcp.web.shop.svc.cluster.local SRV", {}, BELOW),
    (
        "_http._udp.web.shop.svc.cluster.local SRV",
        {},
        "the Service shop/web has no such port; its named ports are: _http._tcp",
    ),
    (
        "_http._tcp.web.shop.svc.cluster.local A",
        {},
        f"the name of a port also has the addresses of {CREATED}",
    ),
    (
        "_http._tcp.web.shop.svc.cluster.local MX",
        {},
        "the name exists (services/shop/web) and has only SRV and the addresses of its Service",
    ),
    (
        "_http._tcp.web.shop.shop.example AAAA",
        {"zones": SELECTED},
        f"the name of a port also has the addresses of {CREATED}",
    ),
    # an alias is followed to addresses only
    ("lost.shop.svc.cluster.local SRV", {}, "the name exists (services/shop/lost) and has CNAME only"),
    # a Namespace without a name
    ("any.svc.cluster.local A", {}, UNNAMED),
    ("any.pod.cluster.local A", {}, UNNAMED),
    ("10-244-7-7.any.pod.cluster.local A", {}, UNNAMED),
    # Pods
    ("pod.cluster.local A", {}, PARENT),
    ("pod.cluster.local A", INSECURE, PARENT),
    ("10-244-9-9.shop.pod.cluster.local AAAA", {}, POD),
    ("10-244-9-9.shop.pod.cluster.local TXT", {}, POD),
    ("x.10-244-9-9.shop.pod.cluster.local A", {}, IGNORED),
    ("x.10-244-9-9.shop.pod.cluster.local TXT", {}, IGNORED),
    (
        "worker.shop.pod.cluster.local A",
        {},
        "no running pod in the Namespace shop has an address written worker (--pods verified)",
    ),
    ("10-244-9-9.none.pod.cluster.local A", {}, "there is no Namespace none"),
    (
        "10-1-2-3.shop.pod.cluster.local A",
        INSECURE,
        "computed from the name; the pod need not exist (--pods insecure)",
    ),
    (
        "10-1-2-3.shop.pod.cluster.local AAAA",
        INSECURE,
        "the first label is not an address of this type (--pods insecure)",
    ),
    (
        "10-1-2-3.shop.pod.cluster.local A",
        {"pods": "disabled"},
        "pod names are disabled (--pods disabled, or insecure with SkyDNS)",
    ),
    ("a.b.shop.pod.cluster.local A", INSECURE, "pod names have the form ADDRESS.NAMESPACE.pod.ZONE"),
    # what the Corefile answers by itself
    (
        "10-9-9-9.shop.pod.cluster.local SOA",
        {},
        f"the Corefile answers NODATA for SOA below the apex, {WHATEVER}",
    ),
    ("dns.cluster.local A", {}, "dns.cluster.local exists without data"),
    ("10.244.7.7 PTR", {}, "no Service or endpoint with a name in DNS has the address 10.244.7.7"),
]

MANY: list[tuple[str, tuple[str, ...]]] = [
    (
        "_http._tcp.waiting.shop.svc.cluster.local SRV",
        (
            "the Service shop/waiting exists, but has no record",
            "services/shop/waiting: the Service has no cluster address yet",
        ),
    ),
    (
        "10-244-7-7.set.any.svc.cluster.local A",
        (
            "the Service any/set exists, but has no record",
            f"services/any/set: the Service {WILDCARD}",
        ),
    ),
    (
        "_tcp.none.shop.svc.cluster.local SRV",
        (
            "there is no Service shop/none",
            f"the Corefile answers NODATA for names such as _tcp.SERVICE, {WHATEVER}",
        ),
    ),
    (
        "x.10-9-9-9.shop.pod.cluster.local A",
        ("no running pod in the Namespace shop has an address written 10-9-9-9 (--pods verified)",),
    ),
]


@pytest.mark.parametrize(("question", "reasons"), MANY, ids=[one[0] for one in MANY])
def test_all_reasons(shop: Shop, question: str, reasons: tuple[str, ...]) -> None:
    name, rtype = question.split()
    assert shop.explain(name, rtype).reasons == reasons


@pytest.mark.parametrize(
    ("question", "settings", "reason"), SINGLE, ids=[f"{one[0]}-{one[2][:12]}" for one in SINGLE]
)
def test_single_reason(shop: Shop, question: str, settings: dict[str, Any], reason: str) -> None:
    name, rtype = question.split()
    assert shop.explain(name, rtype, **settings).reasons == (reason,)


def test_inner_zone_that_answers_is_named(shop: Shop) -> None:
    for name, reason in (
        ("web.shop.one", "services/shop/web: web.shop.one is in the zone shop.one"),
        ("a.b.dtk.io", "names/a.b.dtk.io: a.b.dtk.io is in the zone b.dtk.io, which has names of its own"),
    ):
        assert reason in shop.explain(name, zones=NESTED).reasons
    assert not any(" is in the " in one for one in shop.explain("foo.dtk.io", "NS", zones=NESTED).reasons)


@pytest.mark.parametrize(("rival", "loses"), [("elder", True), ("younger", False)])
def test_writer_that_keeps_the_name_is_named(shop: Shop, rival: str, loses: bool) -> None:
    # Without a bridge, etcd's keys decide: a shared name goes to the owner id that sorts first.
    value = f'{{"host":"10.0.0.5","owner":"{rival}"}}'.encode()
    keys = {b"/skydns/io/dtk/foo/own_": value, b"/skydns/io/dtk/foo/own_/10-0-0-5-H": value}
    lost = f"another writer ({rival}) keeps this name: its owner ID sorts before ours (kube2etcd)"
    assert shop.explain("foo.dtk.io", existing=keys).reasons.count(lost) == loses


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("wbe.shop.svc.cluster.local", "web.shop.svc.cluster.local"),
        ("web.shpo.svc.cluster.local", "web.shop.svc.cluster.local"),
        ("_htp._tcp.web.shop.svc.cluster.local", "_http._tcp.web.shop.svc.cluster.local"),
        ("web.shop.svc.cluster.locl", "web.shop.svc.cluster.local"),
        ("fooo.dtk.io", "foo.dtk.io"),
        ("vm11.shop.vm", "vm1.shop.vm"),
        ("entirely.different.thing", None),
        ("99.20.96.10.in-addr.arpa", None),
        ("web.shop.svc.cluster.local", None),
        ("web.shop.*.cluster.local", None),
    ],
)
def test_nearest_names(shop: Shop, name: str, near: str | None) -> None:
    assert list(shop.explain(name, None).nearest[:1]) == ([f"{near}."] if near else [])


def test_nearest_of_100_000_names() -> None:
    known = [f"n{number}.other.svc.a" for number in range(100_000)] + ["web.shop.svc.a"]
    assert nearest("wbe.shop.svc.a", "a", known) == ["web.shop.svc.a"]


def test_many_endpoints_are_counted(tmp_path: Path) -> None:
    def endpoint(number: int) -> str:
        return f"{{addresses: [10.9.{number >> 8}.{number & 255}], conditions: {{ready: {number < 700}}}}}"

    file = tmp_path / "large.yaml"
    file.write_text(
        "{apiVersion: v1, kind: Service, metadata: {name: db, namespace: shop}, spec: {clusterIP: None}}\n"
        "---\n"
        "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, metadata: {name: db-1,"
        " namespace: shop, labels: {kubernetes.io/service-name: db}}, endpoints:"
        f" [{', '.join(map(endpoint, range(800)))}]}}"
    )
    settings = load({}, {})
    publisher = from_files(settings, [str(file)])
    explainer = Explainer(publisher, build.reader(settings, publisher))
    [found] = explainer.explain(question_name("db.shop.svc.cluster.local"), "A")
    assert len(found.answers) == 700
    assert found.reasons[0] == "700 records come from services/shop/db (headless)"
    assert (len(found.reasons), found.reasons[-1]) == (51, "51 more reasons")


@pytest.mark.parametrize("value", [b'{"host":"other.example"}', b"{bad"], ids=["changed", "malformed"])
def test_answer_comes_from_the_keys_in_etcd(shop: Shop, value: bytes) -> None:
    found = shop.explain("10.96.20.10", "PTR", {b"/skydns/arpa/in-addr/10/96/20/10": value})
    assert WEB not in str(found.answers)
    assert found.reasons[-1] == (
        f"etcd does not match the cluster here, which would give NOERROR; 10.20.96.10.in-addr.arpa. 30 IN PTR"
        f" {WEB}.: is kube2etcd running, or are deletions held? see kube2etcd resync --dry-run"
    )


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b'{"host":', "is malformed, which breaks all names above it: resync --prune-foreign deletes it"),
        (b'{"host":"10.66.6.6"}', "is in this answer: resync --prune-foreign deletes it"),
        (b'{"host":"10.66.6.6","owner":"other"}', "(owner other) is in this answer: resync"),
        (b'{"host":"10.66.6.6","owner":"kube2etcd/sub"}', "is in this answer: delete it in etcd"),
    ],
    ids=["malformed", "no owner", "other owner", "sub-owner"],
)
def test_foreign_key_is_named(shop: Shop, value: bytes, reason: str) -> None:
    key = b"/skydns/local/cluster/svc/shop/web/zz"
    found = shop.explain(WEB, existing={key: value})
    assert (found.rcode == "SERVFAIL") is ("malformed" in reason)
    reasons = found.reasons
    assert [one for one in reasons if key.decode() in one and reason in one], reasons
    assert "etcd does not match the cluster here" in reasons[-1]
    assert "kube2etcd running" not in reasons[-1]


def test_many_foreign_keys_are_counted(shop: Shop) -> None:
    keys = {f"/skydns/local/cluster/svc/shop/web/z{at}".encode(): b'{"host":"10.66.6.6"}' for at in range(12)}
    malformed = b"/skydns/local/cluster/svc/shop/web/0"  # the first one, where a server stops reading
    reasons = shop.explain(WEB, existing={**keys, malformed: b"{"}).reasons
    assert "13 keys of other writers are in this answer; the first 10:" in reasons
    named = [one for one in reasons if "another writer's key" in one]
    assert (len(named), f"{malformed.decode()} is malformed" in named[0]) == (10, True)


SERVER = HostPort("192.0.2.53", 53)
NXDOMAIN = ServerReply("NXDOMAIN")
SOA = "ns.dns.cluster.local. hostmaster.cluster.local. 9 7200 1800 86400 30"
VERSION, PAYMENTS = "dns-version.cluster.local", "payments.shop.svc.cluster.local"
FOLLOWED = (f"{PAYMENTS}. 30 IN CNAME api.payments.example.", "api.payments.example. 9 IN A 192.0.2.1")


def reply(*data: str, rtype: str = "A", name: str = WEB, ttl: int = 30) -> ServerReply:
    return ServerReply("NOERROR", data, records=tuple(f"{name}. {ttl} IN {rtype} {one}" for one in data))


@pytest.mark.parametrize(
    ("name", "rtype", "answer", "resolves", "differences"),
    [
        (WEB, "A", reply("10.96.20.10", ttl=3), True, []),
        (WEB.upper(), "A", reply("10.96.20.10"), True, []),
        (WEB, "A", reply("10.96.20.9"), True, ["it lacks", "it has", "an answer cached for up to 30 s"]),
        (WEB, "A", NXDOMAIN, False, ["but etcd's keys give NOERROR", "it lacks", "a cached answer"]),
        (WEB, "A", ServerReply("REFUSED"), False, ["no server block for it"]),
        (WEB, "A", ServerReply("SERVFAIL"), False, ["it cannot read its etcd"]),
        (WEB, "A", ServerReply("", trouble="no answer from 192.0.2.53:53"), None, ["no answer from"]),
        (WEB, "TXT", ServerReply("NOERROR"), False, []),
        ("cluster.local", "SOA", reply(SOA, rtype="SOA", name="cluster.local"), True, []),
        (VERSION, "TXT", reply('"1.1.0"', rtype="TXT", name=VERSION), True, []),
        ("www.example", "A", reply("192.0.2.1", name="www.example"), True, []),
        (PAYMENTS, "A", ServerReply("NOERROR", ("192.0.2.1",), records=FOLLOWED), True, []),
    ],
)
def test_differences_between_a_server_and_the_keys(
    shop: Shop, name: str, rtype: str, answer: ServerReply, resolves: bool | None, differences: list[str]
) -> None:
    found = shop.explain(name, rtype).with_server(SERVER, answer)
    assert found.server is not None
    assert found.resolves is resolves
    shown = "NODATA" if answer.rcode == "NOERROR" and not answer.data else answer.rcode
    assert str(found.server).startswith(f"server {SERVER}: {shown}" if shown else "server: no answer from")
    assert len(found.server.differences) == len(differences)
    for hint, difference in zip(differences, found.server.differences, strict=True):
        assert hint in difference
    same = not differences and found.rcode != "REFUSED"
    assert ("  matches etcd's keys" in str(found)) is same


def test_control_characters_do_not_reach_the_terminal() -> None:
    found = Explanation("a.", "TXT", "NOERROR", ("a. 30 IN TXT \x1b[2J",), (), ("\x07",), ("\r",))
    found = found.with_server(SERVER, ServerReply("NOERROR", ("\x1b",), records=("a. 30 IN TXT \x1b",)))
    assert all(line.isprintable() for line in str(found).splitlines())


@pytest.mark.parametrize(
    ("names", "code"),
    [
        ([(WEB, "A")], RESOLVES),
        ([(WEB, "TXT")], DOES_NOT),
        ([(WEB, "TXT"), (WEB, "A"), ("www.example", "A")], RESOLVES),
        ([(WEB, "TXT"), ("www.example", "A")], UNKNOWN),
        ([(PAYMENTS, "A")], UNKNOWN),
        ([(PAYMENTS, "CNAME")], RESOLVES),
        ([("cluster.local", "ANY")], RESOLVES),
    ],
)
def test_exit_codes(shop: Shop, names: list[tuple[str, str]], code: int) -> None:
    assert exit_code(shop.explain(name, rtype) for name, rtype in names) == code


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("10.0.0.1", "1.0.0.10.in-addr.arpa"),
        ("::ffff:10.0.0.1", "1.0.0.10.in-addr.arpa"),
        ("[::ffff:10.0.0.1]", "1.0.0.10.in-addr.arpa"),
        ("Web.Shop.", "web.shop"),
        ("*.Shop.", "*.shop"),
        ("Bücher.Shop.", "xn--bcher-kva.shop"),
    ],
)
def test_question_name(text: str, name: str) -> None:
    assert str(question_name(text)) == name


def test_question_type() -> None:
    assert list(map(question_type, ("a", "type1", "TYPE65280"))) == ["A", "A", "TYPE65280"]
    for text in ("B", "TYPE65536", "TYPE0", ""):
        with pytest.raises(ValueError, match="is not a record type; write one such as A"):
            question_type(text)
