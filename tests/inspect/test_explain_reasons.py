"""The reasons that `explain` gives, on the examples' shop."""

from __future__ import annotations

from typing import Any

import pytest

from tests.inspect.shop import Shop

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
    ("lost.shop.svc.cluster.local", "A", "NOERROR", "to gone.shop.svc.cluster.local., which has nothing"),
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
