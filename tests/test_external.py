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

WHOLE = {
    "dnsName": "Ps.DTK.io.",
    "targets": ["10.0.0.6", "10.0.0.5"],
    "recordType": "A",
    "setIdentifier": "sid1",
    "recordTTL": 120,
    "labels": {"owner": "me", "resource": "ingress/default/g"},
    "providerSpecific": [{"name": "webhook/group", "value": "g1"}],
}


def nested(levels: int) -> Any:
    """A list in a list, and so on."""
    return [nested(levels - 1)] if levels > 1 else []


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        pytest.param(WHOLE, WHOLE, id="unchanged"),
        pytest.param({key.upper(): value for key, value in WHOLE.items()}, WHOLE, id="keys in any case"),
        pytest.param(
            {**WHOLE, "aliasOf": {"zone": [1]}}, {**WHOLE, "aliasOf": {"zone": [1]}}, id="fields of tomorrow"
        ),
        pytest.param(
            {**WHOLE, "list": nested(40), "map": {"a": nested(32)}, "kept": nested(32)},
            {**WHOLE, "kept": nested(32)},
            id="too deep to be returned",
        ),
        pytest.param(
            dict.fromkeys(WHOLE), {"dnsName": "", "targets": [], "recordType": ""}, id="null is left out"
        ),
    ],
)
def test_an_endpoint_goes_there_and_back(value: Any, encoded: Any) -> None:
    assert json.loads(Endpoint.from_json(value).encode()) == encoded


def test_the_fields_of_an_endpoint() -> None:
    endpoint = Endpoint.from_json(WHOLE)
    assert endpoint.key == EndpointKey("ps.dtk.io", "A", "sid1")
    assert endpoint.targets == ("10.0.0.6", "10.0.0.5")
    assert endpoint.provider_specific == (Property("webhook/group", "g1"),)


def test_a_label_or_property_that_is_null_is_empty() -> None:
    labels = {"labels": {"owner": None}, "providerSpecific": [{"name": "a", "value": None}]}
    assert Endpoint.from_json(labels) == Endpoint(
        "", (), "", labels={"owner": ""}, provider_specific=(Property("a", ""),)
    )


@pytest.mark.parametrize(
    ("value", "words"),
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
def test_a_wrong_shape_is_an_error(value: Any, words: str) -> None:
    with pytest.raises(InvalidEndpoint) as caught:
        Endpoint.from_json(value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("domain", "name", "has"),
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
def test_names_in_a_domain(domain: str, name: str, has: bool) -> None:
    assert managed([Domain.parse(domain)], name) is has


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


def test_a_domain_is_written_as_it_is_read() -> None:
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


def test_a_text_longer_than_any_name_is_not_converted() -> None:
    assert plain_name("Ü." * 200) == ("ü." * 200).removesuffix(".")
    assert plain_name("Ü." + "a" * 63) == "xn--tda." + "a" * 63


# --- endpoints by name: which names a change touches


def end(name: str, rtype: str, *targets: str) -> Endpoint:
    return Endpoint(name, targets, rtype)


A, B = end("a.x", "A", "10.0.0.1"), end("B.x.", "CNAME", "a.x.")
C = end("c.x", "CNAME", "b.x")


def filled() -> NameIndex[str]:
    index: NameIndex[str] = NameIndex()
    index.put("one", [], [A, C])
    index.put("two", [], [B])
    return index


def test_the_endpoints_of_a_name_by_holder() -> None:
    index = filled()
    index.put("three", [], [A])
    assert index.of("a.x") == {"one": (A,), "three": (A,)}
    assert index.of("gone.x") == {}
    assert sorted(index.names()) == ["a.x", "b.x", "c.x"]


@pytest.mark.parametrize(
    ("holder", "before", "after", "touched"),
    [
        pytest.param("one", [A, C], [A, C], set(), id="nothing new"),
        pytest.param("one", [A, C], [end("a.x", "A", "10.0.0.2"), C], {"a.x"}, id="another address"),
        pytest.param(
            "one", [A, C], [C], {"a.x", "b.x", "c.x"}, id="who leads to it is touched, over any way"
        ),
        pytest.param("one", [A, C], [A, end("c.x", "CNAME", "d.x")], {"c.x"}, id="leads elsewhere"),
        pytest.param("two", [B], [end("b.x", "CNAME", "c.x")], {"b.x", "c.x"}, id="a ring"),
        pytest.param("three", [], [end("a.x", "TXT", "t")], {"a.x"}, id="a second holder"),
        pytest.param("three", [], [end("d.x", "A", "10.0.0.1")], {"d.x"}, id="a new name"),
        pytest.param("three", [], [end("b.x", "A", "10.0.0.1")], {"b.x", "c.x"}, id="an address at an alias"),
    ],
)
def test_touched_names(holder: str, before: list[Endpoint], after: list[Endpoint], touched: set[str]) -> None:
    assert filled().put(holder, before, after) == touched


def test_one_of_two_aliases_changes_its_target() -> None:
    index = filled()
    index.put("three", [], [end("d.x", "CNAME", "a.x")])
    assert index.put("two", [B], []) == {"b.x", "c.x"}
    assert index.put("one", [A, C], []) == {"a.x", "c.x", "d.x"}


def test_removed_endpoints_leave_nothing_behind() -> None:
    index = filled()
    index.put("three", [], [end("c.x", "CNAME", "b.x")])
    assert index.put("one", [A, C], []) == {"a.x", "b.x", "c.x"}
    assert index.put("two", [B], []) == {"b.x", "c.x"}
    assert index.put("three", [end("c.x", "CNAME", "b.x")], []) == {"c.x"}
    assert list(index.names()) == []
    assert index.__dict__ == NameIndex().__dict__


@pytest.mark.parametrize(
    "after",
    [
        pytest.param([B, end("b.x", "A", "10.0.0.1")], id="an address that can be used"),
        pytest.param([B, end("b.x", "AAAA", "-")], id="of the other family"),
        pytest.param([Endpoint("b.x", ("a.x",), "CNAME", ttl=-1), end("b.x", "A", "-")], id="an odd TTL"),
        pytest.param(
            [end("b.x", "CNAME", "A.x"), end("b.x", "A", "-")], id="the same way, spelled otherwise"
        ),
    ],
)
def test_whatever_affects_an_alias_touches_its_referrers(after: list[Endpoint]) -> None:
    """Which addresses and aliases are usable is for the source to say, so each change of them counts."""
    index = filled()
    before = [B, end("b.x", "A", "-")]
    index.put("two", [B], before)
    assert index.put("two", before, after) == {"b.x", "c.x"}
    assert index.put("two", after, after) == set()
