"""Desired entries of names that somebody else thought of: they nest, lead on, and share holders."""

from __future__ import annotations

from kube2etcd.kube.store import NAMES, Unit
from skydns_compat.names import Name
from tests.objects import PTR, ZONE, changed, external, host, published, said, service, take


def test_external_names_nest_and_a_name_may_stand_in_several_objects() -> None:
    publisher = published(zones=[external("dtk.io")])
    store = publisher.store
    apex = b"/skydns/io/dtk/own_"
    assert apex in publisher.desired
    assert publisher.cluster == ZONE
    one, two = (
        said("1", ("a.b.dtk.io", "10.0.0.1")),
        said("2", ("a.b.dtk.io", "10.0.0.2"), ("b.dtk.io", "a.x")),
    )
    publisher.refresh(store.replace("dnsendpoints", [one, two]))
    a, b = b"/skydns/io/dtk/b/a/own_", b"/skydns/io/dtk/b/own_"
    assert {key for key in publisher.desired if key.startswith(b"/skydns/io/")} == {
        apex,
        b,
        b + b"/C",
        a,
        a + b"/10-0-0-1-H",
        a + b"/10-0-0-2-H",
    }
    # Data come before the word of a name below, that there is something.
    assert (host(publisher, b), publisher.desired.holder(b)) == ("a.x", Unit(NAMES, "", "b.dtk.io"))
    assert publisher.groups.of(a + b"/10-0-0-1-H") == publisher.groups.of(a) == a
    assert publisher.key(Name.parse("b.dtk.io")) == b
    assert publisher.key(Name.parse("b.example")) == b"/skydns/example/b"
    publisher.refresh(store.replace("dnsendpoints", [one]))
    assert (host(publisher, b), publisher.desired.holder(b)) == ("", Unit(NAMES, "", "a.b.dtk.io"))
    publisher.refresh(store.replace("dnsendpoints", []))
    assert {key for key in publisher.desired if key.startswith(b"/skydns/io/")} == {apex}


def test_names_of_services_in_a_longer_external_zone_are_left_out() -> None:
    reverse = "0.0.10.in-addr.arpa"
    zones = [external("web.shop.svc.cluster.local"), external(reverse), external("local")]
    publisher = published(service("web"), service("db", "10.0.0.2"), zones=zones)
    web, db = Unit("services", "shop", "web"), Unit("services", "shop", "db")
    assert publisher.published(web).records == []
    assert len(publisher.published(db).records) == 1
    assert publisher.published(db).left_out == [f"2.{reverse} is in the external domain {reverse}"]
    assert PTR not in publisher.desired


def test_an_empty_name_belongs_to_the_zone_or_else_to_the_first_by_name() -> None:
    """All say the same of it, so nothing but their names decides; a set of names has no order."""
    spoken = [said(str(at), (f"n{at:02}.a.dtk.io", "10.0.0.1")) for at in range(40)]
    for order in (spoken, spoken[::-1]):
        publisher = published(cluster=None, zones=[external("dtk.io")])
        take(publisher, *map(changed, order))
        assert publisher.desired.holder(b"/skydns/io/dtk/a/own_") == Unit(NAMES, "", "n00.a.dtk.io")
        assert publisher.desired.holder(b"/skydns/io/dtk/own_") == Unit("zones", "", "dtk.io")
