"""Parsing of names and addresses, and the errors for invalid ones."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skydns_compat.names import (
    MAX_NAME,
    InvalidAddress,
    InvalidName,
    Name,
    address_of,
    check_label,
    parse_address,
    reverse_name,
    version,
)
from tests.strategies import LAW

LABELS = st.from_regex(r"[a-z0-9_]([a-z0-9_-]{0,20}[a-z0-9])?", fullmatch=True)
NAMES = st.lists(LABELS, min_size=1, max_size=8).map(lambda labels: Name(tuple(labels)))


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        pytest.param("a", ("a",), id="one label"),
        pytest.param(
            "web.shop.svc.cluster.local.", ("web", "shop", "svc", "cluster", "local"), id="final dot"
        ),
        pytest.param("WEB.Shop", ("web", "shop"), id="upper case"),
        pytest.param("_http._tcp.web", ("_http", "_tcp", "web"), id="underscore"),
        pytest.param("1.0.0.10.in-addr.arpa", ("1", "0", "0", "10", "in-addr", "arpa"), id="digits"),
        pytest.param("x--y", ("x--y",), id="two hyphens"),
        pytest.param("a" * 63, ("a" * 63,), id="63 characters"),
    ],
)
def test_valid_names(text: str, labels: tuple[str, ...]) -> None:
    assert Name.parse(text).labels == labels


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "empty", id="empty"),
        pytest.param(".", "empty", id="root"),
        pytest.param("a..b", "'' cannot", id="empty label"),
        pytest.param(".a", "'' cannot", id="leading dot"),
        pytest.param("a..", "'' cannot", id="two final dots"),
        pytest.param("-a", "'-a' cannot", id="leading hyphen"),
        pytest.param("a-", "'a-' cannot", id="trailing hyphen"),
        pytest.param("a_", "'a_' cannot", id="trailing underscore"),
        pytest.param("*.a", r"'\*' cannot", id="wildcard"),
        pytest.param("a/b", "'a/b' cannot", id="slash"),
        pytest.param("a b", "'a b' cannot", id="space"),
        pytest.param("a\n", r"'a\\n' cannot", id="line feed"),
        pytest.param("a\\.b", "cannot", id="backslash"),
        pytest.param("\u212a", "cannot", id="Kelvin sign, which folds to k"),
        pytest.param("straße", "cannot", id="not ASCII"),
        pytest.param("a" * 64, "64 characters, 63", id="64 characters"),
        pytest.param(".".join(["a" * 50] * 5), "254 characters; 253", id="254 characters"),
    ],
)
def test_invalid_names(text: str, reason: str) -> None:
    with pytest.raises(InvalidName, match=reason):
        Name.parse(text)


def test_longest_name() -> None:
    longest = ".".join(["a" * 50] * 4 + ["a" * 49])
    assert len(longest) == MAX_NAME
    assert str(Name.parse(longest)) == longest
    with pytest.raises(InvalidName, match="255 characters"):
        Name.parse(longest).child("b")


def test_prepended_labels_are_checked() -> None:
    name = Name.parse("cluster.local")
    assert str(name.child("Web", "svc")) == "web.svc.cluster.local"
    with pytest.raises(InvalidName):
        name.child("a.b")
    assert check_label("ABC") == "abc"


@LAW
@given(NAMES)
def test_name_round_trip(name: Name) -> None:
    assert Name.parse(str(name)) == name
    assert Name.parse(f"{name}.".upper()) == name


@LAW
@given(st.text(max_size=80))
def test_any_text_is_a_valid_or_an_invalid_name(text: str) -> None:
    try:
        name = Name.parse(text)
    except InvalidName:
        return
    assert Name.parse(str(name)) == name
    assert str(name).isascii()


@LAW
@given(NAMES, st.lists(LABELS, max_size=3))
def test_below(name: Name, labels: list[str]) -> None:
    deeper = name.child(*labels)
    assert deeper.below(name)
    assert deeper.relative(name) == tuple(labels)
    assert deeper.below(Name(()))
    assert name.below(deeper) is (not labels)


def test_relative_to_a_zone_that_does_not_contain_the_name() -> None:
    with pytest.raises(ValueError, match="is not below"):
        Name.parse("a.example").relative(Name.parse("cluster.local"))


def test_below_compares_whole_labels() -> None:
    assert not Name.parse("xcluster.local").below(Name.parse("cluster.local"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10.0.0.1", "10.0.0.1"), ("FD00:0::1", "fd00::1"), ("::", "::"), ("::ffff:10.0.0.1", "10.0.0.1")],
)
def test_valid_addresses(text: str, expected: str) -> None:
    assert str(parse_address(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "None",
        "10.0.0",
        "10.0.0.256",
        "010.0.0.1",
        "10.0.0.1/32",
        " 10.0.0.1",
        "10.0.0.1\n",
        "1",
        "fe80::1%eth0",
        "::ffff:10.0.0.1%1",
        "10.0.0.1.",
        "[fd00::1]",
        "fd00::1::2",
        "web",
    ],
)
def test_invalid_addresses(text: str) -> None:
    with pytest.raises(InvalidAddress):
        parse_address(text)


@LAW
@given(st.ip_addresses())
def test_reverse_name_round_trip(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    canonical = parse_address(str(address))
    assert canonical == str(getattr(address, "ipv4_mapped", None) or address)
    labels = reverse_name(canonical).labels
    assert Name.parse(str(reverse_name(canonical))).labels == labels
    assert address_of(reverse_name(canonical)) == canonical
    if version(canonical) == 4:
        assert labels[4:] == ("in-addr", "arpa")
        assert ".".join(reversed(labels[:4])) == canonical
    else:
        assert labels[32:] == ("ip6", "arpa")
        assert int("".join(reversed(labels[:32])), 16) == int(address)


@pytest.mark.parametrize(
    "name",
    [
        "256.0.0.10.in-addr.arpa",
        "a.0.0.10.in-addr.arpa",
        "0.0.10.in-addr.arpa",
        f"{'x.' * 32}ip6.arpa",
        "a.b",
    ],
)
def test_names_without_an_address(name: str) -> None:
    assert address_of(Name.parse(name)) is None
