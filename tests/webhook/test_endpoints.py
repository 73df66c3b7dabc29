"""Validation of endpoints."""

from typing import Any

import msgspec
import pytest

from kube2etcd.external import Domain, Endpoint, Property, parse_cluster_address
from kube2etcd.webhook.state import adjust, refusal
from skydns_compat.names import InvalidAddress

DOMAINS = (Domain.parse("dtk.io"),)


def endpoint(**fields: Any) -> Endpoint:
    return Endpoint(**{"dns_name": "foo.dtk.io", "targets": ("10.0.0.5",), "record_type": "A"} | fields)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"dns_name": "FOO.dtk.io."},
        {"dns_name": "dtk.io"},
        {"dns_name": "*.dtk.io"},
        {"dns_name": "_a-b_.dtk.io"},
        {"dns_name": "x" * 63 + ".dtk.io"},
        {"dns_name": "x." * 122 + "yy.dtk.io"},
        {"dns_name": "x." * 122 + "yy.dtk.io."},
        {"dns_name": "xn--bcher-kva.dtk.io"},
        {"ttl": 2**31 - 1},
        {"record_type": "AAAA", "targets": ("2001:db8::5",)},
        {"record_type": "CNAME", "targets": ("Foo.dtk.io.",)},
        {"record_type": "CNAME", "targets": ("out.example",)},
        {"record_type": "CNAME", "targets": ("bücher.example",)},
        {"dns_name": "ü.dtk.io"},
        {"record_type": "MX", "targets": ("10  mail.dtk.io", "20\tmail.dtk.io")},
        {"record_type": "TXT", "targets": ("v=spf1 -all",)},
        {"record_type": "TXT", "dns_name": "a-*.wild.dtk.io", "targets": ('"heritage=external-dns"',)},
        {
            "record_type": "TXT",
            "dns_name": "a-dtk.io",
            "targets": ("x",),
            "labels": {"ownedRecord": "dtk.io"},
        },
        {"record_type": "SRV", "targets": ("0 50 80 foo.dtk.io.",)},
        {"record_type": "MX", "targets": ("10 mail.dtk.io",)},
        {"record_type": "NS", "targets": ("ns.dtk.io",)},
        {"record_type": "PTR", "targets": ("foo.dtk.io",)},
    ],
)
def test_accepted_endpoints(fields: Any) -> None:
    assert refusal(endpoint(**fields), DOMAINS) is None


@pytest.mark.parametrize(
    ("fields", "reason", "message"),
    [
        ({"dns_name": "foo.evil-dtk.io"}, "domain", "managed domains"),
        ({"dns_name": "a-dtk.io", "record_type": "TXT"}, "domain", "managed domains"),
        (
            {"dns_name": "a-x.io", "record_type": "TXT", "labels": {"ownedRecord": "x.io"}},
            "domain",
            "managed domains",
        ),
        ({"dns_name": "a-dtk.io", "labels": {"ownedRecord": "dtk.io"}}, "domain", "managed domains"),
        ({"dns_name": ""}, "name", "no label"),
        ({"dns_name": "a b.dtk.io"}, "name", "no label"),
        ({"dns_name": "a.*.dtk.io"}, "name", "no label"),
        ({"dns_name": "a/b.dtk.io"}, "name", "no label"),
        ({"dns_name": "\u212a.dtk.io"}, "name", "no label"),
        ({"dns_name": "x\u3002dtk.io"}, "name", "no label"),
        ({"dns_name": "a$(id).dtk.io"}, "name", "no label"),
        ({"dns_name": "a\u2028b.dtk.io"}, "name", "no label"),
        ({"dns_name": ".dtk.io"}, "name", "no label"),
        ({"dns_name": "x*.dtk.io"}, "name", "no label"),
        ({"dns_name": "*.*.dtk.io"}, "name", "no label"),
        ({"record_type": "CNAME", "targets": ("\u212a.dtk.io",)}, "targets", "cannot be parsed"),
        ({"dns_name": "x\n6.6.6.6 bank.com .dtk.io"}, "name", "no label"),
        ({"dns_name": "#.dtk.io"}, "name", "no label"),
        ({"dns_name": "x." * 122 + "yyy.dtk.io"}, "name", "253 are allowed"),
        ({"dns_name": "x." * 124 + "dtk.io"}, "name", "253 are allowed"),
        ({"record_type": "A", "targets": ("2001:db8::5",)}, "targets", "address"),
        ({"record_type": "AAAA", "targets": ("10.0.0.5",)}, "targets", "address"),
        ({"record_type": "AAAA", "targets": ("::ffff:10.0.0.5",)}, "targets", "address"),
        ({"targets": ("010.0.0.5",)}, "targets", "address"),
        ({"targets": ("10.0.0.5\n",)}, "targets", "address"),
        ({"record_type": "CNAME", "targets": ("10.0.0.5",)}, "targets", "an address where a name belongs"),
        ({"record_type": "MX", "targets": ("0 .",)}, "targets", "the root"),
        ({"record_type": "CNAME", "targets": ("a b",)}, "targets", "cannot be a DNS label"),
        ({"record_type": "SRV", "targets": ("0 80 foo.dtk.io",)}, "targets", "PRIORITY WEIGHT PORT NAME"),
        ({"record_type": "SRV", "targets": ("0 50 65536 foo.dtk.io",)}, "targets", "above 65535"),
        ({"record_type": "MX", "targets": ("mail.dtk.io",)}, "targets", "PREFERENCE NAME"),
        ({"record_type": "TXT", "targets": ("x" * 65536,)}, "targets", "longer than"),
        ({"record_type": "NAPTR"}, "type", "not supported"),
        ({"record_type": "a"}, "type", "not supported"),
        ({"record_type": ""}, "type", "not supported"),
        ({"ttl": -1}, "ttl", "TTL"),
        ({"ttl": 2**31}, "ttl", "TTL"),
        ({"targets": ()}, "targets", "no targets"),
    ],
)
def test_refused_endpoints(fields: Any, reason: str, message: str) -> None:
    found = refusal(endpoint(**fields), DOMAINS)
    assert found is not None
    assert found.reason == reason
    assert message in found.text
    assert found.text.isascii()
    assert found.text.isprintable()
    assert len(found.text) < 300


def full_endpoint(name: str, rtype: str, *targets: str) -> Endpoint:
    """An endpoint with every field that must be returned unchanged."""
    return Endpoint(name, targets, rtype, "s", 60, {"l": "1"}, (Property("p", "1"), Property("a", "2")))


SELF = full_endpoint("Self.dtk.io.", "CNAME", "self.dtk.io")
BOOKS = {"dns_name": "xn--bcher-kva.dtk.io"}


@pytest.mark.parametrize(
    ("given", "cluster", "found"),
    [
        pytest.param(
            full_endpoint("Foo.DTK.io.", "CNAME", "B.example.", "a"),
            "",
            [{"dns_name": "foo.dtk.io"}],
            id="name",
        ),
        pytest.param(
            full_endpoint("Out.evil-dtk.io.", "CNAME", "out.evil-dtk.io"),
            "192.0.2.1",
            [{}],
            id="outside our domains",
        ),
        pytest.param(SELF, "", [{"dns_name": "self.dtk.io"}], id="CNAME to itself without a cluster address"),
        pytest.param(
            SELF,
            "fd00::1,192.0.2.1",
            [
                {"dns_name": "self.dtk.io", "record_type": "AAAA", "targets": ("fd00::1",)},
                {"dns_name": "self.dtk.io", "record_type": "A", "targets": ("192.0.2.1",)},
            ],
            id="CNAME to itself with cluster addresses",
        ),
        *(
            pytest.param(
                full_endpoint("Bücher.dtk.io", rtype, given), "", [BOOKS | {"targets": (found,)}], id=given
            )
            for rtype, given, found in [
                ("CNAME", "Bücher.example.", "xn--bcher-kva.example."),
                ("CNAME", "Plain.example.", "Plain.example."),
                ("MX", "10 bücher.example", "10 xn--bcher-kva.example"),
                ("SRV", "0 5 443 bücher.example.", "0 5 443 xn--bcher-kva.example."),
                ("TXT", "bücher", "bücher"),
            ]
        ),
    ],
)
def test_adjust(given: Endpoint, cluster: str, found: list[dict[str, Any]]) -> None:
    adjusted = adjust([given], DOMAINS, parse_cluster_address(cluster) if cluster else ())
    assert list(adjusted) == [msgspec.structs.replace(given, **fields) for fields in found]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no address"),
        (" ", "has no address"),
        (",", "has no address"),
        ("x", "'x' is not an IP address"),
        ("10.0.0.1/8", "'10.0.0.1/8' is not an IP address"),
        ("10.0.0.1,10.0.0.2", "has two addresses of one family"),
        ("fd00::1,fd00::2", "has two addresses of one family"),
    ],
)
def test_invalid_cluster_addresses(text: str, message: str) -> None:
    with pytest.raises(InvalidAddress, match=f"{message}; write one IPv4 and/or one IPv6 address"):
        parse_cluster_address(text)


def test_cluster_addresses_are_canonical() -> None:
    assert parse_cluster_address(" 192.0.2.1, fd00:0::1 ") == ("192.0.2.1", "fd00::1")
