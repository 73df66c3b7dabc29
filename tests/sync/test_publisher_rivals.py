"""A name that several Services want in one zone: one has it, whatever the order, and the next takes over."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from kube2etcd.app import build
from kube2etcd.inspect.explain import Explainer
from kube2etcd.inspect.readers import CoreDns
from kube2etcd.kube.objects import Event, Metadata, Rejected, Service
from kube2etcd.kube.store import Unit
from kube2etcd.settings import load
from kube2etcd.sync.publisher import Publisher
from kube2etcd.zones.services import ServicesZone
from skydns_compat.corefile import blocks
from skydns_compat.names import Name
from tests.objects import below, published, service

ONE_NAME = ServicesZone(Name.parse("stage.example"), template="{service}")
WEB = b"/skydns/example/stage/web"
IN_A = Service(Metadata("a", "web", creation_timestamp="1"), "ExternalName", external_name="web.example.com")
IN_B = service("web", namespace="b", age="2")


def sharing(services: Iterable[Service]) -> Publisher:
    return published(*services, cluster=None, zones=[ONE_NAME])


@pytest.mark.parametrize(
    ("services", "holder"),
    [
        pytest.param([IN_A, IN_B], "a", id="the older"),
        pytest.param([service("web", namespace="a", age="3"), IN_B], "b", id="the older, not the first"),
        pytest.param([service("web", namespace="a"), IN_B], "b", id="no age comes last"),
        pytest.param([service("web", namespace="a", age="2"), IN_B], "a", id="by namespace"),
    ],
)
def test_a_name_that_two_services_want_is_of_one(services: list[Service], holder: str) -> None:
    alone = sharing(one for one in services if one.metadata.namespace == holder)
    [loser] = [Unit("services", one, "web") for one in "ab" if one != holder]
    for order in (services, services[::-1]):
        publisher = sharing(order)
        assert publisher.desired == alone.desired
        assert publisher.losers(Name.parse("web.stage.example")) == [loser]
        assert (publisher.refusals.total(), publisher.refusals["taken"]) == (1, 1)
        [(unit, reason)] = publisher.take_reasons()
        assert unit == loser
        assert reason.startswith(f"web.stage.example is services/{holder}/web's")


def test_who_has_no_record_there_wants_no_name() -> None:
    empty = service("web", namespace="a", ip="", age="1")
    publisher = sharing([empty, IN_B])
    assert publisher.desired.holder(WEB) == Unit("services", "b", "web")
    event = Event("MODIFIED", None, "b", "web", rejected=Rejected("services", "b", "web", "odd"))
    publisher.refresh(publisher.store.apply("services", event))
    assert below(publisher, WEB) == set()


def test_only_the_last_word_of_one_listing_is_told() -> None:
    """Of those who come before the oldest nobody is told that it gave way to another."""
    publisher = sharing([])
    aged = [service("web", namespace=at, age=str(9 - int(at))) for at in "123"]
    publisher.refresh(publisher.store.replace("services", aged))
    assert publisher.take_reasons() == [
        (
            Unit("services", at, "web"),
            "web.stage.example is services/3/web's, which is older, or as old and first by namespace",
        )
        for at in "12"
    ]


@pytest.mark.parametrize(
    ("name", "rcode"), [("web.stage.example", "NOERROR"), ("x.web.stage.example", "NXDOMAIN")]
)
def test_explain_says_who_gives_way(tmp_path: Path, name: str, rcode: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text('zones: [{zone: stage.example, name: "{service}"}]')
    settings = load({}, {}, file)
    explainer = Explainer(sharing([IN_A, IN_B]), CoreDns(blocks(build.corefile(settings)), "/skydns"))
    [found] = explainer.explain(Name.parse(name), "A")
    assert found.rcode == rcode
    assert any(
        one.startswith("services/b/web: web.stage.example is services/a/web's") for one in found.reasons
    )
