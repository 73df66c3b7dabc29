"""A plan as record changes: the difference of the DNS answers before and after it."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube2etcd.app import build
from kube2etcd.external import Endpoint
from kube2etcd.inspect.records import rows
from kube2etcd.inspect.resync import MARKS, RecordChange, Records, as_json, records, text
from kube2etcd.kube.objects import DnsEndpoint, Metadata, Namespace, Service
from kube2etcd.kube.store import Store
from kube2etcd.settings import Settings, load
from kube2etcd.sync.plan import Change, Create, Delete, Outcome, Update, diff
from kube2etcd.sync.publisher import Publisher
from tests.strategies import ALL_IDENTITIES, LAW, NAMESPACES, Present, clusters

COREDNS = load({"vm_domain": "", "pods": "verified", "domains": "dtk.io", "dns_endpoints": True}, {})
SKYDNS = load({"etcd_api": "v2"}, {})
#: Without the zones' own records.
NO_CLUSTER_ZONE = load({"cluster_zone": False, "domains": "dtk.io", "dns_endpoints": True}, {})


def publisher_of(settings: Settings, objects: Present) -> Publisher:
    kinds = {kind: [one for (other, *_), one in objects.items() if other == kind] for kind, *_ in objects}
    store = Store()
    for kind, some in kinds.items():
        store.replace(kind, some, [])
    publisher = build.publisher(settings, store)
    publisher.refresh(publisher.units())
    return publisher


def records_of(settings: Settings, outcome: Outcome, publisher: Publisher) -> Records:
    return records(outcome, publisher, build.reader(settings, publisher, everywhere=True))


def record_changes(settings: Settings, before: Mapping[bytes, bytes], publisher: Publisher) -> Records:
    plan = diff(before, publisher.desired, publisher.layout.owner)
    return records_of(settings, Outcome(plan.changes, existing=before), publisher)


def lines(found: Records) -> list[str]:
    return [
        " ".join(
            part for part in (MARKS[one.action], one.name[:-1], one.type, one.before, ">", one.after) if part
        )
        for one in found.changes
    ]


def visible(publisher: Publisher) -> set[tuple[str, str, str]]:
    every = (row.record for row in rows(publisher))
    found = {(f"{one.name}.", one.rtype, str(one.data)) for one in every}
    # Port 0 is SkyDNS's answer where there is no port; no Service has it.
    return {one for one in found if one[1] != "SRV" or not one[2].startswith("0 0 ")}


#: Every object has its Namespace: else SkyDNS answers with the objects' addresses at the Namespace's name.
_PRESENT_NAMESPACES: Present = {
    ("namespaces", "", name): Namespace(Metadata("", name)) for name in NAMESPACES
}
_CLUSTERS = clusters(ALL_IDENTITIES).map(lambda objects: _PRESENT_NAMESPACES | objects) | st.just(Present())


@LAW
@given(st.sampled_from([COREDNS, SKYDNS]), _CLUSTERS, _CLUSTERS)
def test_before_plus_changes_is_after(settings: Settings, one: Present, other: Present) -> None:
    # SkyDNS hides dangling CNAMEs.  NODATA is implied by the deletion of a name's data.
    ignored = {"NODATA", "CNAME"} if settings is SKYDNS else {"NODATA"}
    before, after = publisher_of(settings, one), publisher_of(settings, other)
    current, expected = (
        {record for record in visible(publisher) if record[1] not in ignored} for publisher in (before, after)
    )
    for change in record_changes(settings, before.desired, after).changes:
        if change.type in ignored:
            continue
        name = change.name
        if change.before:
            current.remove((name, change.type, change.before))
        if change.after:
            assert (name, change.type, change.after) not in current or change.before
            current.add((name, change.type, change.after))
            assert change.object
    assert current == expected


def web(**spec: object) -> Present:
    one = Service(Metadata("shop", "web"), **spec)  # type: ignore[arg-type]
    return {("services", "shop", "web"): one}


def web_at(address: str) -> Present:
    return web(cluster_ip=address, cluster_ips=(address,))


def dns_endpoint(*endpoints: tuple[str, str, str]) -> Present:
    found = tuple(Endpoint(name, (target,), rtype) for name, rtype, target in endpoints)
    return {("dnsendpoints", "shop", "d"): DnsEndpoint(Metadata("shop", "d"), found)}


WEB = "web.shop.svc.cluster.local"
SHOP_PREFIX = b"/skydns/local/cluster/svc/shop/"
KEY = SHOP_PREFIX + b"web"
CASES: dict[str, tuple[Settings, Present, Present, list[str]]] = {
    "other address": (
        COREDNS,
        web_at("10.0.0.1"),
        web_at("10.0.0.2"),
        [
            "- 1.0.0.10.in-addr.arpa PTR web.shop.svc.cluster.local. >",
            "+ 2.0.0.10.in-addr.arpa PTR > web.shop.svc.cluster.local.",
            f"~ {WEB} A 10.0.0.1 > 10.0.0.2",
        ],
    ),
    "other type": (
        SKYDNS,
        _PRESENT_NAMESPACES | web_at("10.0.0.1"),
        _PRESENT_NAMESPACES | web(type="ExternalName", external_name="example.org"),
        [
            "- 1.0.0.10.in-addr.arpa PTR web.shop.svc.cluster.local. >",
            f"- {WEB} A 10.0.0.1 >",
            f"+ {WEB} CNAME > example.org.",
        ],
    ),
    "name without data": (
        COREDNS,
        {},
        {("namespaces", "", "shop"): Namespace(Metadata("", "shop"))},
        [f"+ shop.{below} NODATA > -" for below in ("pod.cluster.local", "svc.cluster.local", "vm")],
    ),
    "data of every type": (
        NO_CLUSTER_ZONE,
        dns_endpoint(("a.dtk.io", "TXT", "x")),
        dns_endpoint(
            ("a.dtk.io", "TXT", "y"),
            ("b.dtk.io", "MX", "10 mail.example.org"),
            ("_s._tcp.dtk.io", "SRV", "5 7 80 a.dtk.io"),
            ("c.dtk.io", "CNAME", "a.dtk.io"),
        ),
        [
            "+ _tcp.dtk.io NODATA > -",
            "+ _s._tcp.dtk.io SRV > 5 100 80 a.dtk.io.",
            '~ a.dtk.io TXT "x" > "y"',
            "+ b.dtk.io MX > 10 mail.example.org.",
            "+ c.dtk.io CNAME > a.dtk.io.",
        ],
    ),
    "no change": (COREDNS, web(), web(), []),
}


@pytest.mark.parametrize(("settings", "before", "after", "expected"), CASES.values(), ids=CASES)
def test_changes(settings: Settings, before: Present, after: Present, expected: list[str]) -> None:
    found = record_changes(settings, publisher_of(settings, before).desired, publisher_of(settings, after))
    assert lines(found) == expected
    assert not found.silent


def test_new_ttl_changes_every_record() -> None:
    objects = web_at("10.0.0.1")
    after = publisher_of(load({"ttl": 5}, {}), objects)
    found = record_changes(COREDNS, publisher_of(load({}, {}), objects).desired, after)
    reverse, same, unit = "1.0.0.10.in-addr.arpa.", "10.0.0.1", "services/shop/web"
    assert found.changes == (
        RecordChange("change", "", reverse, "PTR", f"{WEB}.", f"{WEB}.", 30, 5, unit),
        RecordChange("change", "cluster.local", f"{WEB}.", "A", same, same, 30, 5, unit),
    )


OURS = b'{"host":"192.0.2.1","owner":"kube2etcd"}'
UNUSUAL_KEYS: dict[str, tuple[dict[bytes, bytes], list[str], int]] = {
    "zone no longer configured": (
        {b"/skydns/local/gone/x": OURS, b"/skydns/local/nt_/gone": b'{"owner":"kube2etcd"}'},
        ["- gone.local NODATA - >", "- x.gone.local A 192.0.2.1 >"],
        0,
    ),
    "no DNS name": ({b"/skydns/local/a b": OURS, b"/skydns/": OURS}, [], 2),
    "name of one label": ({b"/skydns/x": OURS}, ["- x A 192.0.2.1 >"], 0),
    "port without addresses": ({b"/skydns/_tcp/_x": OURS}, ["- _x._tcp NODATA - >"], 0),
    "malformed value that is not read": ({KEY: b"{"}, [], 1),
    "malformed address": ({KEY + b"/10-0-0-1-H": b"{"}, [f"~ {WEB} A SERVFAIL > 10.0.0.1"], 0),
    "other group": ({KEY + b"/10-0-0-1-H": b""}, [], 1),
}


@pytest.mark.parametrize(("more", "expected", "silent"), UNUSUAL_KEYS.values(), ids=UNUSUAL_KEYS)
def test_unusual_keys(more: dict[bytes, bytes], expected: list[str], silent: int) -> None:
    after = publisher_of(COREDNS, web_at("10.0.0.1"))
    replaced = {key: value or after.desired[key].replace(b"a5", b"a6") for key, value in more.items()}
    found = record_changes(COREDNS, {**after.desired, **replaced}, after)
    assert (lines(found), found.silent) == (expected, silent)


def test_a_refused_key_changes_nothing() -> None:
    after = publisher_of(COREDNS, {})
    refused, silent = SHOP_PREFIX + b"refused", SHOP_PREFIX + b"a b"
    outcome = Outcome(
        (Create(refused, OURS), Create(silent, OURS)),
        refused=((refused, "too large"),),
        existing={**after.desired},
    )
    assert records_of(COREDNS, outcome, after) == Records((), silent=1)


def test_held_and_foreign_deletions_are_marked() -> None:
    after = publisher_of(COREDNS, {})
    held, foreign, stale = (SHOP_PREFIX + name for name in (b"held", b"foreign", b"stale"))
    existing = {**after.desired, held: OURS, foreign: OURS, stale: OURS}
    deletions = (Delete(key, OURS) for key in (held, foreign, stale))
    added = Create(held + b"/x-T", b'{"text":"x","owner":"kube2etcd"}')
    outcome = Outcome(
        (*deletions, added), held=frozenset([held]), pruned=frozenset([foreign]), existing=existing
    )
    found = records_of(COREDNS, outcome, after).changes
    notes = {f"{one.name.partition('.')[0]} {one.type}": one.note for one in found}
    assert notes == {"held A": "held", "held TXT": "", "foreign A": "foreign", "stale A": ""}


FOREIGN = {
    "malformed": (COREDNS, b"bad", b"{", ["- bad A foreign"]),
    "malformed at a Service": (COREDNS, b"web/x", b"{", ["~ web A services/shop/web", "- x A foreign"]),
    "below a Service": (COREDNS, b"web/x", OURS, ["- web A foreign", "- x A foreign"]),
    "below a Service of SkyDNS": (SKYDNS, b"web/x", OURS, ["- web A foreign", "- x A foreign"]),
    "hides a Service of SkyDNS": (SKYDNS, b"web", b"{", ["- shop SRV foreign", "+ web A services/shop/web"]),
}


@pytest.mark.parametrize(("settings", "path", "value", "expected"), FOREIGN.values(), ids=FOREIGN)
def test_pruned_foreign_key(settings: Settings, path: bytes, value: bytes, expected: list[str]) -> None:
    after = publisher_of(settings, _PRESENT_NAMESPACES | web_at("10.0.0.1"))
    key = SHOP_PREFIX + path
    outcome = Outcome((Delete(key, value),), pruned=frozenset([key]), existing={**after.desired, key: value})
    found = records_of(settings, outcome, after)
    changes = [
        f"{MARKS[one.action]} {one.name.partition('.')[0]} {one.type} {one.object or one.note}"
        for one in found.changes
    ]
    assert (changes, found.silent) == (expected, 0)


def test_cname_loop_across_zones() -> None:
    settings = load({"domains": "a.example,b.example", "dns_endpoints": True}, {})
    loop = {
        b"/skydns/example/a/own_/C": b'{"host":"b.example","owner":"kube2etcd"}',
        b"/skydns/example/b/own_/C": b'{"host":"a.example","owner":"kube2etcd"}',
    }
    after = publisher_of(settings, {})
    assert lines(record_changes(settings, {**after.desired, **loop}, after)) == [
        f"- {name}.example CNAME SERVFAIL >" for name in "ab"
    ]


def test_long_plans_report_progress() -> None:
    after = publisher_of(COREDNS, web())
    steps: list[tuple[int, int]] = []
    stale = {b"/skydns/local/gone/x%d" % number: OURS for number in range(1200)}
    outcome = Outcome(diff({**after.desired, **stale}, after.desired, "kube2etcd").changes, existing=stale)
    records(outcome, after, build.reader(COREDNS, after, everywhere=True), lambda *step: steps.append(step))
    assert steps == [(0, 1200), (500, 1200), (1000, 1200)]


def test_every_record_is_added_to_an_empty_etcd() -> None:
    after = publisher_of(COREDNS, _PRESENT_NAMESPACES | web_at("10.0.0.1"))
    found = record_changes(COREDNS, {}, after)
    assert found == record_changes(COREDNS, {b"/skydns/test/foreign": b"{}"}, after), (
        "a key outside our zones"
    )
    assert {(one.name, one.type, one.after) for one in found.changes} == visible(after)
    assert {one.action for one in found.changes} == {"add"}


CHANGES = (Create(b"/a", b"{}"), Delete(b"/b", b"{1}"), Update(b"/c", b"{new}", b"\xff"))
DB, SHOP = "services/shop/db", "services/shop/web"
RECORDS = Records(
    (
        RecordChange("add", "test", "db.shop.test.", "A", "", "10.0.0.1", 0, 30, DB),
        RecordChange("delete", "test", "web.shop.test.", "TXT", '"\x1b[2J"', "", 30, note="held"),
        RecordChange("change", "test", "web.shop.test.", "A", "10.0.0.2", "10.0.0.3", 30, 30, SHOP),
        RecordChange("change", "test", "web.shop.test.", "AAAA", "fd00::1", "fd00::1", 30, 5, SHOP),
        RecordChange("delete", "test", "web.shop.test.", "CNAME", "x.test.", "", 30),
    ),
    2,
)

TEXTS: dict[str, tuple[Outcome, Records | None, list[str]]] = {
    "no change": (Outcome(()), None, ["nothing differs"]),
    "hostile keys": (
        Outcome((Delete(b"/\x1b[2J\n\xe2\x80\xae", b""),)),
        None,
        ["- /\\x1b[2J\\n\\u202e", "0 added, 0 changed, 1 deleted of 1,234 keys"],
    ),
    "held and foreign": (
        Outcome((Delete(b"/b", b""), Delete(b"/c", b"")), held=frozenset([b"/b"]), pruned=frozenset([b"/c"])),
        None,
        [
            "- /b  (held)",
            "- /c  (foreign)",
            "1 key held until a second listing agrees (or --force)",
            "0 added, 0 changed, 2 deleted (1 held) of 1,234 keys",
        ],
    ),
    "refused and foreign": (
        Outcome(CHANGES, frozenset([b"/x", b"/y"]), frozenset([b"/x"]), refused=((b"/a", "too large"),)),
        None,
        [
            "+ /a  {}",
            "- /b",
            "~ /c  \\xff -> {new}",
            "! /a  refused by etcd: too large",
            "? /x  another writer's malformed value, which breaks every name above it",
            "2 keys of other writers left alone",
            "1 added, 1 changed, 1 deleted of 1,234 keys",
        ],
    ),
    "records": (
        Outcome(CHANGES),
        RECORDS,
        [
            "+ db.shop.test.   A      10.0.0.1               services/shop/db",
            '- web.shop.test.  TXT    "\\x1b[2J"              (held)',
            "~ web.shop.test.  A      10.0.0.2 -> 10.0.0.3   services/shop/web",
            "~ web.shop.test.  AAAA   fd00::1 (TTL 30 -> 5)  services/shop/web",
            "- web.shop.test.  CNAME  x.test.",
            "2 keys changed without changing a record; see --keys",
            "1 added, 2 changed, 2 deleted (1 held) of 1,234 records",
        ],
    ),
}


@pytest.mark.parametrize(("outcome", "found", "expected"), TEXTS.values(), ids=TEXTS)
def test_text(outcome: Outcome, found: Records | None, expected: list[str]) -> None:
    assert text(outcome, found, 1234).split("\n") == expected
    dry = text(outcome, found, 1234, dry=True)
    unchanged = "" if outcome.changes else expected[-1]
    assert dry.split("\n")[-1] == (
        unchanged or f"{expected[-1]}; nothing written; checksum {outcome.checksum}"
    )


def test_text_on_a_narrow_terminal_in_colour() -> None:
    assert text(Outcome(CHANGES), Records(RECORDS.changes[:3]), 1234, width=40, colour=True).split("\n") == [
        "\x1b[32m+ db.shop.test.  A  10.0.0.1  services/shop/db\x1b[0m",
        '\x1b[31m- web.shop.test.  TXT  "\\x1b[2J"  (held)\x1b[0m',
        "\x1b[33m~ web.shop.test.  A  10.0.0.2 -> 10.0.0.3  services/shop/web\x1b[0m",
        "1 added, 1 changed, 1 deleted (1 held) of 1,234 records",
    ]


def test_checksum_identifies_a_plan() -> None:
    plans: list[tuple[Change, ...]] = [
        (),
        (Create(b"/a", b"{}"),),
        (Create(b"/a", b"{} "),),
        (Create(b"/a{", b"}"),),
        (Update(b"/a", b"{}", b""),),
        (Update(b"/a", b"{}", b"x"),),
        (Delete(b"/a", b"{}"),),
        CHANGES,
    ]
    sums = {Outcome(changes).checksum for changes in plans}
    assert (len(sums), {len(one) for one in sums}) == (len(plans), {16})
    marked = Outcome(CHANGES, frozenset([b"/x"]), held=frozenset([b"/b"]), pruned=frozenset([b"/b"]))
    assert marked.checksum == Outcome(CHANGES).checksum, "holding and pruning do not change it"


def test_json() -> None:
    outcome = Outcome(CHANGES, frozenset([b"/x"]), frozenset([b"/x"]), ((b"/a", "no"),), frozenset([b"/b"]))
    found = json.loads(as_json(outcome, RECORDS, 1234))
    changes = found["records"].pop("changes")
    assert [one["action"] for one in changes] == ["add", "delete", "change", "change", "delete"]
    assert changes[0] == {
        "action": "add",
        "zone": "test",
        "name": "db.shop.test.",
        "type": "A",
        "before": "",
        "after": "10.0.0.1",
        "ttl_before": 0,
        "ttl": 30,
        "object": "services/shop/db",
        "note": "",
    }
    assert found == {
        "dry_run": False,
        "equal": False,
        "checksum": outcome.checksum,
        "records": {"total": 1234, "added": 1, "changed": 2, "deleted": 2},
        "created": {"/a": "{}"},
        "updated": {"/c": {"before": "\\xff", "after": "{new}"}},
        "deleted": ["/b"],
        "held": ["/b"],
        "refused": {"/a": "no"},
        "foreign": ["/x"],
        "malformed": ["/x"],
    }


@pytest.mark.parametrize(
    ("outcome", "dry", "equal"),
    [
        (Outcome(()), True, True),
        (Outcome(CHANGES), True, False),
        (Outcome(CHANGES), False, True),
        (Outcome(CHANGES, refused=((b"/a", "no"),)), False, False),
    ],
    ids=["no change", "dry run", "written", "refused"],
)
def test_json_says_whether_etcd_is_equal(outcome: Outcome, dry: bool, equal: bool) -> None:
    assert json.loads(as_json(outcome, Records(()), 0, dry))["equal"] is equal
