"""Slices that share addresses, names and ports, and odd ones: the kubernetes plugin's answers here too.

The plugin keeps its slices in no order.  So the same answers before and after slices came anew, in another
order, say as well that its answers follow from what there is and from nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.stack.harness import ApiServer, Etcd
from tests.stack.known_differences import known
from tests.stack.pair import Pair, running_pair
from tests.stack.questions import Question, questions
from tests.stack.random_cluster import SERVICE_NAME
from tests.stack.random_slices import NAMESPACE, crowded, disturbed

Object = dict[str, Any]

ASKED = re.compile("(headless|ClusterIP) (service|endpoint|port|port without underscores|unnamed port)")
TYPES = ("A", "AAAA", "SRV", "CNAME")
HTTP = [{"name": "http", "port": 80, "protocol": "TCP"}]


@pytest.mark.parametrize("seed", [1, 2])
def test_crowded_slices(
    seed: int,
    binaries: dict[str, Path],
    apiserver: ApiServer,
    etcd: Etcd,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    objects = crowded(seed)
    with running_pair(binaries, tmp_path, apiserver, etcd) as pair:
        apiserver.apply_all(objects)
        same(pair, f"crowded, seed {seed}", capsys, least=3000)
        for operation in disturbed(seed, objects):
            if operation.verb == "apply":
                apiserver.apply(operation.obj)
            else:
                apiserver.delete(operation.obj)
        same(pair, f"disturbed, seed {seed}", capsys, least=3000)


def test_odd_slices(
    binaries: dict[str, Path],
    apiserver: ApiServer,
    etcd: Etcd,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with running_pair(binaries, tmp_path, apiserver, etcd) as pair:
        apiserver.apply_all(odd())
        same(pair, "odd", capsys, least=200)


def same(pair: Pair, title: str, capsys: pytest.CaptureFixture[str], least: int) -> None:
    """Ask what the slices decide about: every answer is the plugin's, or differs in a way that is listed."""
    pair.settle()
    report = pair.compare(about_slices(questions(pair.objects())))
    names = [known(difference) for difference in report.found]
    table = report.table(title, names)
    with capsys.disabled():
        print(f"\n{table}")
    assert all(names), table
    assert report.asked >= least


def about_slices(asked: Iterable[Question]) -> list[Question]:
    """The questions that Services, their ports and their endpoints answer."""
    return [one for one in asked if one.rdtype in TYPES and ASKED.fullmatch(one.kind)]


def odd() -> list[Object]:
    """Services of which each has one slice that the API server takes and no controller would write."""
    slices = [
        piece("names-1", "FQDN", [{"addresses": ["www.example.com"]}]),
        piece("names-2", "FQDN", [{"addresses": ["long.crowd.svc.cluster.local"]}]),
        piece("colons-1", "IPv6", [{"addresses": ["::5"]}]),
        piece("colons-2", "IPv6", [{"addresses": ["::5:0:0:0"]}, {"addresses": ["fd00::"]}]),
        piece("long", "IPv4", [{"addresses": ["10.2.0.1"]}], [{"name": "p" * 63, "port": 80}]),
        piece("nearly", "IPv4", [{"addresses": ["10.2.0.1"]}], [{"name": "p" * 62, "port": 80}]),
        piece("zero", "IPv4", [{"addresses": ["10.2.0.2"]}], [{"name": "http", "port": 0}]),
        piece(
            "same-number",
            "IPv4",
            [{"addresses": ["10.2.0.3"]}],
            [{"name": name, "port": 80} for name in ("a", "b", "")],
        ),
        piece(
            "twice",
            "IPv4",
            [
                {"addresses": ["10.2.0.4"]},
                {"addresses": ["10.2.0.4"]},
                {"addresses": ["10.2.0.5", "10.2.0.4"], "hostname": "h"},
            ],
        ),
        piece(
            "others-name",
            "IPv4",
            [{"addresses": ["10.2.0.6"]}, {"addresses": ["10.2.0.7"], "hostname": "10-2-0-6"}],
        ),
        piece(
            "going",
            "IPv4",
            [
                {"addresses": ["10.2.0.8"], "conditions": {"ready": True, "terminating": True}},
                {"addresses": ["10.2.0.9"], "conditions": {"ready": False, "serving": True}},
            ],
        ),
    ]
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        *(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": one["metadata"]["name"], "namespace": NAMESPACE},
                "spec": {"clusterIP": "None", "ports": HTTP},
            }
            for one in slices
        ),
        *slices,
    ]


def piece(service: str, kind: str, endpoints: list[Object], ports: list[Object] | None = None) -> Object:
    """A slice of the Service, called as that is."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": service, "namespace": NAMESPACE, "labels": {SERVICE_NAME: service}},
        "addressType": kind,
        "endpoints": endpoints,
        "ports": HTTP if ports is None else ports,
    }
