"""The same questions to CoreDNS's own kubernetes plugin and to CoreDNS on our keys: the same answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.stack.harness import ApiServer, Etcd
from tests.stack.known_differences import CHOSEN, known
from tests.stack.pair import Object, running_pair
from tests.stack.questions import Question, questions
from tests.stack.random_cluster import random_cluster

LEAST_IDENTICAL = 0.995

#: Of the small clusters, in which odd questions weigh more.
LEAST_IDENTICAL_SMALL = 0.97


@dataclass(frozen=True)
class Case:
    """A cluster and how it is served."""

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
    case: Case,
    binaries: dict[str, Path],
    apiserver: ApiServer,
    etcd: Etcd,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with running_pair(
        binaries, tmp_path, apiserver, etcd, pods=case.pods, with_upstream=case.with_upstream
    ) as pair:
        for obj in random_cluster(case.seed, case.size):
            apiserver.apply(obj)
        pair.settle()
        report = pair.compare(questions(pair.objects()))

    names = [known(difference) for difference in report.found]
    table = report.table(str(case), names)
    with capsys.disabled():
        print(f"\n{table}")
    assert report.asked >= 1000
    assert all(names), table
    least = LEAST_IDENTICAL if case.size >= 40 else LEAST_IDENTICAL_SMALL
    assert 1 - sum(name not in CHOSEN for name in names) / report.asked >= least, table


def alias(name: str, target: str) -> Object:
    """An ExternalName Service in ``default``."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"type": "ExternalName", "externalName": target},
    }


def test_aliases_to_computed_pod_names_and_types_without_records(
    binaries: dict[str, Path], apiserver: ApiServer, etcd: Etcd, tmp_path: Path
) -> None:
    """The etcd plugin follows an alias past the Corefile; DS goes to the uppermost zone of the server."""
    targets = {
        "ipv4": "10-1-2-3.default.pod",
        "below": "x.y.10-1-2-3.default.pod",
        "ipv6": "fd00-10--5.default.pod",
        "twice": "10-1-2-3.default.pod",
        "no-address": "10-1-2-300.default.pod",
        "namespace": "default.svc",
    }
    names = [
        *(f"{name}.default.svc" for name in targets),
        *(
            "kubernetes.default.svc",
            "_https._tcp.kubernetes.default.svc",
            "default.svc",
            "default.pod",
            "svc",
        ),
        *("none.default.svc", "none.svc", "x.none.svc", "ns.dns", "none", "10-1-2-3.default.pod", "none.dns"),
    ]
    with running_pair(binaries, tmp_path, apiserver, etcd, pods="insecure") as pair:
        for name, target in targets.items():
            apiserver.apply(alias(name, f"{target}.cluster.local"))
        pair.settle()
        asked = [
            Question(f"{name}.cluster.local.", rtype, "alias or none")
            for name in names
            for rtype in ("A", "AAAA", "CNAME", "DS", "HTTPS", "SVCB", "CAA", "TYPE65280")
        ]
        report = pair.compare(asked)
    assert not report.found, report.table("aliases to Pod names, types without records")
    assert report.answered >= 8


def test_a_terminating_pod_keeps_its_name_until_it_is_gone(
    binaries: dict[str, Path], apiserver: ApiServer, etcd: Etcd, tmp_path: Path
) -> None:
    pod = apiserver_pod("draining", finalizers=["example.com/drain"])
    asked = [Question("10-9-8-7.default.pod.cluster.local.", rtype, "pod") for rtype in ("A", "AAAA", "SRV")]
    with running_pair(binaries, tmp_path, apiserver, etcd, pods="verified") as pair:
        apiserver.apply(pod)
        apiserver.patch_status({**pod, "status": {"phase": "Running", "podIP": "10.9.8.7"}})
        pair.settle()
        counts = [pair.compare(asked)]
        apiserver.delete(pod, wait=False)
        assert apiserver.get("v1", "Pod", "draining", "default")["metadata"]["deletionTimestamp"]
        pair.settle()
        counts.append(pair.compare(asked))
        apiserver.apply({**pod, "metadata": {**pod["metadata"], "finalizers": []}})
        pair.settle()
        counts.append(pair.compare(asked))
    for report in counts:
        assert not report.found, report.table("a terminating pod")
    assert [bool(report.answered) for report in counts] == [True, True, False]


def apiserver_pod(name: str, finalizers: list[str]) -> Object:
    """A Pod in ``default``."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "finalizers": finalizers},
        "spec": {"containers": [{"name": "main", "image": "example.com/none"}]},
    }
