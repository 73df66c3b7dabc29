"""DNSEndpoint objects, and the webhook's state stored in them."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import msgspec
import pytest

from kube2etcd.external import InvalidEndpoint
from kube2etcd.kube.objects.dns_endpoints import (
    ENDPOINTS,
    HEAD,
    MAX_UNPACKED,
    DnsEndpoint,
    WireDnsEndpoint,
    pack,
    read_dns_endpoint,
    unpack,
)

ONE: dict[str, Any] = {"dnsName": "foo.dtk.io", "targets": ["10.0.0.5"], "recordType": "A"}


def read(**annotations: str) -> DnsEndpoint:
    body = {
        "metadata": {"namespace": "s", "name": "n", "annotations": annotations},
        "spec": {"endpoints": []},
    }
    return read_dns_endpoint(msgspec.json.decode(json.dumps(body), type=WireDnsEndpoint))


def test_packed_endpoints_are_there_and_nowhere_else() -> None:
    text = pack(json.dumps([ONE]).encode())
    assert [json.loads(one.encode()) for one in read(**{ENDPOINTS: text}).endpoints] == [ONE]
    assert read().endpoints == ()
    assert pack(b"[]") == ""
    assert unpack("") == []


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "!",
        base64.b64encode(b"no zlib").decode(),
        base64.b64encode(zlib.compress(b"{}")).decode(),
        base64.b64encode(zlib.compress(b"[")).decode(),
        base64.b64encode(zlib.compress(b"[]")[:-1]).decode(),
        base64.b64encode(zlib.compress(b" " * (MAX_UNPACKED + 10) + b"[]")).decode(),
    ],
    ids=["short", "no base64", "no zlib", "an object", "cut off", "cut off within", "a bomb"],
)
def test_a_damaged_annotation_is_an_error(text: str) -> None:
    with pytest.raises(InvalidEndpoint, match="is damaged"):
        read(**{ENDPOINTS: text})


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
def test_refused_names_are_in_the_head(head: str, refused: dict[str, str]) -> None:
    assert read(**{HEAD: head}).refused == refused
