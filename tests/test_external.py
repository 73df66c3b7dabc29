"""Endpoints in JSON and by name, and domains."""

import json
from typing import Any

import pytest

from kube2etcd.external import (
    Domain,
    Endpoint,
    EndpointKey,
    InvalidDomain,
    InvalidEndpoint,
    NameIndex,
    Property,
    is_ownership,
    managed,
    plain_name,
)

FULL = {
    "dnsName": "Ps.DTK.io.",
    "targets": ["10.0.0.6", "10.0.0.5"],
    "recordType": "A",
    "setIdentifier": "sid1",
    "recordTTL": 120,
    "labels": {"owner": "me", "resource": "ingress/default/g"},
    "providerSpecific": [{"name": "webhook/group", "value": "g1"}],
}


def nested(levels: int) -> Any:
    """Nested lists."""
    return [nested(levels - 1)] if levels > 1 else []


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        pytest.param(FULL, FULL, id="unchanged"),
        pytest.param({key.upper(): value for key, value in FULL.items()}, FULL, id="keys in upper case"),
        pytest.param(
            {**FULL, "aliasOf": {"zone": [1]}}, {**FULL, "aliasOf": {"zone": [1]}}, id="unknown fields"
        ),
        pytest.param(
            {**FULL, "list": nested(40), "map": {"a": nested(32)}, "kept": nested(32)},
            {**FULL, "kept": nested(32)},
            id="fields nested too deeply",
        ),
        pytest.param(dict.fromkeys(FULL), {"dnsName": "", "targets": [], "recordType": ""}, id="null fields"),
    ],
)
def test_endpoint_round_trip(value: Any, encoded: Any) -> None:
    assert json.loads(Endpoint.from_json(value).encode()) == encoded


def test_fields_of_an_endpoint() -> None:
    endpoint = Endpoint.from_json(FULL)
    assert endpoint.key == EndpointKey("ps.dtk.io", "A", "sid1")
    assert endpoint.targets == ("10.0.0.6", "10.0.0.5")
    assert endpoint.provider_specific == (Property("webhook/group", "g1"),)


def test_null_label_or_property_is_empty() -> None:
    labels = {"labels": {"owner": None}, "providerSpecific": [{"name": "a", "value": None}]}
    assert Endpoint.from_json(labels) == Endpoint(
        "", (), "", labels={"owner": ""}, provider_specific=(Property("a", ""),)
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["dnsName"], "an endpoint is an object, not ['dnsName']"),
        ({"dnsName": 5}, "got `int` - at `$.dnsName`"),
        ({"targets": "10.0.0.5"}, "got `str` - at `$.targets`"),
        ({"targets": [5]}, "got `int` - at `$.targets[0]`"),
        ({"recordTTL": "60"}, "got `str` - at `$.recordTTL`"),
        ({"recordTTL": 60.0}, "got `float` - at `$.recordTTL`"),
        ({"recordTTL": True}, "got `bool` - at `$.recordTTL`"),
        ({"labels": []}, "got `array` - at `$.labels`"),
        ({"labels": {"a": 1}}, "got `int` - at `$.labels[...]`"),
        ({"providerSpecific": {}}, "got `object` - at `$.providerSpecific`"),
        ({"providerSpecific": ["x"]}, "got `str` - at `$.providerSpecific[0]`"),
        ({"providerSpecific": [{"NAME": 1}]}, "got `int` - at `$.providerSpecific[0].name`"),
    ],
)
def test_malformed_endpoint_is_refused(value: Any, message: str) -> None:
    with pytest.raises(InvalidEndpoint) as caught:
        Endpoint.from_json(value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("domain", "name", "within"),
    [
        ("dtk.io", "dtk.io", True),
        ("dtk.io", "DTK.io.", True),
        ("dtk.io", "a.b.dtk.io", True),
        ("dtk.io", "evil-dtk.io", False),
        ("dtk.io", "io", False),
        (".dtk.io", "dtk.io", False),
        (".dtk.io", "a.dtk.io", True),
        ("DTK.io.", "a.dtk.io", True),
    ],
)
def test_names_in_a_domain(domain: str, name: str, within: bool) -> None:
    assert managed([Domain.parse(domain)], name) is within


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("A.DTK.io.", "a.dtk.io"),
        ("a.dtk.io..", "a.dtk.io."),
        ("\u212a.DTK.io", "\u212a.dtk.io"),
        ("Bücher.DTK.io.", "xn--bcher-kva.dtk.io"),
        ("straße.dtk.io", "xn--strae-oqa.dtk.io"),
        ("*.bücher.dtk.io", "*.xn--bcher-kva.dtk.io"),
        ("\u0130.dtk.io", "xn--i-9bb.dtk.io"),
        ("a\u3002b.dtk.io", "a\u3002b.dtk.io"),
        ("\u2028.dtk.io", "\u2028.dtk.io"),
        ("XN--BCHER-KVA.dtk.io", "xn--bcher-kva.dtk.io"),
        ("", ""),
        (".", ""),
    ],
)
def test_plain_name(text: str, plain: str) -> None:
    assert plain_name(text) == plain
    assert not managed([Domain.parse("k.io")], "\u212a.io")


def test_without_domains_nothing_is_managed() -> None:
    assert not managed([], "a.dtk.io")


@pytest.mark.parametrize(
    "text", ["", ".", "..", "a..b", "*.dtk.io", "a b", "-a.io", "\u212a.de", "x" * 64, "..a"]
)
def test_invalid_domains(text: str) -> None:
    with pytest.raises(InvalidDomain, match="is no domain"):
        Domain.parse(text)


def test_domain_round_trip() -> None:
    assert [str(Domain.parse(text)) for text in (" Dtk.io. ", ".a.b", "ü.de")] == [
        "dtk.io",
        ".a.b",
        "xn--tda.de",
    ]


@pytest.mark.parametrize(
    ("endpoint", "is_one"),
    [
        (Endpoint("a-x.io", ("text",), "TXT", labels={"ownedRecord": "x.io"}), True),
        (Endpoint("a-x.io", ('"heritage=external-dns,external-dns/owner=me"',), "TXT"), True),
        (Endpoint("a-x.io", ("heritage=external-dns",), "TXT"), True),
        (Endpoint("x.io", ("v=spf1 -all",), "TXT"), False),
        (Endpoint("x.io", ("v=spf1 -all", "heritage=external-dns"), "TXT"), False),
        (Endpoint("x.io", (), "TXT"), False),
        (Endpoint("x.io", ("10.0.0.1",), "A", labels={"ownedRecord": "x.io"}), False),
    ],
)
def test_is_ownership(endpoint: Endpoint, is_one: bool) -> None:
    assert is_ownership(endpoint) is is_one


def test_text_longer_than_any_name_is_not_converted() -> None:
    assert plain_name("Ü." * 200) == ("ü." * 200).removesuffix(".")
    assert plain_name("Ü." + "a" * 63) == "xn--tda." + "a" * 63


# --- endpoints by name: which names a change touches


def endpoint(name: str, rtype: str, *targets: str) -> Endpoint:
    return Endpoint(name, targets, rtype)


A, B = endpoint("a.x", "A", "10.0.0.1"), endpoint("B.x.", "CNAME", "a.x.")
C = endpoint("c.x", "CNAME", "b.x")


def filled() -> NameIndex[str]:
    index: NameIndex[str] = NameIndex()
    index.put("one", [], [A, C])
    index.put("two", [], [B])
    return index


def test_endpoints_of_a_name_by_holder() -> None:
    index = filled()
    index.put("three", [], [A])
    assert index.of("a.x") == {"one": (A,), "three": (A,)}
    assert index.of("gone.x") == {}
    assert sorted(index.names()) == ["a.x", "b.x", "c.x"]


@pytest.mark.parametrize(
    ("holder", "before", "after", "touched"),
    [
        pytest.param("one", [A, C], [A, C], set(), id="no change"),
        pytest.param("one", [A, C], [endpoint("a.x", "A", "10.0.0.2"), C], {"a.x"}, id="other address"),
        pytest.param("one", [A, C], [C], {"a.x", "b.x", "c.x"}, id="removed address touches all referrers"),
        pytest.param("one", [A, C], [A, endpoint("c.x", "CNAME", "d.x")], {"c.x"}, id="other CNAME target"),
        pytest.param("two", [B], [endpoint("b.x", "CNAME", "c.x")], {"b.x", "c.x"}, id="CNAME loop"),
        pytest.param("three", [], [endpoint("a.x", "TXT", "t")], {"a.x"}, id="second holder"),
        pytest.param("three", [], [endpoint("d.x", "A", "10.0.0.1")], {"d.x"}, id="new name"),
        pytest.param(
            "three", [], [endpoint("b.x", "A", "10.0.0.1")], {"b.x", "c.x"}, id="address beside a CNAME"
        ),
    ],
)
def test_touched_names(holder: str, before: list[Endpoint], after: list[Endpoint], touched: set[str]) -> None:
    assert filled().put(holder, before, after) == touched


def test_removed_cname_touches_its_referrers() -> None:
    index = filled()
    index.put("three", [], [endpoint("d.x", "CNAME", "a.x")])
    assert index.put("two", [B], []) == {"b.x", "c.x"}
    assert index.put("one", [A, C], []) == {"a.x", "c.x", "d.x"}


def test_index_is_empty_after_all_endpoints_are_removed() -> None:
    index = filled()
    index.put("three", [], [endpoint("c.x", "CNAME", "b.x")])
    assert index.put("one", [A, C], []) == {"a.x", "b.x", "c.x"}
    assert index.put("two", [B], []) == {"b.x", "c.x"}
    assert index.put("three", [endpoint("c.x", "CNAME", "b.x")], []) == {"c.x"}
    assert list(index.names()) == []
    assert index.__dict__ == NameIndex().__dict__


@pytest.mark.parametrize(
    "after",
    [
        pytest.param([B, endpoint("b.x", "A", "10.0.0.1")], id="usable address"),
        pytest.param([B, endpoint("b.x", "AAAA", "-")], id="other family"),
        pytest.param(
            [Endpoint("b.x", ("a.x",), "CNAME", ttl=-1), endpoint("b.x", "A", "-")], id="invalid TTL"
        ),
        pytest.param(
            [endpoint("b.x", "CNAME", "A.x"), endpoint("b.x", "A", "-")],
            id="same target, spelled differently",
        ),
    ],
)
def test_any_change_beside_a_cname_touches_its_referrers(after: list[Endpoint]) -> None:
    """The index does not know which addresses and CNAMEs are usable, so every change counts."""
    index = filled()
    before = [B, endpoint("b.x", "A", "-")]
    index.put("two", [B], before)
    assert index.put("two", before, after) == {"b.x", "c.x"}
    assert index.put("two", after, after) == set()
