"""The webhook's API without a socket."""

import ipaddress
import json
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.exceptions import BadRequest

from kube2etcd.external import Domain, Endpoint, managed, parse_cluster_address
from kube2etcd.webhook import api
from kube2etcd.webhook.api import MAX_BODY, MAX_VALUES, MEDIA_TYPE, decode_changes, decode_endpoints
from kube2etcd.webhook.state import Changes
from tests.strategies import LAW
from tests.webhook.fakes import Client, a, alias

CALLS = [
    ("GET", "/"),
    ("GET", "/records"),
    ("POST", "/records"),
    ("POST", "/adjustendpoints"),
    ("GET", "/domains"),
    ("POST", "/domains"),
    ("GET", "/clusterip"),
    ("POST", "/clusterip"),
]
BODIES = {"/records": b"{}", "/adjustendpoints": b"[]", "/domains": b"x.io", "/clusterip": b"192.0.2.1"}


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_media_type_and_no_cors_headers(client: Client, method: str, path: str) -> None:
    for answer in (
        client.call(method, path, BODIES.get(path, b"")),
        client.call(method, path, b"\xff", "text/plain"),
    ):
        assert answer.headers.get("Content-Type") == (MEDIA_TYPE if answer.data else None)
        assert bool(answer.data) == (answer.status_code != 204)
        assert not any(name.lower().startswith("access-control") for name, _ in answer.headers)


def test_negotiation(client: Client) -> None:
    # The client compares it literally.
    assert MEDIA_TYPE == "application/external.dns.webhook+json;version=1"
    assert client.call("GET", "/").json == {"include": ["dtk.io"]}
    assert Client(domains=()).call("GET", "/").json == {"regexInclude": "^$"}
    head = client.call("HEAD", "/")
    assert (head.status_code, head.data) == (200, b"")


@pytest.mark.parametrize(
    ("accept", "accepted"),
    [
        ("", True),
        ("*/*", True),
        ("application/*", True),
        (MEDIA_TYPE, True),
        ("application/external.dns.webhook+json; version=1", True),
        ("application/external.dns.webhook+json", True),
        (f"text/html, {MEDIA_TYPE};q=0.5", True),
        ("text/html,*/*;q=0.1", True),
        ("application/external.dns.webhook+json;version=2", False),
        ("text/html", False),
        (f"{MEDIA_TYPE};q=0", False),
    ],
)
def test_accept_header(client: Client, accept: str, accepted: bool) -> None:
    status = 200 if accepted else 406
    assert client.call("GET", "/", accept=accept).status_code == status
    assert client.call("GET", "/records", accept=accept).status_code == status
    assert client.call("POST", "/adjustendpoints", b"[]", accept=accept).status_code == status
    # The response to changes has no body to negotiate.
    assert client.call("POST", "/records", b"{}", accept=accept).status_code == 204


@pytest.mark.parametrize(
    ("content_type", "accepted"),
    [
        (MEDIA_TYPE, True),
        ("application/external.dns.webhook+json; version=1", True),
        ("application/external.dns.webhook+json;version=1; charset=utf-8", True),
        ("Application/External.DNS.webhook+json ; version=1", True),
        ("application/external.dns.webhook+json;version=2", False),
        ("application/json", False),
        ("text/plain", False),
        ("application/x-www-form-urlencoded", False),
        ("", False),
        (None, False),
        (";;;", False),
    ],
)
def test_content_type_header(client: Client, content_type: str | None, accepted: bool) -> None:
    assert client.call("POST", "/records", b"{}", content_type).status_code == (204 if accepted else 415)
    assert client.call("POST", "/adjustendpoints", b"[]", content_type).status_code == (
        200 if accepted else 415
    )


def test_records_are_returned_as_posted(client: Client) -> None:
    posted = [
        a("Foo.dtk.io.", "10.0.0.9", "10.0.0.5", setIdentifier="s", recordTTL=60),
        a("bar.dtk.io", labels={"owner": "me"}, providerSpecific=[{"name": "x", "value": "y"}]),
        a("a-dtk.io", '"heritage=external-dns"', recordType="TXT", labels={"ownedRecord": "dtk.io"}),
    ]
    assert client.call("GET", "/records").data == b"[]"
    assert client.apply(create=posted) == 204
    assert client.records() == posted


def test_adjustendpoints_changes_no_state() -> None:
    client = Client(cluster=parse_cluster_address("192.0.2.1"))
    posted = [alias("Self.dtk.io", "self.dtk.io"), a("Out.example."), a("b.dtk.io"), a("a.dtk.io")]
    answer = client.call("POST", "/adjustendpoints", json.dumps(posted).encode())
    assert answer.json == [a("self.dtk.io", "192.0.2.1"), *posted[1:]]
    assert client.records() == []
    assert client.hosts.lines == []
    assert client.call("POST", "/adjustendpoints", b"[]").data == b"[]"


INVALID_JSON = [b"", b" \n", b"{", b"nonsense", b"\xff\xfe", b"5", b"[" * 100000]
INVALID_CHANGES = [b"[]", b"null", b'{"create":"x"}', b'{"create":[5]}', b'{"updateOld":7}']
INVALID_CHANGES += [b'{"delete":[{"targets":"x"}]}', b'{"create":[{"dnsName":"\\ud800"}]}']
INVALID_ENDPOINTS = [b"{}", b"[5]", b'[{"labels":[]}]', b'{"create":[]}']


@pytest.mark.parametrize(
    ("path", "bodies"),
    [("/records", INVALID_JSON + INVALID_CHANGES), ("/adjustendpoints", INVALID_JSON + INVALID_ENDPOINTS)],
)
def test_invalid_bodies_are_400(client: Client, path: str, bodies: list[bytes]) -> None:
    for body in bodies:
        answer = client.call("POST", path, body)
        assert answer.status_code == 400
        assert answer.json.keys() == {"error"}
        assert len(answer.data) < 1000


def test_number_of_values_in_a_body_is_limited() -> None:
    one = b'{"dnsName":"app-00000.dtk.io","targets":["10.0.0.1"],"recordType":"A","labels":{"owner":"me"}}'
    full = b"[" + b",".join([one] * (MAX_BODY // (len(one) + 1))) + b"]"
    assert len(full) <= MAX_BODY
    assert full.count(b"{") + full.count(b"[") < MAX_VALUES
    for brackets in (b"[]", b"{}", b'{"a":{}}'):
        body = b'{"create":[' + b",".join([brackets] * (MAX_VALUES + 1)) + b"]}"
        for decode in (decode_changes, decode_endpoints):
            with pytest.raises(BadRequest, match="more than"):
                decode(body)


@pytest.mark.parametrize("keys", [("create", "updateNew", "delete"), ("Create", "UPDATENEW", "Delete")])
def test_keys_match_in_any_case(keys: tuple[str, str, str]) -> None:
    body = json.dumps({key: [a("foo.dtk.io")] for key in (*keys, "UpdateOld")}).encode()
    one = (Endpoint("foo.dtk.io", ("10.0.0.5",), "A"),)
    assert decode_changes(body) == Changes(one, one, one)


def test_null_is_empty() -> None:
    assert decode_changes(b'{"Create":null,"UpdateOld":null,"UpdateNew":null,"Delete":[null]}') == Changes()
    assert decode_changes(b"{}") == Changes()
    assert decode_endpoints(b"null") == ()


@pytest.mark.parametrize("path", ["/nope", "/records/", "/Records", "/livez", "/metrics", "/records/x"])
def test_unknown_paths_are_404(client: Client, path: str) -> None:
    assert client.call("GET", path).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/records", "GET, POST"),
        ("DELETE", "/records", "GET, POST"),
        ("GET", "/adjustendpoints", "POST"),
        ("POST", "/", "GET"),
        ("OPTIONS", "/domains", "GET, POST, DELETE"),
        ("PATCH", "/clusterip", "GET, POST, DELETE"),
    ],
)
def test_unsupported_methods_are_405(client: Client, method: str, path: str, allow: str) -> None:
    answer = client.call(method, path)
    assert answer.status_code == 405
    assert answer.headers["Allow"] == allow


@pytest.mark.parametrize(
    "content_type", ["application/x-www-form-urlencoded", "text/plain", None, MEDIA_TYPE]
)
def test_domains_are_added_at_run_time(client: Client, content_type: str | None) -> None:
    for _ in range(2):
        assert client.call("POST", "/domains", b" mydomain.io\n", content_type).status_code == 200
    assert client.call("POST", "/domains", b'".a.b"', content_type).status_code == 200
    assert client.call("GET", "/domains").json == ["dtk.io", "mydomain.io", ".a.b"]
    assert client.call("GET", "/").json == {"include": ["dtk.io", "mydomain.io", ".a.b"]}
    assert client.apply(create=[a("x.mydomain.io")]) == 204
    client.start()
    assert client.call("GET", "/domains").json == ["dtk.io", "mydomain.io", ".a.b"]
    assert [one["dnsName"] for one in client.records()] == ["x.mydomain.io"]


def test_one_large_body_at_a_time(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "_LARGE", 1000)
    monkeypatch.setattr(api, "_TURN", 0.01)
    inside, done = threading.Event(), threading.Event()
    apply = client.provider.apply

    def slow(changes: Changes) -> None:
        inside.set()
        assert done.wait(60)
        apply(changes)

    monkeypatch.setattr(client.provider, "apply", slow)
    large = [a(f"n{number}.dtk.io") for number in range(100)]
    statuses: list[int] = []
    first = threading.Thread(target=lambda: statuses.append(client.apply(create=large)))
    first.start()
    assert inside.wait(60)
    answer = client.call("POST", "/adjustendpoints", json.dumps(large).encode())
    assert (answer.status_code, "large" in answer.json["error"]) == (503, True)
    assert client.call("POST", "/adjustendpoints", json.dumps(large[:1]).encode()).status_code == 200
    done.set()
    first.join()
    assert statuses == [204]
    assert client.call("POST", "/adjustendpoints", json.dumps(large).encode()).status_code == 200


def test_domains_set_over_rest_can_be_deleted(client: Client) -> None:
    assert client.send("POST /domains", b"my.io,.a.b") == (200, ["dtk.io", "my.io", ".a.b"])
    assert client.apply(create=[a("x.my.io")]) == 204
    assert client.send("DELETE /domains", b"My.io.") == (200, ["dtk.io", ".a.b"])
    assert client.send("DELETE /domains", b"never.there") == (200, ["dtk.io", ".a.b"])
    assert client.hosts.lines == []
    # Its endpoint can be deleted but not created again.
    assert client.records() == [a("x.my.io")]
    assert client.apply(delete=[a("x.my.io")]) == 204
    assert client.apply(create=[a("x.my.io")]) == 204
    assert client.records() == []
    status, answer = client.send("DELETE /domains", b"dtk.io,.a.b")
    assert (status, "--domains" in answer["error"]) == (400, True)
    client.start()
    assert client.send("GET /domains") == (200, ["dtk.io"])
    for body in (b"", b" , ", b"a b"):
        assert client.send("DELETE /domains", body)[0] == 400


def test_all_domains_of_a_call_are_added_or_none(client: Client) -> None:
    many = [f"d{number:05}.io" for number in range(5000)]
    assert client.call("POST", "/domains", ",".join(many).encode()).status_code == 200
    assert client.call("GET", "/domains").json == ["dtk.io", *many]
    assert client.call("POST", "/domains", b"late.io" + b" " * 65536 + b",later.io").status_code == 400
    assert client.call("GET", "/domains").json == ["dtk.io", *many]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        *((body, "the body is empty") for body in (b"", b" ", b",")),
        *((body, "is no domain") for body in (b"a..b", b'["a.b"]', b'{"a":1}', b"a b")),
        *((body, "is neither text nor a JSON string") for body in (b'"', b"\xff")),
        (b"fine.io,k8s.any.example", "is a wildcard"),
        (b"fine.io,in-addr.arpa", "has all reverse names"),
        (b"fine.io,ARPA.", "has all reverse names"),
        (b"fine.io,svc.cluster.local", "would hide names of the cluster"),
        (b"fine.io,CLUSTER.local", "are both the zone cluster.local"),
        (b"fine.io,.cluster.local", "are both the zone cluster.local"),
        (b"fine.io,x.svc.cluster.local", "would hide names of the cluster"),
    ],
)
def test_invalid_domains_are_400(client: Client, body: bytes, reason: str) -> None:
    status, answer = client.send("POST /domains", body)
    assert (status, reason in answer["error"]) == (400, True)
    assert client.send("GET /domains") == (200, ["dtk.io"])


def test_cluster_address_is_set_at_run_time(client: Client) -> None:
    assert client.send("GET /clusterip") == (200, "")
    assert client.send("POST /clusterip", b"192.0.2.1") == (200, "192.0.2.1")
    assert client.send("POST /clusterip", b"192.0.2.1,fd00::1") == (200, "192.0.2.1,fd00::1")
    for body in (b"", b"x", b"10.0.0.1/8", b"\xff"):
        assert client.send("POST /clusterip", body)[0] == 400
    client.start()
    assert client.send("GET /clusterip") == (200, "192.0.2.1,fd00::1")
    client.cluster = parse_cluster_address("10.1.1.1")
    client.start()
    assert client.send("GET /clusterip") == (200, "10.1.1.1")
    assert client.send("POST /clusterip", b"192.0.2.1") == (200, "192.0.2.1")
    assert client.send("DELETE /clusterip") == (200, "10.1.1.1")
    client.cluster = ()
    client.start()
    assert client.send("GET /clusterip") == (200, "")


def test_internal_error_is_a_500(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.provider, "apply", lambda changes: 1 / 0)
    answer = client.call("POST", "/records", b"{}")
    assert answer.status_code == 500
    assert "internal error" in answer.json["error"]


# --- any request

WORDS = (
    "foo.dtk.io FOO.dtk.io. dtk.io *.dtk.io x.example 10.0.0.5 fd00::1 A AAAA CNAME TXT SRV localhost desk"
)
TEXTS = st.one_of(
    st.text(max_size=20), st.sampled_from([*WORDS.split(), "1 2 3 foo.dtk.io", "a\n6.6.6.6 bank.com .dtk.io"])
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "dnsName": TEXTS,
        "targets": st.lists(TEXTS, max_size=3),
        "recordType": TEXTS,
        "setIdentifier": TEXTS,
        "recordTTL": st.integers(),
        "labels": st.dictionaries(st.sampled_from(["ownedRecord", "owner"]), TEXTS, max_size=2),
        "providerSpecific": st.lists(st.fixed_dictionaries({"name": TEXTS, "value": TEXTS}), max_size=2),
    },
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
LISTS = st.sampled_from(["create", "Create", "updateOld", "updateNew", "UPDATENEW", "delete"])
MESSAGES = st.one_of(
    st.dictionaries(LISTS, st.lists(FIELDS, max_size=3), max_size=4),
    st.dictionaries(LISTS, ANYTHING, max_size=4),
    st.lists(FIELDS, max_size=3),
    ANYTHING,
)


def encoded(message: Any) -> bytes:
    return json.dumps(message).encode(errors="replace")


@LAW
@given(
    st.lists(
        st.tuples(
            st.sampled_from(CALLS),
            st.one_of(MESSAGES.map(encoded), TEXTS.map(str.encode), st.binary(max_size=50)),
        ),
        max_size=6,
    )
)
def test_no_request_causes_a_500_or_a_name_outside_the_domains(calls: list[Any]) -> None:
    client = Client(cluster=parse_cluster_address("192.0.2.1"))
    for (method, path), body in calls:
        answer = client.call(method, path, body)
        assert answer.status_code < 500, (method, path, body, answer.data)
        assert answer.status_code == 204 or answer.json is not None
    domains = [Domain.parse(text) for text in client.call("GET", "/domains").json]
    for name, address in client.hosts.lines:
        assert managed(domains, name)
        assert name not in ("localhost", "desk")
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-.")
        ipaddress.ip_address(address)
    for names, *_ in client.published:
        assert all(managed(domains, name) for name in names)
    before = client.records()
    client.start()
    assert client.records() == before


@LAW
@given(
    st.text(alphabet=st.characters(codec="latin-1"), max_size=30),
    st.text(alphabet=st.characters(codec="latin-1"), max_size=60),
    st.text(alphabet=st.characters(codec="latin-1"), max_size=60),
    st.sampled_from(["GET", "POST", "HEAD", "X"]),
)
def test_no_header_causes_a_500(path: str, accept: str, content_type: str, method: str) -> None:
    client = Client()
    for where in (f"/{path}", "/", "/records", "/adjustendpoints"):
        assert client.call(method, where, b"{}", content_type, accept=accept).status_code < 500


def test_calls_are_counted_and_the_last_success_is_timed() -> None:
    client = Client()
    calls = 'calls_total{{method="{}",path="{}",status="{}"}}'.format
    assert client.call("GET", "/records", accept="text/html").status_code == 406
    assert client.call("PATCH", "/no/such/page").status_code == 404
    assert client.metric("last_success_timestamp_seconds") == 0
    assert client.apply(create=[a("foo.dtk.io")]) == 204
    client.store.outage = "etcd is unavailable"
    assert client.apply(create=[a("bar.dtk.io")]) == 503
    for method, path, status in (
        ("GET", "/records", 406),
        ("other", "other", 404),
        ("POST", "/records", 204),
        ("POST", "/records", 503),
    ):
        assert client.metric(calls(method, path, status)) == 1
    assert (client.metric("last_success_timestamp_seconds") or 0) > 1e9
