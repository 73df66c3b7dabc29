"""ExternalDNS's messages."""

from __future__ import annotations

import json

import pytest
from werkzeug.exceptions import BadRequest

from kube2etcd.external import Domain, Endpoint
from kube2etcd.webhook.api import (
    MAX_BODY,
    MAX_VALUES,
    MEDIA_TYPE,
    decode_changes,
    decode_endpoints,
    encode_filter,
)
from kube2etcd.webhook.state import Changes, encode_endpoints

FOO = {"dnsName": "foo.dtk.io", "targets": ["10.0.0.5"], "recordType": "A"}
ENDPOINT = Endpoint("foo.dtk.io", ("10.0.0.5",), "A")


def test_a_full_body_is_read_and_one_of_brackets_is_not() -> None:
    one = b'{"dnsName":"app-00000.dtk.io","targets":["10.0.0.1"],"recordType":"A","labels":{"owner":"me"}}'
    full = b"[" + b",".join([one] * (MAX_BODY // (len(one) + 1))) + b"]"
    assert len(full) <= MAX_BODY
    assert full.count(b"{") + full.count(b"[") < MAX_VALUES
    for brackets in (b"[]", b"{}", b'{"a":{}}'):
        body = b'{"create":[' + b",".join([brackets] * (MAX_VALUES + 1)) + b"]}"
        for decode in (decode_changes, decode_endpoints):
            with pytest.raises(BadRequest, match="more than"):
                decode(body)


def test_the_media_type_is_that_text() -> None:
    assert MEDIA_TYPE == "application/external.dns.webhook+json;version=1"


@pytest.mark.parametrize("keys", [("create", "updateNew", "delete"), ("Create", "UPDATENEW", "Delete")])
def test_keys_count_in_any_letter_case(keys: tuple[str, str, str]) -> None:
    body = json.dumps({keys[0]: [FOO], keys[1]: [FOO], "UpdateOld": [FOO], keys[2]: [FOO]}).encode()
    assert decode_changes(body) == Changes((ENDPOINT,), (ENDPOINT,), (ENDPOINT,))


def test_null_is_empty() -> None:
    assert decode_changes(b'{"Create":null,"UpdateOld":null,"UpdateNew":null,"Delete":[null]}') == Changes()
    assert decode_changes(b"{}") == Changes()
    assert decode_endpoints(b"null") == ()


def test_endpoints_in_order() -> None:
    body = json.dumps([FOO, {**FOO, "dnsName": "bar.dtk.io"}]).encode()
    assert [one.dns_name for one in decode_endpoints(body)] == ["foo.dtk.io", "bar.dtk.io"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \n",
        b"{",
        b"nonsense",
        b"\xff\xfe",
        b'{"create":"x"}',
        b'{"create":[5]}',
        b'{"updateOld":7}',
        b'{"delete":[{"targets":"x"}]}',
        b"[]",
        b"5",
        b"null",
        b'{"create":[{"dnsName":"\\ud800"}]}',
        b"[" * 100000,
    ],
)
def test_invalid_messages(body: bytes) -> None:
    with pytest.raises(BadRequest):
        decode_changes(body)


@pytest.mark.parametrize("body", [b"{}", b"5", b"[5]", b'[{"labels":[]}]'])
def test_invalid_lists_of_endpoints(body: bytes) -> None:
    with pytest.raises(BadRequest):
        decode_endpoints(body)


def test_no_endpoints_are_an_empty_list() -> None:
    assert encode_endpoints([]) == b"[]"


def test_the_filter_has_the_domains() -> None:
    assert json.loads(encode_filter([Domain.parse("dtk.io"), Domain.parse(".a.b")])) == {
        "include": ["dtk.io", ".a.b"]
    }


def test_no_domain_is_a_pattern_that_nothing_matches() -> None:
    assert json.loads(encode_filter([])) == {"regexInclude": "^$"}
