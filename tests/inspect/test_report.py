from __future__ import annotations

import json

import pytest

from kube2etcd.app.once import Outcome
from kube2etcd.inspect.changes import RecordChange, Records
from kube2etcd.inspect.report import Style, as_json, text
from kube2etcd.sync.plan import Change, Create, Delete, Update
from skydns_compat.names import Name

CHANGES = (Create(b"/a", b"{}"), Delete(b"/b", b"{1}"), Update(b"/c", b"{new}", b"\xff"))

DB, WEB = Name.parse("db.shop.test"), Name.parse("web.shop.test")
RECORDS = Records(
    (
        RecordChange("+", DB, "A", "", "10.0.0.1", 0, 30, "test", "services/shop/db"),
        RecordChange("-", WEB, "TXT", '"\x1b[2J"', "", 30, 0, "test", note="held"),
        RecordChange("~", WEB, "A", "10.0.0.2", "10.0.0.3", 30, 30, "test", "services/shop/web"),
        RecordChange("~", WEB, "AAAA", "fd00::1", "fd00::1", 30, 5, "test", "services/shop/web"),
        RecordChange("-", WEB, "CNAME", "x.test.", "", 30, 0, "test"),
    ),
    2,
)
SUM = "1 added, 1 changed, 1 deleted of 1,234 keys"
CHECKSUM = Outcome(CHANGES).checksum

TEXTS: list[tuple[str, Outcome, Records | None, bool, Style, list[str]]] = [
    ("nothing", Outcome(()), None, False, Style(), ["nothing differs"]),
    ("keys", Outcome(CHANGES), None, False, Style(), ["+ /a  {}", "- /b", "~ /c  \\xff -> {new}", SUM]),
    (
        "dry",
        Outcome(CHANGES),
        None,
        True,
        Style(),
        ["+ /a  {}", "- /b", "~ /c  \\xff -> {new}", f"{SUM}; nothing written; checksum {CHECKSUM}"],
    ),
    (
        "hostile",
        Outcome((Delete(b"/\x1b[2J\n\xe2\x80\xae", b""),)),
        None,
        False,
        Style(),
        ["- /\\x1b[2J\\n\\u202e", "0 added, 0 changed, 1 deleted of 1,234 keys"],
    ),
    (
        "held and foreign",
        Outcome((Delete(b"/b", b""), Delete(b"/c", b"")), held=frozenset([b"/b"]), pruned=frozenset([b"/c"])),
        None,
        False,
        Style(),
        [
            "- /b  (held)",
            "- /c  (foreign)",
            "1 key held until a second listing agrees (or --force)",
            "0 added, 0 changed, 2 deleted (1 held) of 1,234 keys",
        ],
    ),
    (
        "others",
        Outcome((), frozenset([b"/x", b"/y"]), frozenset([b"/x"])),
        None,
        False,
        Style(),
        [
            "? /x  of another and malformed: it spoils the names above it",
            "2 keys of others left alone",
            "nothing differs",
        ],
    ),
    (
        "refused",
        Outcome(CHANGES[:1], frozenset([b"/x"]), refused=((b"/a", "too large"),)),
        None,
        False,
        Style(),
        [
            "+ /a  {}",
            "! /a  refused by etcd: too large",
            "1 key of others left alone",
            "1 added, 0 changed, 0 deleted of 1,234 keys",
        ],
    ),
    (
        "records",
        Outcome(CHANGES),
        RECORDS,
        False,
        Style(),
        [
            "+ db.shop.test.   A      10.0.0.1               services/shop/db",
            '- web.shop.test.  TXT    "\\x1b[2J"              (held)',
            "~ web.shop.test.  A      10.0.0.2 -> 10.0.0.3   services/shop/web",
            "~ web.shop.test.  AAAA   fd00::1 (TTL 30 -> 5)  services/shop/web",
            "- web.shop.test.  CNAME  x.test.",
            "2 keys changed without a change of records; see --keys",
            "1 added, 2 changed, 2 deleted (1 held) of 1,234 records",
        ],
    ),
    (
        "a narrow terminal with colours",
        Outcome(CHANGES),
        Records(RECORDS.changes[:3]),
        False,
        Style(40, True),
        [
            "\x1b[32m+ db.shop.test.  A  10.0.0.1  services/shop/db\x1b[0m",
            '\x1b[31m- web.shop.test.  TXT  "\\x1b[2J"  (held)\x1b[0m',
            "\x1b[33m~ web.shop.test.  A  10.0.0.2 -> 10.0.0.3  services/shop/web\x1b[0m",
            "1 added, 1 changed, 1 deleted (1 held) of 1,234 records",
        ],
    ),
]


@pytest.mark.parametrize(
    ("outcome", "records", "dry", "style", "lines"),
    [case[1:] for case in TEXTS],
    ids=[case[0] for case in TEXTS],
)
def test_text(outcome: Outcome, records: Records | None, dry: bool, style: Style, lines: list[str]) -> None:
    assert text(outcome, records, 1234, dry, style).split("\n") == lines


CHECKED: list[tuple[str, tuple[Change, ...]]] = [
    ("nothing", ()),
    ("a create", (Create(b"/a", b"{}"),)),
    ("another value", (Create(b"/a", b"{} "),)),
    ("another key", (Create(b"/a{", b"}"),)),
    ("an update", (Update(b"/a", b"{}", b""),)),
    ("from another value", (Update(b"/a", b"{}", b"x"),)),
    ("a delete", (Delete(b"/a", b"{}"),)),
    ("all", CHANGES),
]


def test_a_checksum_is_that_of_one_plan() -> None:
    sums = [Outcome(changes).checksum for _, changes in CHECKED]
    assert len(set(sums)) == len(CHECKED)
    assert {len(one) for one in sums} == {16}
    marked = Outcome(CHANGES, frozenset([b"/x"]), held=frozenset([b"/b"]), pruned=frozenset([b"/b"]))
    assert marked.checksum == Outcome(CHANGES).checksum, "who has looked may also use --force"


def test_json_holds_everything() -> None:
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
        "checksum": CHECKSUM,
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
    ids=["same", "dry", "written", "refused"],
)
def test_json_says_whether_etcd_is_equal_now(outcome: Outcome, dry: bool, equal: bool) -> None:
    assert json.loads(as_json(outcome, Records(()), 0, dry))["equal"] is equal
