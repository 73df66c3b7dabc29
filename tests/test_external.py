"""Endpoints in JSON, and domains."""

import json
from typing import Any

import pytest

from kube2etcd.external import (
    Domain,
    Endpoint,
    EndpointKey,
    InvalidDomain,
    InvalidEndpoint,
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


def test_an_endpoint_goes_there_and_back_unchanged() -> None:
    endpoint = Endpoint.from_json(WHOLE)
    assert json.loads(endpoint.encode()) == WHOLE
    assert endpoint.targets == ("10.0.0.6", "10.0.0.5")
    assert endpoint.provider_specific == (Property("webhook/group", "g1"),)


def test_the_key_is_the_plain_name_with_type_and_set_identifier() -> None:
    assert Endpoint.from_json(WHOLE).key == EndpointKey("ps.dtk.io", "A", "sid1")


def test_what_is_empty_is_left_out() -> None:
    assert json.loads(Endpoint("a.dtk.io", ("1.1.1.1",), "A").encode()) == {
        "dnsName": "a.dtk.io",
        "targets": ["1.1.1.1"],
        "recordType": "A",
    }


def test_null_is_empty() -> None:
    assert Endpoint.from_json(dict.fromkeys(WHOLE)) == Endpoint("", (), "")
    labels = {"labels": {"owner": None}, "providerSpecific": [{"name": "a", "value": None}]}
    assert Endpoint.from_json(labels) == Endpoint(
        "", (), "", labels={"owner": ""}, provider_specific=(Property("a", ""),)
    )


def test_keys_count_in_any_letter_case() -> None:
    assert (
        json.loads(Endpoint.from_json({key.upper(): value for key, value in WHOLE.items()}).encode()) == WHOLE
    )


def test_fields_of_tomorrow_go_back_as_they_came() -> None:
    assert json.loads(Endpoint.from_json({**WHOLE, "aliasOf": {"zone": [1]}}).encode()) == {
        **WHOLE,
        "aliasOf": {"zone": [1]},
    }


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
def test_which_names_a_domain_has(domain: str, name: str, has: bool) -> None:
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
def test_the_form_that_is_compared(text: str, plain: str) -> None:
    assert plain_name(text) == plain
    assert not managed([Domain.parse("k.io")], "\u212a.io")


def test_no_domain_has_nothing() -> None:
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
def test_what_is_bookkeeping(endpoint: Endpoint, is_one: bool) -> None:
    assert is_ownership(endpoint) is is_one


def test_a_text_longer_than_any_name_is_not_converted() -> None:
    assert plain_name("Ü." * 200) == ("ü." * 200).removesuffix(".")
    assert plain_name("Ü." + "a" * 63) == "xn--tda." + "a" * 63
