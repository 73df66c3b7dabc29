"""Slices that share addresses, names and ports, and odd ones: the kubernetes plugin's answers here too.

The plugin keeps its slices in no order.  So the same answers before and after slices came anew, in another
order, say as well that its answers follow from what there is and from nothing else.
"""

import re
from collections.abc import Iterable, Sequence

import pytest

from tests.stack.harness import ApiServer
from tests.stack.known_differences import explained
from tests.stack.kubeclient import Object
from tests.stack.objects import HTTP, endpoint_slice, namespace, service
from tests.stack.pair import Pair, StartPair
from tests.stack.questions import Question, questions
from tests.stack.random_cluster import CROWD, mutate, random_cluster

ASKED = re.compile("(headless|ClusterIP) (service|endpoint|port|port without underscores|unnamed port)")
TYPES = ("A", "AAAA", "SRV", "CNAME")


@pytest.mark.parametrize("seed", [1, 2])
def test_crowded_slices(
    seed: int, start_pair: StartPair, apiserver: ApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    objects = random_cluster(seed, 150, crowded=True)
    pair = start_pair()
    apiserver.apply_all(objects)
    same(pair, f"crowded, seed {seed}", capsys, least=3000)
    for operation in mutate(seed, objects, 150, crowded=True):
        operation.perform(apiserver)
    same(pair, f"disturbed, seed {seed}", capsys, least=3000)


def test_odd_slices(start_pair: StartPair, capsys: pytest.CaptureFixture[str]) -> None:
    pair = start_pair()
    pair.apiserver.apply_all(odd())
    same(pair, "odd", capsys, least=200)


def same(pair: Pair, title: str, capsys: pytest.CaptureFixture[str], least: int) -> None:
    """Ask what the slices decide about: every answer is the plugin's, or differs in a way that is listed."""
    pair.catch_up()
    report = pair.compare(about_slices(questions(pair.objects())))
    explained(report, title, capsys)
    assert report.asked >= least


def about_slices(asked: Iterable[Question]) -> list[Question]:
    return [one for one in asked if one.rdtype in TYPES and ASKED.fullmatch(one.kind)]


def odd() -> list[Object]:
    """Services of which each has one slice that the API server takes and no controller would write."""
    one, other = {"addresses": ["10.2.0.1"]}, {"addresses": ["10.2.0.4"]}
    going = [
        {"addresses": ["10.2.0.8"], "conditions": {"ready": True, "terminating": True}},
        {"addresses": ["10.2.0.9"], "conditions": {"ready": False, "serving": True}},
    ]
    slices = [
        piece("names-1", {"addresses": ["www.example.com"]}, family="FQDN"),
        piece("names-2", {"addresses": ["long.crowd.svc.cluster.local"]}, family="FQDN"),
        piece("colons-1", {"addresses": ["::5"]}, family="IPv6"),
        piece("colons-2", {"addresses": ["::5:0:0:0"]}, {"addresses": ["fd00::"]}, family="IPv6"),
        piece("long", one, ports=[{"name": "p" * 63, "port": 80}]),
        piece("nearly", one, ports=[{"name": "p" * 62, "port": 80}]),
        piece("zero", {"addresses": ["10.2.0.2"]}, ports=[{"name": "http", "port": 0}]),
        piece(
            "same-number",
            {"addresses": ["10.2.0.3"]},
            ports=[{"name": name, "port": 80} for name in ("a", "b", "")],
        ),
        piece("twice", other, other, {"addresses": ["10.2.0.5", "10.2.0.4"], "hostname": "h"}),
        piece(
            "others-name", {"addresses": ["10.2.0.6"]}, {"addresses": ["10.2.0.7"], "hostname": "10-2-0-6"}
        ),
        piece("going", *going),
    ]
    names = [one["metadata"]["name"] for one in slices]
    return [
        namespace(CROWD),
        *(service(name, CROWD, ports=[HTTP], clusterIP="None") for name in names),
        *slices,
    ]


def piece(name: str, *endpoints: Object, family: str = "IPv4", ports: Sequence[Object] = (HTTP,)) -> Object:
    return endpoint_slice(name, name, endpoints, namespace=CROWD, family=family, ports=ports)
