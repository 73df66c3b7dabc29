"""DNSEndpoint objects, and the webhook's state stored in them."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import pytest

from kube2etcd.kube.codec import convert_object
from kube2etcd.kube.objects import KINDS, DnsEndpoint, Rejected
from kube2etcd.kube.wire import ENDPOINTS, HEAD, MAX_UNPACKED, pack, unpack
from tests.kube.bodies import META

ONE: dict[str, Any] = {"dnsName": "foo.dtk.io", "targets": ["10.0.0.5"], "recordType": "A"}


def read(**annotations: str) -> DnsEndpoint | Rejected:
    body = {"metadata": {**META, "annotations": annotations}, "spec": {"endpoints": []}}
    return convert_object(KINDS["dnsendpoints"], body)  # type: ignore[return-value]


def test_packed_endpoints_are_read() -> None:
    found = read(**{ENDPOINTS: pack(json.dumps([ONE]).encode())})
    assert isinstance(found, DnsEndpoint)
    assert [json.loads(one.encode()) for one in found.endpoints] == [ONE]
    assert read() == DnsEndpoint(found.metadata)
    assert pack(b"[]") == ""
    assert unpack("") == []


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "!",
        b"no zlib",
        zlib.compress(b"{}"),
        zlib.compress(b"["),
        zlib.compress(b"[]")[:-1],
        zlib.compress(b" " * (MAX_UNPACKED + 10) + b"[]"),
    ],
    ids=["too short", "no base64", "no zlib", "object", "truncated JSON", "truncated zlib", "zip bomb"],
)
def test_damaged_annotation_rejects_the_object(text: str | bytes) -> None:
    found = read(**{ENDPOINTS: text if isinstance(text, str) else base64.b64encode(text).decode()})
    assert isinstance(found, Rejected)
    assert "is damaged" in found.reason


@pytest.mark.parametrize(
    ("head", "refused"),
    [
        ('{"version":1,"refused":{"bad.dtk.io":"A: no address"}}', {"bad.dtk.io": "A: no address"}),
        ('{"version":1}', {}),
        ("{", {}),
        ("[" * 5000, {}),
        ('{"refused":[]}', {}),
    ],
)
def test_refused_names_are_read_from_the_head(head: str, refused: dict[str, str]) -> None:
    found = read(**{HEAD: head})
    assert isinstance(found, DnsEndpoint)
    assert found.refused == refused
