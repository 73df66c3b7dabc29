"""The outcome of one pass, for people and for programs.  Pure: values to text."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from kube2etcd.app.once import Outcome
from kube2etcd.inspect.changes import MARKS, Mark, RecordChange, Records
from kube2etcd.log import printable
from kube2etcd.sync.plan import Change, Create, Delete, Update

#: Keys of others are named up to this many; they may be thousands.
SHOWN: Final = 10
_COLOURS: Final = {"+": 32, "~": 33, "-": 31, "!": 31, "?": 35}
#: Columns to which cells are filled up: one reverse name of IPv6 must not move all others apart.
_CELLS: Final = (48, 8, 40)
_ACTIONS: Final = {"+": "add", "~": "change", "-": "delete"}


@dataclass(frozen=True, slots=True)
class Style:
    """How a text is laid out."""

    width: int = 160
    """Columns; where lines may be longer, cells are not aligned."""
    colour: bool = False


def text(
    outcome: Outcome,
    records: Records | None,
    total: int,
    dry: bool = False,
    style: Style = Style(),
) -> str:
    """A line for each record, or for each key where ``records`` is None; the summary is the last line.

    ``total`` is the number of all records, or of all keys, that there are before or after.
    """
    lines = list(_key_lines(outcome) if records is None else _record_lines(records.changes, style))
    lines += [f"! {printable(_text(key))}  refused by etcd: {reason}" for key, reason in outcome.refused]
    lines += [
        f"? {printable(_text(key))}  of another and malformed: it spoils the names above it"
        for key in sorted(outcome.malformed)[:SHOWN]
    ]
    if style.colour:
        lines = [f"\x1b[{_COLOURS[line[0]]}m{line}\x1b[0m" for line in lines]
    if records is not None and records.silent:
        lines.append(f"{_keys(records.silent)} changed without a change of records; see --keys")
    if outcome.held:
        lines.append(f"{_keys(len(outcome.held))} held until a second listing agrees (or --force)")
    if outcome.foreign:
        lines.append(f"{_keys(len(outcome.foreign))} of others left alone")
    lines.append(_summary(outcome, records, total, dry))
    return "\n".join(lines)


def as_json(outcome: Outcome, records: Records, total: int, dry: bool = False) -> str:
    """One JSON object; docs/resync.md has its fields."""
    changes, marks = outcome.changes, Counter(one.mark for one in records.changes)
    return json.dumps(
        {
            "dry_run": dry,
            "equal": not changes or not (dry or outcome.refused),
            "checksum": outcome.checksum,
            "records": {
                "total": total,
                "added": marks["+"],
                "changed": marks["~"],
                "deleted": marks["-"],
                "changes": [_as_dict(one) for one in records.changes],
            },
            "created": {_text(c.key): _text(c.value) for c in changes if isinstance(c, Create)},
            "updated": {
                _text(c.key): {"before": _text(c.before), "after": _text(c.value)}
                for c in changes
                if isinstance(c, Update)
            },
            "deleted": [_text(c.key) for c in changes if isinstance(c, Delete)],
            "held": [_text(key) for key in sorted(outcome.held)],
            "refused": {_text(key): reason for key, reason in outcome.refused},
            "foreign": [_text(key) for key in sorted(outcome.foreign)],
            "malformed": [_text(key) for key in sorted(outcome.malformed)],
        },
        indent=2,
    )


def _record_lines(changes: Sequence[RecordChange], style: Style) -> Iterator[str]:
    rows = [(f"{one.name}.", one.rtype, printable(_data(one)), _behind(one)) for one in changes]
    widths = [min(max((len(row[at]) for row in rows), default=0), most) for at, most in enumerate(_CELLS)]
    if sum(widths) + max((len(row[3]) for row in rows), default=0) + 8 > style.width:
        widths = [0, 0, 0]
    for one, row in zip(changes, rows, strict=True):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        yield f"{one.mark} {'  '.join([*cells, row[3]]).rstrip()}"


def _data(one: RecordChange) -> str:
    if one.mark != "~":
        return one.before or one.after
    if one.before == one.after:
        return f"{one.after} (TTL {one.ttl_before} -> {one.ttl})"
    return f"{one.before} -> {one.after}"


def _behind(one: RecordChange) -> str:
    return one.object or (f"({one.note})" if one.note else "")


def _mark(change: Change) -> Mark:
    return "+" if isinstance(change, Create) else "~" if isinstance(change, Update) else "-"


def _key_lines(outcome: Outcome) -> Iterator[str]:
    for change in outcome.changes:
        line = f"{_mark(change)} {printable(_text(change.key))}"
        if isinstance(change, Delete):
            held, pruned = change.key in outcome.held, change.key in outcome.pruned
            yield line + ("  (held)" if held else "  (foreign)" if pruned else "")
        else:
            before = f"{printable(_text(change.before))} -> " if isinstance(change, Update) else ""
            yield f"{line}  {before}{_text(change.value)}"


def _summary(outcome: Outcome, records: Records | None, total: int, dry: bool) -> str:
    if not outcome.changes:
        return "nothing differs"
    if records is None:
        what, marks, held = "keys", Counter(map(_mark, outcome.changes)), len(outcome.held)
    else:
        what, marks = "records", Counter(one.mark for one in records.changes)
        held = sum(one.note == "held" for one in records.changes)
    added, changed, deleted = (f"{marks[mark]:,}" for mark in MARKS)
    waiting = f" ({held:,} held)" if held else ""
    line = f"{added} added, {changed} changed, {deleted} deleted{waiting} of {total:,} {what}"
    return f"{line}; nothing written; checksum {outcome.checksum}" if dry else line


def _as_dict(one: RecordChange) -> dict[str, object]:
    return {
        "action": _ACTIONS[one.mark],
        "zone": one.zone,
        "name": f"{one.name}.",
        "type": one.rtype,
        "before": one.before,
        "after": one.after,
        "ttl_before": one.ttl_before,
        "ttl": one.ttl,
        "object": one.object,
        "note": one.note,
    }


def _keys(number: int) -> str:
    return "1 key" if number == 1 else f"{number:,} keys"


def _text(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")
