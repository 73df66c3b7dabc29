"""Which endpoints are taken, and why not the others."""

from __future__ import annotations

from typing import Any

import pytest

from kube2etcd.external import Domain, Endpoint
from kube2etcd.webhook.refusals import addresses, is_wildcard, refusal, unusable_targets

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
        {"targets": ("10.0.0.5", "nonsense")},
        {"record_type": "CNAME", "targets": ("Foo.dtk.io.",)},
        {"record_type": "CNAME", "targets": ("out.example",)},
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
def test_what_is_taken(fields: Any) -> None:
    assert refusal(endpoint(**fields), DOMAINS) is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"dns_name": "foo.evil-dtk.io"}, "managed domains"),
        ({"dns_name": "evil-dtk.io"}, "managed domains"),
        ({"dns_name": "a-dtk.io", "record_type": "TXT"}, "managed domains"),
        (
            {"dns_name": "a-x.io", "record_type": "TXT", "labels": {"ownedRecord": "x.io"}},
            "managed domains",
        ),
        ({"dns_name": "a-dtk.io", "labels": {"ownedRecord": "dtk.io"}}, "managed domains"),
        ({"dns_name": ""}, "no label"),
        ({"dns_name": "a b.dtk.io"}, "no label"),
        ({"dns_name": "a..dtk.io"}, "no label"),
        ({"dns_name": "a.*.dtk.io"}, "no label"),
        ({"dns_name": "a/b.dtk.io"}, "no label"),
        ({"dns_name": "ü.dtk.io"}, "no label"),
        ({"dns_name": "\u212a.dtk.io"}, "no label"),
        ({"dns_name": "x\u3002dtk.io"}, "no label"),
        ({"dns_name": "a$(id).dtk.io"}, "no label"),
        ({"dns_name": "a`id`.dtk.io"}, "no label"),
        ({"dns_name": "a;b.dtk.io"}, "no label"),
        ({"dns_name": "a\0b.dtk.io"}, "no label"),
        ({"dns_name": "a\u2028b.dtk.io"}, "no label"),
        ({"dns_name": "foo.dtk.io.."}, "no label"),
        ({"dns_name": ".dtk.io"}, "no label"),
        ({"dns_name": "**.dtk.io"}, "no label"),
        ({"dns_name": "x*.dtk.io"}, "no label"),
        ({"dns_name": "*.*.dtk.io"}, "no label"),
        ({"record_type": "CNAME", "targets": ("\u212a.dtk.io",)}, "no target for CNAME"),
        ({"dns_name": "x\n6.6.6.6 bank.com .dtk.io"}, "no label"),
        ({"dns_name": "#.dtk.io"}, "no label"),
        ({"dns_name": "x" * 64 + ".dtk.io"}, "no label"),
        ({"dns_name": "x." * 122 + "yyy.dtk.io"}, "253 are allowed"),
        ({"dns_name": "x." * 124 + "dtk.io"}, "253 are allowed"),
        ({"record_type": "A", "targets": ("2001:db8::5",)}, "no target for A"),
        ({"record_type": "AAAA", "targets": ("10.0.0.5",)}, "no target for AAAA"),
        ({"record_type": "AAAA", "targets": ("::ffff:10.0.0.5",)}, "no target for AAAA"),
        ({"targets": ("010.0.0.5",)}, "no target for A"),
        ({"targets": ("10.0.0.5\n",)}, "no target for A"),
        ({"record_type": "CNAME", "targets": ("a b",)}, "no target for CNAME"),
        ({"record_type": "CNAME", "targets": ("*.dtk.io",)}, "no target for CNAME"),
        ({"record_type": "SRV", "targets": ("0 80 foo.dtk.io",)}, "no target for SRV"),
        ({"record_type": "SRV", "targets": ("0 50 65536 foo.dtk.io",)}, "no target for SRV"),
        ({"record_type": "MX", "targets": ("mail.dtk.io",)}, "no target for MX"),
        ({"record_type": "TXT", "targets": ("x" * 65536,)}, "no target for TXT"),
        ({"record_type": "NAPTR"}, "not known"),
        ({"record_type": "a"}, "not known"),
        ({"record_type": ""}, "not known"),
        ({"record_type": "x" * 200}, "not known"),
        ({"ttl": -1}, "TTL"),
        ({"ttl": 2**31}, "TTL"),
        ({"targets": ()}, "no targets"),
    ],
)
def test_what_is_skipped_and_why(fields: Any, words: str) -> None:
    found = refusal(endpoint(**fields), DOMAINS)
    assert found is not None
    why = str(found)
    assert words in why
    assert why.isascii()
    assert why.isprintable()
    assert len(why) < 300


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"record_type": "NAPTR"}, "type"),
        ({"dns_name": "a b.dtk.io"}, "name"),
        ({"dns_name": "evil-dtk.io"}, "domain"),
        ({"ttl": -1}, "ttl"),
        ({"targets": ()}, "targets"),
        ({"targets": ("nonsense",)}, "targets"),
    ],
)
def test_reasons_of_few_kinds(fields: Any, reason: str) -> None:
    found = refusal(endpoint(**fields), DOMAINS)
    assert found is not None
    assert found.reason == reason


def test_addresses_are_those_of_the_family() -> None:
    mixed = endpoint(targets=("10.0.0.5", "fd00::1", "x", "10.0.0.4"))
    assert [str(one) for one in addresses(mixed)] == ["10.0.0.5", "10.0.0.4"]
    assert unusable_targets(mixed) == ["fd00::1", "x"]
    assert addresses(endpoint(record_type="TXT")) == []


def test_wildcards() -> None:
    assert is_wildcard("*.dtk.io")
    assert not is_wildcard("a.dtk.io")
