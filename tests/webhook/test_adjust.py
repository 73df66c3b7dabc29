"""What ExternalDNS wants, as we would keep it."""

from __future__ import annotations

import pytest

from kube2etcd.external import Domain, Endpoint, Property
from kube2etcd.webhook.adjust import NOWHERE, ClusterAddress, InvalidClusterAddress, adjust

DOMAINS = (Domain.parse("dtk.io"),)
SELF = Endpoint(
    "Self.dtk.io.", ("self.dtk.io",), "CNAME", "sid", 60, {"resource": "x"}, (Property("webhook/a", "b"),)
)


def test_names_come_back_as_they_are_kept_and_the_rest_as_it_came() -> None:
    given = Endpoint(
        "Foo.DTK.io.",
        ("B.example.", "a"),
        "CNAME",
        "s",
        5,
        {"l": "1"},
        (Property("p", "1"), Property("a", "2")),
    )
    (found,) = adjust([given], DOMAINS, NOWHERE)
    assert found.to_json() == {**given.to_json(), "dnsName": "foo.dtk.io"}


def test_what_is_not_ours_comes_back_as_it_came() -> None:
    given = Endpoint("Out.evil-dtk.io.", ("out.evil-dtk.io",), "CNAME")
    assert list(adjust([given], DOMAINS, ClusterAddress.parse("192.0.2.1"))) == [given]


def test_an_alias_to_itself_becomes_the_cluster_address() -> None:
    (found,) = adjust([SELF], DOMAINS, ClusterAddress.parse("192.168.122.167"))
    assert found.to_json() == {
        **SELF.to_json(),
        "dnsName": "self.dtk.io",
        "recordType": "A",
        "targets": ["192.168.122.167"],
    }


def test_both_families() -> None:
    found = adjust([SELF], DOMAINS, ClusterAddress.parse("fd00::1,192.0.2.1"))
    assert [(one.record_type, one.targets) for one in found] == [
        ("AAAA", ("fd00::1",)),
        ("A", ("192.0.2.1",)),
    ]


def test_without_a_cluster_address_it_stays() -> None:
    (found,) = adjust([SELF], DOMAINS, NOWHERE)
    assert (found.record_type, found.targets) == ("CNAME", ("self.dtk.io",))


def test_order_is_kept() -> None:
    names = ["b.dtk.io", "x.example", "a.dtk.io"]
    given = [Endpoint(name, ("10.0.0.1",), "A") for name in names]
    assert [one.dns_name for one in adjust(given, DOMAINS, NOWHERE)] == names


@pytest.mark.parametrize("text", ["", " ", ",", "x", "10.0.0.1,10.0.0.2", "fd00::1,fd00::2", "10.0.0.1/8"])
def test_what_is_no_cluster_address(text: str) -> None:
    with pytest.raises(InvalidClusterAddress):
        ClusterAddress.parse(text)


def test_a_cluster_address_is_written_as_it_is_read() -> None:
    assert str(ClusterAddress.parse(" 192.0.2.1, fd00:0::1 ")) == "192.0.2.1,fd00::1"
    assert not NOWHERE
