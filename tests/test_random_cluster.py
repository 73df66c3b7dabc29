"""The cluster generator and the comparison of answers."""

import dns.message
import dns.rrset
import pytest

from tests.stack.compare import differences, normalise
from tests.stack.objects import SERVICE_NAME, identity
from tests.stack.questions import TYPES, questions
from tests.stack.random_cluster import mutate, random_cluster


@pytest.mark.parametrize("seed", range(1, 4))
def test_cluster_has_objects_of_every_kind(seed: int) -> None:
    cluster = random_cluster(seed)
    specs = [obj["spec"] for obj in cluster if obj["kind"] == "Service"]
    types = {spec.get("type", "ClusterIP") for spec in specs}
    assert types == {"ClusterIP", "NodePort", "LoadBalancer", "ExternalName"}
    assert any(spec.get("clusterIP") == "None" for spec in specs)
    assert any(spec.get("ipFamilyPolicy") == "RequireDualStack" for spec in specs)
    slices = [obj for obj in cluster if obj["kind"] == "EndpointSlice"]
    labels = [(one["metadata"].get("labels") or {}).get(SERVICE_NAME) for one in slices]
    assert None in labels
    assert "gone" in labels
    ready = {endpoint["conditions"].get("ready") for one in slices for endpoint in one["endpoints"]}
    assert ready == {True, False, None}


@pytest.mark.parametrize("seed", range(1, 4))
def test_changes_apply_and_delete_every_kind(seed: int) -> None:
    kinds = {(one.verb, identity(one.obj)[0]) for one in mutate(seed, random_cluster(seed))}
    assert {("apply", kind) for kind in ("Namespace", "Service", "EndpointSlice", "Pod")} <= kinds
    assert {("delete", kind) for kind in ("Service", "EndpointSlice", "Pod")} <= kinds


def test_questions_are_many_and_unique() -> None:
    found = questions(random_cluster(1))
    assert len(found) > 1000
    assert len({(question.name, question.rdtype) for question in found}) == len(found)
    assert {question.rdtype for question in found} == set(TYPES)


def message(rcode: str, *records: str, additional: tuple[str, ...] = ()) -> dns.message.Message:
    head = f"id 1\nopcode QUERY\nrcode {rcode}\nflags QR AA\n;QUESTION\na. IN A\n;ANSWER"
    return dns.message.from_text("\n".join([head, *records, ";AUTHORITY", ";ADDITIONAL", *additional, ""]))


SRV = ("a. 30 IN SRV 0 50 80 b.", "a. 30 IN SRV 0 50 81 b.")


MORE = ["more beside the answer", "other IPv4 addresses beside the answer"]


def test_order_letter_case_and_ttl_are_ignored() -> None:
    plugin = normalise(message("NOERROR", *SRV))
    bridge = normalise(message("NOERROR", *(line.upper().replace("30", "7") for line in reversed(SRV))))
    assert differences(plugin, bridge) == []


@pytest.mark.parametrize(
    ("bridge", "names"),
    [
        (message("NXDOMAIN"), ["NOERROR became NXDOMAIN"]),
        (message("NOERROR"), ["lacks SRV, and has no records"]),
        (message("NOERROR", SRV[0]), ["lacks SRV"]),
        (message("NOERROR", *SRV, "a. 30 IN A 10.0.0.1"), ["adds A"]),
        (message("NOERROR", *(line.replace("50", "49") for line in SRV)), ["other weights"]),
        (message("NOERROR", *SRV, additional=("b. 30 IN A 10.0.0.1",)), MORE),
    ],
)
def test_names_of_differences(bridge: dns.message.Message, names: list[str]) -> None:
    assert differences(normalise(message("NOERROR", *SRV)), normalise(bridge)) == names
