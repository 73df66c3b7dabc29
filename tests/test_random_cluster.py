"""The made-up clusters and the comparison themselves: pure, so tested without a server."""

from __future__ import annotations

import dns.message
import dns.rrset
import pytest

from tests.stack.compare import Report, differences, normalise, remarks
from tests.stack.questions import TYPES, Question, questions
from tests.stack.random_cluster import SERVICE_NAME, identity, mutate, random_cluster


@pytest.mark.parametrize("seed", range(1, 8))
def test_a_seed_makes_the_same_cluster_and_changes(seed: int) -> None:
    cluster = random_cluster(seed)
    assert random_cluster(seed) == cluster != random_cluster(seed + 100)
    assert mutate(seed, cluster) == mutate(seed, cluster)


@pytest.mark.parametrize("seed", range(1, 8))
def test_objects_have_names_of_their_own_and_stand_after_their_namespace(seed: int) -> None:
    cluster = random_cluster(seed)
    names = [identity(obj) for obj in cluster]
    assert len(set(names)) == len(names)
    seen: set[str] = set()
    for kind, namespace, name in names:
        if kind == "Namespace":
            seen.add(name)
        else:
            assert namespace in seen


@pytest.mark.parametrize("seed", range(1, 8))
def test_a_cluster_has_every_kind_of_thing(seed: int) -> None:
    cluster = random_cluster(seed)
    specs = [obj["spec"] for obj in cluster if obj["kind"] == "Service"]
    assert {spec.get("type", "ClusterIP") for spec in specs} == {
        "ClusterIP",
        "NodePort",
        "LoadBalancer",
        "ExternalName",
    }
    assert any(spec.get("clusterIP") == "None" for spec in specs)
    assert any(spec.get("ipFamilyPolicy") == "RequireDualStack" for spec in specs)
    slices = [obj for obj in cluster if obj["kind"] == "EndpointSlice"]
    labels = [(one["metadata"].get("labels") or {}).get(SERVICE_NAME) for one in slices]
    assert None in labels
    assert "gone" in labels
    ready = {endpoint["conditions"].get("ready") for one in slices for endpoint in one["endpoints"]}
    assert ready == {True, False, None}


@pytest.mark.parametrize("seed", range(1, 8))
def test_changes_fit_the_cluster_they_are_made_for(seed: int) -> None:
    cluster = random_cluster(seed)
    present = {identity(obj) for obj in cluster}
    kinds: set[tuple[str, str]] = set()
    for operation in mutate(seed, cluster):
        kind, namespace, name = identity(operation.obj)
        kinds.add((operation.verb, kind))
        if kind != "Namespace":
            assert ("Namespace", "", namespace) in present
        if operation.verb == "apply":
            present.add((kind, namespace, name))
        else:
            present.remove((kind, namespace, name))
            if kind == "Namespace":
                present = {key for key in present if key[1] != name}
    assert {("apply", kind) for kind in ("Namespace", "Service", "EndpointSlice", "Pod")} <= kinds
    assert {("delete", kind) for kind in ("Service", "EndpointSlice", "Pod")} <= kinds


def test_questions_are_many_and_ask_each_name_once() -> None:
    asked = questions(random_cluster(1))
    assert len(asked) > 1000
    assert len({(question.name, question.rdtype) for question in asked}) == len(asked)
    assert {question.rdtype for question in asked} == set(TYPES)


def test_questions_about_one_service() -> None:
    service = {
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "app"},
        "spec": {"ports": [{"name": "http", "port": 80}], "clusterIPs": ["10.0.0.7", "fd00:10::7"]},
    }
    asked = {(question.name, question.rdtype) for question in questions([service])}
    assert ("web.app.svc.cluster.local.", "AAAA") in asked
    assert ("_http._tcp.web.app.svc.cluster.local.", "SRV") in asked
    assert ("_http._udp.web.app.svc.cluster.local.", "SRV") in asked
    assert ("7.0.0.10.in-addr.arpa.", "PTR") in asked
    assert ("7.0.0.0" + ".0" * 20 + ".0.1.0.0.0.0.d.f.ip6.arpa.", "PTR") in asked


def message(rcode: str, *records: str, additional: tuple[str, ...] = ()) -> dns.message.Message:
    lines = [
        "id 1",
        "opcode QUERY",
        f"rcode {rcode}",
        "flags QR AA",
        ";QUESTION",
        "a. IN A",
        ";ANSWER",
        *records,
    ]
    return dns.message.from_text("\n".join([*lines, ";AUTHORITY", ";ADDITIONAL", *additional]) + "\n")


SRV = ("a. 30 IN SRV 0 50 80 b.", "a. 30 IN SRV 0 50 81 b.")


def test_order_letter_case_and_ttl_make_no_difference() -> None:
    theirs = normalise(message("NOERROR", *SRV))
    ours = normalise(message("NOERROR", *(line.upper().replace("30", "7") for line in reversed(SRV))))
    assert differences(theirs, ours) == []
    assert remarks(theirs, ours) == ["TTL"]


@pytest.mark.parametrize(
    ("ours", "words"),
    [
        (message("NXDOMAIN"), ["NOERROR became NXDOMAIN"]),
        (message("NOERROR"), ["lacks SRV, and has no records"]),
        (message("NOERROR", SRV[0]), ["lacks SRV"]),
        (message("NOERROR", *SRV, "a. 30 IN A 10.0.0.1"), ["adds A"]),
        (message("NOERROR", *(line.replace("50", "49") for line in SRV)), ["other weights"]),
        (
            message("NOERROR", *SRV, additional=("b. 30 IN A 10.0.0.1",)),
            ["more beside the answer", "other IPv4 addresses beside the answer"],
        ),
    ],
)
def test_differences_have_names(ours: dns.message.Message, words: list[str]) -> None:
    assert differences(normalise(message("NOERROR", *SRV)), normalise(ours)) == words


def test_a_missing_ipv6_address_beside_the_answer_is_a_remark() -> None:
    theirs = normalise(message("NOERROR", *SRV, additional=("b. 30 IN AAAA fd00::1",)))
    ours = normalise(message("NOERROR", *SRV))
    assert differences(theirs, ours) == []
    assert remarks(theirs, ours) == ["less beside the answer"]


def test_the_report_counts_and_shows_classes() -> None:
    report = Report()
    same, other = normalise(message("NOERROR", *SRV)), normalise(message("NXDOMAIN"))
    report.add(Question("a.", "A", "service"), same, same)
    report.add(Question("b.", "A", "service"), same, other)
    assert report.identical == 0.5
    table = report.table("trial", [""])
    assert "1 of 2 answers identical (50.000%)" in table
    assert "[NOT LISTED] service: NOERROR became NXDOMAIN (A)" in table
    assert "b. A" in table
