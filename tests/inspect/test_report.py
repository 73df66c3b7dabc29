from __future__ import annotations

import json

import pytest

from kube2etcd.app.once import Outcome
from kube2etcd.inspect.report import as_json, text
from kube2etcd.sync.plan import Create, Delete, Update

CHANGES = (Create(b"/a", b"{}"), Delete(b"/b", b"{1}"), Update(b"/c", b"{new}", b"\xff"))

TEXTS = [
    ("nothing", Outcome(()), False, ["nothing differs"]),
    (
        "all",
        Outcome(CHANGES),
        False,
        ["+ /a  {}", "- /b", "~ /c  \\xff -> {new}", "1 created, 1 updated, 1 deleted"],
    ),
    (
        "dry",
        Outcome(CHANGES[:1]),
        True,
        ["+ /a  {}", "1 would be created, 0 would be updated, 0 would be deleted"],
    ),
    (
        "held",
        Outcome(CHANGES[1:2], held=frozenset([b"/b"])),
        True,
        [
            "- /b  (held)",
            "0 would be created, 0 would be updated, 1 would be deleted",
            "1 of the deletions would be held until a second listing agrees (or --force)",
        ],
    ),
    (
        "others",
        Outcome((), frozenset([b"/x", b"/y"]), frozenset([b"/x"])),
        False,
        [
            "? /x  of another and malformed: it spoils the names above it",
            "nothing differs",
            "2 keys of others left alone",
        ],
    ),
    (
        "refused",
        Outcome(CHANGES[:1], frozenset([b"/x"]), refused=((b"/a", "too large"),)),
        False,
        [
            "+ /a  {}",
            "! /a  refused by etcd: too large",
            "1 created, 0 updated, 0 deleted",
            "1 key of others left alone",
        ],
    ),
]


@pytest.mark.parametrize(
    ("outcome", "dry", "lines"), [case[1:] for case in TEXTS], ids=[case[0] for case in TEXTS]
)
def test_text(outcome: Outcome, dry: bool, lines: list[str]) -> None:
    assert text(outcome, dry).splitlines() == lines


def test_json_holds_everything() -> None:
    outcome = Outcome(CHANGES, frozenset([b"/x"]), frozenset([b"/x"]), ((b"/a", "no"),), frozenset([b"/b"]))
    assert json.loads(as_json(outcome)) == {
        "dry_run": False,
        "equal": False,
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
    assert json.loads(as_json(outcome, dry))["equal"] is equal
