"""Settings, layout and explanations for classic SkyDNS."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from kube2etcd.app import build
from kube2etcd.app.build import reader
from kube2etcd.app.offline import from_files
from kube2etcd.inspect.explain import Explainer, question_name
from kube2etcd.settings import Settings, load
from skydns_compat.names import Name
from skydns_compat.skydns import SkydnsLayout

OBJECTS = """
- {apiVersion: v1, kind: Namespace, metadata: {name: any}}
- {apiVersion: v1, kind: Namespace, metadata: {name: hunt}}
- {apiVersion: v1, kind: Service, metadata: {name: web, namespace: any}, spec: {clusterIP: 10.0.0.1}}
- {apiVersion: v1, kind: Service, metadata: {name: any, namespace: hunt}, spec: {clusterIP: 10.0.0.3}}
- apiVersion: v1
  kind: Service
  metadata: {name: web, namespace: hunt}
  spec: {clusterIP: "fd00::2", ports: [{name: http, port: 80}]}
- {apiVersion: v1, kind: Service, metadata: {name: db, namespace: hunt}, spec: {clusterIP: None}}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: db-0, namespace: hunt, labels: {kubernetes.io/service-name: db}}
  addressType: IPv4
  endpoints: [{addresses: [10.9.0.1], hostname: any}, {addresses: [10.9.0.2], hostname: b}]
  ports: [{name: sql, port: 5432}]
"""
ALIASES = {
    "out": "www.example.com",
    "short": "intranet",
    "near": "web.hunt.svc.cluster.local",
    "lost": "gone.hunt.svc.cluster.local",
    "wild": "x.any.example.com",
}

SHOP = str(Path(__file__).parents[2] / "examples" / "shop.yaml")


def v2(**options: object) -> Settings:
    return load({"etcd_api": "v2", **options}, {})


def test_layout_and_pods_depend_on_the_reader() -> None:
    assert isinstance(build.layout(v2()), SkydnsLayout)
    assert not isinstance(build.layout(Settings()), SkydnsLayout)
    served = {pods: build.pods(v2(pods=pods)) for pods in ("disabled", "insecure", "verified")}
    assert served == {"disabled": "disabled", "insecure": "disabled", "verified": "verified"}
    assert build.pods(Settings()) == "insecure"


@pytest.mark.parametrize(
    ("address", "written"),
    [(":53", b'"dns_addr":"0.0.0.0:53"'), ("[::1]:53", b'"dns_addr":"[::1]:53"'), (None, b'"ttl":30')],
)
def test_skydns_config(address: str | None, written: bytes) -> None:
    publisher = from_files(v2(skydns_config="true", skydns_dns_addr=address), [SHOP])
    assert written in publisher.desired[b"/skydns/config"]
    assert b"/skydns/config" not in from_files(v2(), [SHOP]).desired


def test_explain_reads_the_skydns_config_in_etcd() -> None:
    config = b"/skydns/config"
    publisher = from_files(v2(), [SHOP])
    written = from_files(v2(skydns_config="true", ttl="7"), [SHOP]).desired[config]
    explainer = Explainer(publisher, reader(v2(), publisher), {**publisher.desired, config: written})
    (found,) = explainer.explain(Name.parse("cluster.local"), "SOA")
    assert found.answers == (
        "cluster.local. 7 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 0 28800 7200 604800 7",
    )
    assert found.reasons == (
        "the DNS server generates the SOA",
        "SkyDNS takes the values of the SOA from /skydns/config in etcd, or its defaults",
    )


@pytest.fixture(scope="module")
def hunt(tmp_path_factory: pytest.TempPathFactory) -> Explainer:
    objects = yaml.safe_load(OBJECTS)
    for name, target in ALIASES.items():
        spec = {"type": "ExternalName", "externalName": target}
        meta = {"name": name, "namespace": "hunt"}
        objects.append({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec})
    file = tmp_path_factory.mktemp("hunt") / "hunt.yaml"
    file.write_text(yaml.safe_dump_all(objects))
    publisher = from_files(v2(), [str(file)])
    return Explainer(publisher, reader(v2(), publisher), dict(publisher.desired))


@pytest.mark.parametrize(
    ("question", "rcode", "records", "reasons"),
    [
        (
            "web.any.svc AAAA",
            "NOERROR",
            1,
            ["label any as a wildcard", "services/any/web: the Service has no"],
        ),
        (
            "any.hunt.svc A",
            "NOERROR",
            0,
            ["label any as a wildcard", "services/hunt/any: the Service has no"],
        ),
        ("any.db.hunt.svc A", "NOERROR", 2, ["label any as a wildcard", "hostname 'any' is a wildcard"]),
        ("*.db.hunt.svc A", "NOERROR", 2, ["label * as a wildcard"]),
        ("*.svc A", "NOERROR", 0, ["label * as a wildcard"]),
        ("web.hunt.svc AAAA", "NOERROR", 1, ["comes from services/hunt/web"]),
        ("_http._tcp.web.hunt.svc SRV", "NOERROR", 1, ["comes from services/hunt/web"]),
        ("gone.hunt.svc A", "NXDOMAIN", 0, ["there is no Service hunt/gone"]),
        ("10-1-2-3.hunt.pod A", "NXDOMAIN", 0, ["pod names are disabled"]),
        ("www.example. A", "REFUSED", 0, ["is not in cluster.local"]),
        ("fd00::2 PTR", "NOERROR", 1, ["comes from services/hunt/web"]),
        ("web.hunt.svc ANY", "REFUSED", 0, ["refuses ANY"]),
        ("gone.hunt.svc NS", "NOERROR", 0, ["every name below the apex"]),
        ("hunt.svc SRV", "NOERROR", 1, ["port 0"]),
        ("_http._tcp.web.hunt.svc AAAA", "NOERROR", 2, ["an SRV target as an alias"]),
        ("web.hunt.svc TXT", "NOERROR", 0, ["has AAAA, SRV only"]),
        ("out.hunt.svc CNAME", "NOERROR", 0, ["only to A and AAAA", "has CNAME only"]),
        ("out.hunt.svc A", "NOERROR", 1, ["from services/hunt/out", "resolves www.example"]),
        ("near.hunt.svc AAAA", "NOERROR", 2, ["comes from services/hunt/near"]),
        ("short.hunt.svc A", "NOERROR", 0, ["a name of one label"]),
        ("lost.hunt.svc A", "NOERROR", 0, ["whose target has no address"]),
        ("wild.hunt.svc A", "NOERROR", 0, ["services/hunt/wild: x.any.example.com cannot be followed"]),
        ("fd00::2 A", "NOERROR", 1, ["whatever the type below ip6.arpa", "has PTR only"]),
        ("fd00::3 PTR", "REFUSED", 0, ["forwards reverse queries"]),
        ("web. A", "SERVFAIL", 0, ["names of two or more labels"]),
    ],
)
def test_answers_and_reasons(
    hunt: Explainer, question: str, rcode: str, records: int, reasons: list[str]
) -> None:
    name, rtype = question.split()
    qname = question_name(name if ":" in name or name.endswith(".") else f"{name}.cluster.local")
    (found,) = hunt.explain(qname, rtype)
    assert (found.rcode, len(found.answers)) == (rcode, records)
    for reason in reasons:
        assert any(reason in one for one in found.reasons), found.reasons
    assert not any("does not match" in one for one in found.reasons)
    assert bool(records) or not any("comes from" in one for one in found.reasons)


def test_coredns_and_skydns_agree_on_addresses() -> None:
    published = [(settings, from_files(settings, [SHOP])) for settings in (Settings(), v2())]
    readers = [Explainer(publisher, reader(settings, publisher)) for settings, publisher in published]
    for name in ("web.shop.svc", "db.shop.svc", "db-0.db.shop.svc", "gone.shop.svc", "shop.svc"):
        for rtype in ("A", "AAAA"):
            found = [one.explain(Name.parse(f"{name}.cluster.local"), rtype)[0] for one in readers]
            one, other = ((each.rcode, {rr.split()[-1] for rr in each.answers}) for each in found)
            assert one == other, (name, rtype)
