"""CoreDNS on our keys answers as CoreDNS's kubernetes plugin does.

The plugin keeps slices in no order, so equal answers also show that order has no influence.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from tests.stack.harness import ApiServer
from tests.stack.known_differences import INTENTIONAL, KNOWN, KnownDifference, classified
from tests.stack.kubeclient import Object
from tests.stack.objects import HTTP, endpoint_slice, external, namespace, pod, service
from tests.stack.pair import Pair, StartPair
from tests.stack.questions import Question, questions
from tests.stack.random_cluster import OVERLAP_NAMESPACE, mutate, random_cluster

MIN_IDENTICAL = 0.995

#: For small clusters, where special questions have more weight.
MIN_IDENTICAL_SMALL = 0.97


@dataclass(frozen=True)
class Case:
    seed: int
    size: int
    pods: str
    with_upstream: bool = True

    def __str__(self) -> str:
        upstream = "" if self.with_upstream else ", no upstream"
        return f"seed {self.seed}, {self.size} Services, pods {self.pods}{upstream}"


CASES = [
    Case(1, 40, "verified"),
    Case(2, 40, "verified"),
    Case(3, 40, "verified", with_upstream=False),
    Case(4, 16, "disabled"),
    Case(5, 16, "insecure"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"seed{case.seed}-{case.pods}")
def test_answers_match_the_kubernetes_plugin(
    case: Case, start_pair: StartPair, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = start_pair(pods=case.pods, with_upstream=case.with_upstream)
    for obj in random_cluster(case.seed, case.size):
        pair.apiserver.apply(obj)
    pair.catch_up()
    report = pair.compare(questions(pair.objects()))
    names = classified(report, str(case), capsys)
    assert report.asked >= 1000
    least = MIN_IDENTICAL if case.size >= 40 else MIN_IDENTICAL_SMALL
    assert 1 - sum(name not in INTENTIONAL for name in names) / report.asked >= least


def test_cname_to_a_pod_matches(start_pair: StartPair) -> None:
    """The etcd plugin resolves an alias without the Corefile's rules; DS is asked of the topmost zone."""
    targets = {
        "ipv4": "10-1-2-3.default.pod",
        "below": "x.y.10-1-2-3.default.pod",
        "ipv6": "fd00-10--5.default.pod",
        "twice": "10-1-2-3.default.pod",
        "no-address": "10-1-2-300.default.pod",
        "namespace": "default.svc",
    }
    names = [f"{name}.default.svc" for name in targets]
    names += ["kubernetes.default.svc", "_https._tcp.kubernetes.default.svc", "default.svc", "default.pod"]
    names += ["svc", "none.default.svc", "none.svc", "x.none.svc", "ns.dns", "none", "10-1-2-3.default.pod"]
    names += ["none.dns"]
    pair = start_pair(pods="insecure")
    pair.apiserver.apply_all([external(name, f"{to}.cluster.local") for name, to in targets.items()])
    pair.catch_up()
    report = pair.compare(
        Question(f"{name}.cluster.local.", rtype, "alias or none")
        for name in names
        for rtype in ("A", "AAAA", "CNAME", "DS", "HTTPS", "SVCB", "CAA", "TYPE65280")
    )
    assert not report.found, report.table("aliases to Pod names, types without records")
    assert report.answered >= 8


def test_terminating_pod_matches_until_it_is_gone(start_pair: StartPair, apiserver: ApiServer) -> None:
    one = pod("draining", "10.9.8.7", finalizers=["example.com/drain"])
    asked = [Question("10-9-8-7.default.pod.cluster.local.", rtype, "pod") for rtype in ("A", "AAAA", "SRV")]
    pair = start_pair(pods="verified")

    def assert_slices_match(answered: bool) -> None:
        pair.catch_up()
        report = pair.compare(asked)
        assert not report.found, report.table("a terminating pod")
        assert bool(report.answered) is answered

    apiserver.apply(one)
    assert_slices_match(answered=True)
    apiserver.delete(one, wait=False)
    assert apiserver.get("v1", "Pod", "draining", "default")["metadata"]["deletionTimestamp"]
    assert_slices_match(answered=True)
    del one["status"], one["metadata"]["finalizers"]
    apiserver.apply(one)
    assert_slices_match(answered=False)


SLICE_QUESTIONS = re.compile(
    "(headless|ClusterIP) (service|endpoint|port|port without underscores|unnamed port)"
)
TYPES = ("A", "AAAA", "SRV", "CNAME")


@pytest.mark.parametrize("seed", [1, 2])
def test_overlapping_slices_match(
    seed: int, start_pair: StartPair, apiserver: ApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    objects = random_cluster(seed, 150, overlapping=True)
    pair = start_pair()
    apiserver.apply_all(objects)
    assert_slices_match(pair, f"crowded, seed {seed}", capsys, least=3000)
    for operation in mutate(seed, objects, 150, overlapping=True):
        operation.perform(apiserver)
    assert_slices_match(pair, f"disturbed, seed {seed}", capsys, least=3000)


def test_unusual_slices_match(start_pair: StartPair, capsys: pytest.CaptureFixture[str]) -> None:
    pair = start_pair()
    pair.apiserver.apply_all(unusual_slices())
    assert_slices_match(pair, "odd", capsys, least=200)


def assert_slices_match(pair: Pair, title: str, capsys: pytest.CaptureFixture[str], least: int) -> None:
    """Assert that all answers that depend on slices equal the plugin's, or differ in a known way."""
    pair.catch_up()
    about_slices = (
        one
        for one in questions(pair.objects())
        if one.rdtype in TYPES and SLICE_QUESTIONS.fullmatch(one.kind)
    )
    report = pair.compare(about_slices)
    classified(report, title, capsys)
    assert report.asked >= least


def unusual_slices() -> list[Object]:
    """Services with one slice each that the API server accepts and no controller would write."""
    one, other = {"addresses": ["10.2.0.1"]}, {"addresses": ["10.2.0.4"]}
    going = [
        {"addresses": ["10.2.0.8"], "conditions": {"ready": True, "terminating": True}},
        {"addresses": ["10.2.0.9"], "conditions": {"ready": False, "serving": True}},
    ]
    slices = [
        a_slice("names-1", {"addresses": ["www.example.com"]}, family="FQDN"),
        a_slice("names-2", {"addresses": ["long.crowd.svc.cluster.local"]}, family="FQDN"),
        a_slice("colons-1", {"addresses": ["::5"]}, family="IPv6"),
        a_slice("colons-2", {"addresses": ["::5:0:0:0"]}, {"addresses": ["fd00::"]}, family="IPv6"),
        a_slice("long", one, ports=[{"name": "p" * 63, "port": 80}]),
        a_slice("nearly", one, ports=[{"name": "p" * 62, "port": 80}]),
        a_slice("zero", {"addresses": ["10.2.0.2"]}, ports=[{"name": "http", "port": 0}]),
        a_slice(
            "same-number",
            {"addresses": ["10.2.0.3"]},
            ports=[{"name": name, "port": 80} for name in ("a", "b", "")],
        ),
        a_slice("twice", other, other, {"addresses": ["10.2.0.5", "10.2.0.4"], "hostname": "h"}),
        a_slice(
            "others-name", {"addresses": ["10.2.0.6"]}, {"addresses": ["10.2.0.7"], "hostname": "10-2-0-6"}
        ),
        a_slice("going", *going),
    ]
    names = [one["metadata"]["name"] for one in slices]
    return [
        namespace(OVERLAP_NAMESPACE),
        *(service(name, OVERLAP_NAMESPACE, ports=[HTTP], clusterIP="None") for name in names),
        *slices,
    ]


def a_slice(name: str, *endpoints: Object, family: str = "IPv4", ports: Sequence[Object] = (HTTP,)) -> Object:
    return endpoint_slice(name, name, endpoints, namespace=OVERLAP_NAMESPACE, family=family, ports=ports)


#: A zone of all Services. The plugin serves its parent like a cluster's zone, so the same names exist.
ORACLE_ZONE = "all.example"
ZONE = f"svc.{ORACLE_ZONE}"

#: Many questions are about endpoints, which have no names here.
MIN_IDENTICAL_ZONE = 0.90

#: As in the specification, only headless Services name their endpoints.
CLUSTER_IP_ENDPOINTS = KnownDifference(
    name="endpoints of Services with an address",
    kinds="ClusterIP (no such )?endpoint( in capitals)?",
    what="NOERROR became NXDOMAIN",
)


def dropped_aliases(objects: Sequence[Object]) -> KnownDifference:
    """Aliases into another zone of ours, which are left out: two could form a loop."""
    ours = (".cluster.local", f".{ZONE}")
    services = [
        f"{one['metadata']['name']}.{one['metadata']['namespace']}"
        for one in objects
        if f".{one.get('spec', {}).get('externalName', '').rstrip('.')}".endswith(ours)
    ]
    return KnownDifference(
        name="aliases into another zone of the server",
        kinds="ExternalName service( in capitals)?",
        what="NOERROR became NXDOMAIN",
        names=rf"(?i:({'|'.join(map(re.escape, services)) or 'none'})\.{re.escape(ZONE)}\.)",
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_services_zone_matches(seed: int, start_pair: StartPair, capsys: pytest.CaptureFixture[str]) -> None:
    zone = {"zone": ZONE, "addresses": ["internal"], "selector": "!no-service-has-this-label"}
    pair = start_pair(pods="disabled", config={"zones": [zone]}, oracle_zones=ORACLE_ZONE)
    for obj in random_cluster(seed, 40):
        pair.apiserver.apply(obj)
    pair.catch_up()
    # without the apex, where ours has an NS record and the plugin none
    below = [one for one in questions(pair.objects(), ORACLE_ZONE) if one.name.lower().endswith(f".{ZONE}.")]
    report = pair.compare(below)
    classes = (dropped_aliases(pair.objects()), CLUSTER_IP_ENDPOINTS, *KNOWN)
    classified(report, f"seed {seed}, a zone of all Services", capsys, classes)
    assert report.asked >= 1000
    assert report.answered >= 300
    assert report.identical >= MIN_IDENTICAL_ZONE
