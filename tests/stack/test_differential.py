"""The same questions to CoreDNS's own kubernetes plugin and to CoreDNS on our keys: the same answers."""

from dataclasses import dataclass

import pytest

from tests.stack.harness import ApiServer
from tests.stack.known_differences import CHOSEN, explained
from tests.stack.objects import external, pod
from tests.stack.pair import StartPair
from tests.stack.questions import Question, questions
from tests.stack.random_cluster import random_cluster

LEAST_IDENTICAL = 0.995

#: Of the small clusters, in which odd questions weigh more.
LEAST_IDENTICAL_SMALL = 0.97


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
def test_same_answers_as_the_kubernetes_plugin(
    case: Case, start_pair: StartPair, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = start_pair(pods=case.pods, with_upstream=case.with_upstream)
    for obj in random_cluster(case.seed, case.size):
        pair.apiserver.apply(obj)
    pair.catch_up()
    report = pair.compare(questions(pair.objects()))
    names = explained(report, str(case), capsys)
    assert report.asked >= 1000
    least = LEAST_IDENTICAL if case.size >= 40 else LEAST_IDENTICAL_SMALL
    assert 1 - sum(name not in CHOSEN for name in names) / report.asked >= least


def test_alias_to_a_pod(start_pair: StartPair) -> None:
    """The etcd plugin follows an alias past the Corefile; DS goes to the uppermost zone of the server."""
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


def test_terminating_pod(start_pair: StartPair, apiserver: ApiServer) -> None:
    one = pod("draining", "10.9.8.7", finalizers=["example.com/drain"])
    asked = [Question("10-9-8-7.default.pod.cluster.local.", rtype, "pod") for rtype in ("A", "AAAA", "SRV")]
    pair = start_pair(pods="verified")

    def same(answered: bool) -> None:
        pair.catch_up()
        report = pair.compare(asked)
        assert not report.found, report.table("a terminating pod")
        assert bool(report.answered) is answered

    apiserver.apply(one)
    same(answered=True)
    apiserver.delete(one, wait=False)
    assert apiserver.get("v1", "Pod", "draining", "default")["metadata"]["deletionTimestamp"]
    same(answered=True)
    del one["status"], one["metadata"]["finalizers"]
    apiserver.apply(one)
    same(answered=False)
