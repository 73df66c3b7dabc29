from __future__ import annotations

from pathlib import Path

import pytest

from kube2etcd.app import build
from kube2etcd.app.offline import from_files
from kube2etcd.inspect.explain import (
    DOES_NOT,
    RESOLVES,
    UNKNOWN,
    Explainer,
    Explanation,
    exit_code,
    question_name,
    question_type,
)
from kube2etcd.inspect.wait import ServerReply
from kube2etcd.inspect.why import nearest
from kube2etcd.settings import HostPort, load
from tests.inspect.shop import WEB, Shop


@pytest.mark.parametrize(("rival", "loses"), [("elder", True), ("younger", False)])
def test_writer_that_keeps_the_name_is_named(shop: Shop, rival: str, loses: bool) -> None:
    # Without a bridge, etcd's keys decide: a shared name goes to the owner id that sorts first.
    value = f'{{"host":"10.0.0.5","owner":"{rival}"}}'.encode()
    keys = {b"/skydns/io/dtk/foo/own_": value, b"/skydns/io/dtk/foo/own_/10-0-0-5-H": value}
    lost = f"another writer ({rival}) keeps this name: its owner ID sorts before ours (kube2etcd)"
    assert shop.explain("foo.dtk.io", existing=keys).reasons.count(lost) == loses


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("wbe.shop.svc.cluster.local", "web.shop.svc.cluster.local"),
        ("web.shpo.svc.cluster.local", "web.shop.svc.cluster.local"),
        ("_htp._tcp.web.shop.svc.cluster.local", "_http._tcp.web.shop.svc.cluster.local"),
        ("web.shop.svc.cluster.locl", "web.shop.svc.cluster.local"),
        ("fooo.dtk.io", "foo.dtk.io"),
        ("vm11.shop.vm", "vm1.shop.vm"),
        ("entirely.different.thing", None),
        ("99.20.96.10.in-addr.arpa", None),
        ("web.shop.svc.cluster.local", None),
        ("web.shop.*.cluster.local", None),
    ],
)
def test_nearest_names(shop: Shop, name: str, near: str | None) -> None:
    assert list(shop.explain(name, None).nearest[:1]) == ([f"{near}."] if near else [])


def test_nearest_of_100_000_names() -> None:
    known = [f"n{number}.other.svc.a" for number in range(100_000)] + ["web.shop.svc.a"]
    assert nearest("wbe.shop.svc.a", "a", known) == ["web.shop.svc.a"]


def test_many_endpoints_are_counted(tmp_path: Path) -> None:
    def endpoint(number: int) -> str:
        return f"{{addresses: [10.9.{number >> 8}.{number & 255}], conditions: {{ready: {number < 700}}}}}"

    file = tmp_path / "large.yaml"
    file.write_text(
        "{apiVersion: v1, kind: Service, metadata: {name: db, namespace: shop}, spec: {clusterIP: None}}\n"
        "---\n"
        "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, metadata: {name: db-1,"
        " namespace: shop, labels: {kubernetes.io/service-name: db}}, endpoints:"
        f" [{', '.join(map(endpoint, range(800)))}]}}"
    )
    settings = load({}, {})
    publisher = from_files(settings, [str(file)])
    explainer = Explainer(publisher, build.reader(settings, publisher))
    [found] = explainer.explain(question_name("db.shop.svc.cluster.local"), "A")
    assert len(found.answers) == 700
    assert found.reasons[0] == "700 records come from services/shop/db (headless)"
    assert (len(found.reasons), found.reasons[-1]) == (51, "51 more reasons")


@pytest.mark.parametrize("value", [b'{"host":"other.example"}', b"{bad"], ids=["changed", "malformed"])
def test_answer_comes_from_the_keys_in_etcd(shop: Shop, value: bytes) -> None:
    found = shop.explain("10.96.20.10", "PTR", {b"/skydns/arpa/in-addr/10/96/20/10": value})
    assert WEB not in str(found.answers)
    assert found.reasons[-1] == (
        f"etcd does not match the cluster here, which would give NOERROR; 10.20.96.10.in-addr.arpa. 30 IN PTR"
        f" {WEB}.: is kube2etcd running, or are deletions held? see kube2etcd resync --dry-run"
    )


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b'{"host":', "is malformed, which breaks all names above it: resync --prune-foreign deletes it"),
        (b'{"host":"10.66.6.6"}', "is in this answer: resync --prune-foreign deletes it"),
        (b'{"host":"10.66.6.6","owner":"other"}', "(owner other) is in this answer: resync"),
        (b'{"host":"10.66.6.6","owner":"kube2etcd/sub"}', "is in this answer: delete it in etcd"),
    ],
    ids=["malformed", "no owner", "other owner", "sub-owner"],
)
def test_foreign_key_is_named(shop: Shop, value: bytes, reason: str) -> None:
    key = b"/skydns/local/cluster/svc/shop/web/zz"
    found = shop.explain(WEB, existing={key: value})
    assert (found.rcode == "SERVFAIL") is ("malformed" in reason)
    reasons = found.reasons
    assert [one for one in reasons if key.decode() in one and reason in one], reasons
    assert "etcd does not match the cluster here" in reasons[-1]
    assert "kube2etcd running" not in reasons[-1]


def test_many_foreign_keys_are_counted(shop: Shop) -> None:
    keys = {f"/skydns/local/cluster/svc/shop/web/z{at}".encode(): b'{"host":"10.66.6.6"}' for at in range(12)}
    malformed = b"/skydns/local/cluster/svc/shop/web/0"  # the first one, where a server stops reading
    reasons = shop.explain(WEB, existing={**keys, malformed: b"{"}).reasons
    assert "13 keys of other writers are in this answer; the first 10:" in reasons
    named = [one for one in reasons if "another writer's key" in one]
    assert (len(named), f"{malformed.decode()} is malformed" in named[0]) == (10, True)


SERVER = HostPort("192.0.2.53", 53)
NXDOMAIN = ServerReply("NXDOMAIN")
SOA = "ns.dns.cluster.local. hostmaster.cluster.local. 9 7200 1800 86400 30"
VERSION, PAYMENTS = "dns-version.cluster.local", "payments.shop.svc.cluster.local"
FOLLOWED = (f"{PAYMENTS}. 30 IN CNAME api.payments.example.", "api.payments.example. 9 IN A 192.0.2.1")


def reply(*data: str, rtype: str = "A", name: str = WEB, ttl: int = 30) -> ServerReply:
    return ServerReply("NOERROR", data, records=tuple(f"{name}. {ttl} IN {rtype} {one}" for one in data))


@pytest.mark.parametrize(
    ("name", "rtype", "answer", "resolves", "differences"),
    [
        (WEB, "A", reply("10.96.20.10", ttl=3), True, []),
        (WEB.upper(), "A", reply("10.96.20.10"), True, []),
        (WEB, "A", reply("10.96.20.9"), True, ["it lacks", "it has", "an answer cached for up to 30 s"]),
        (WEB, "A", NXDOMAIN, False, ["but etcd's keys give NOERROR", "it lacks", "a cached answer"]),
        (WEB, "A", ServerReply("REFUSED"), False, ["no server block for it"]),
        (WEB, "A", ServerReply("SERVFAIL"), False, ["it cannot read its etcd"]),
        (WEB, "A", ServerReply("", trouble="no answer from 192.0.2.53:53"), None, ["no answer from"]),
        (WEB, "TXT", ServerReply("NOERROR"), False, []),
        ("cluster.local", "SOA", reply(SOA, rtype="SOA", name="cluster.local"), True, []),
        (VERSION, "TXT", reply('"1.1.0"', rtype="TXT", name=VERSION), True, []),
        ("www.example", "A", reply("192.0.2.1", name="www.example"), True, []),
        (PAYMENTS, "A", ServerReply("NOERROR", ("192.0.2.1",), records=FOLLOWED), True, []),
    ],
)
def test_differences_between_a_server_and_the_keys(
    shop: Shop, name: str, rtype: str, answer: ServerReply, resolves: bool | None, differences: list[str]
) -> None:
    found = shop.explain(name, rtype).with_server(SERVER, answer)
    assert found.server is not None
    assert found.resolves is resolves
    shown = "NODATA" if answer.rcode == "NOERROR" and not answer.data else answer.rcode
    assert str(found.server).startswith(f"server {SERVER}: {shown}" if shown else "server: no answer from")
    assert len(found.server.differences) == len(differences)
    for hint, difference in zip(differences, found.server.differences, strict=True):
        assert hint in difference
    same = not differences and found.rcode != "REFUSED"
    assert ("  matches etcd's keys" in str(found)) is same


def test_control_characters_do_not_reach_the_terminal() -> None:
    found = Explanation("a.", "TXT", "NOERROR", ("a. 30 IN TXT \x1b[2J",), (), ("\x07",), ("\r",))
    found = found.with_server(SERVER, ServerReply("NOERROR", ("\x1b",), records=("a. 30 IN TXT \x1b",)))
    assert all(line.isprintable() for line in str(found).splitlines())


@pytest.mark.parametrize(
    ("names", "code"),
    [
        ([(WEB, "A")], RESOLVES),
        ([(WEB, "TXT")], DOES_NOT),
        ([(WEB, "TXT"), (WEB, "A"), ("www.example", "A")], RESOLVES),
        ([(WEB, "TXT"), ("www.example", "A")], UNKNOWN),
        ([(PAYMENTS, "A")], UNKNOWN),
        ([(PAYMENTS, "CNAME")], RESOLVES),
        ([("cluster.local", "ANY")], RESOLVES),
    ],
)
def test_exit_codes(shop: Shop, names: list[tuple[str, str]], code: int) -> None:
    assert exit_code(shop.explain(name, rtype) for name, rtype in names) == code


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("10.0.0.1", "1.0.0.10.in-addr.arpa"),
        ("::ffff:10.0.0.1", "1.0.0.10.in-addr.arpa"),
        ("[::ffff:10.0.0.1]", "1.0.0.10.in-addr.arpa"),
        ("Web.Shop.", "web.shop"),
        ("*.Shop.", "*.shop"),
        ("Bücher.Shop.", "xn--bcher-kva.shop"),
    ],
)
def test_question_name(text: str, name: str) -> None:
    assert str(question_name(text)) == name


def test_question_type() -> None:
    assert list(map(question_type, ("a", "type1", "TYPE65280"))) == ["A", "A", "TYPE65280"]
    for text in ("B", "TYPE65536", "TYPE0", ""):
        with pytest.raises(ValueError, match="is not a record type; write one such as A"):
            question_type(text)
