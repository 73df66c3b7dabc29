"""The records that a pass of `resync` changes: the DNS answers before and after it.  Pure.

Keys are not records: a name's addresses may be in several keys, and one key may serve several names.  So the
model of the DNS server answers every name and type that a changed key can affect, from the keys before the
pass and from those after it.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import zip_longest
from typing import Final, Literal, TypeAlias

from kube2etcd.inspect.readers import Asked, Reader
from kube2etcd.inspect.records import maker, rows
from kube2etcd.kube.store import Unit
from kube2etcd.log import printable
from kube2etcd.sync.plan import Change, Create, Delete, Outcome, Update
from kube2etcd.sync.publisher import Publisher
from kube2etcd.zones.external import ExternalZone
from skydns_compat.layout import RESERVED
from skydns_compat.message import MalformedMessage, decode
from skydns_compat.names import InvalidAddress, Name, address_of, parse_address, version
from skydns_compat.reader import Answer, Rr

Action: TypeAlias = Literal["add", "change", "delete"]
#: The first character of a line.
MARKS: Final[Mapping[Action, str]] = {"add": "+", "change": "~", "delete": "-"}
_ACTIONS: Final[Mapping[type[Change], Action]] = {Create: "add", Update: "change", Delete: "delete"}
#: Type to data to TTL.  A name without records has the type NODATA, one that does not exist has no type.
_Answers: TypeAlias = dict[str, dict[str, int]]

#: Types of records that a name may have from keys below it, as a headless Service from its endpoints' keys.
_SHARED = frozenset({"A", "AAAA", "SRV"})

#: Names between two reports of progress.
STEP = 500
#: Malformed foreign keys that the text lists; there may be thousands.
SHOWN: Final = 10
_COLOURS: Final = {"+": 32, "~": 33, "-": 31, "!": 31, "?": 35}
#: Most columns to which cells are padded, so that one long reverse name does not widen every line.
_CELLS: Final = (48, 8, 40)


@dataclass(frozen=True, slots=True)
class RecordChange:
    """A record that is added, changed or deleted; docs/resync.md describes the JSON."""

    action: Action
    zone: str
    """Empty for a reverse zone, or a zone that is no longer configured."""
    name: str
    """With its final dot."""
    type: str
    """A, AAAA, CNAME, MX, PTR, SRV or TXT; NODATA for a name without data."""
    before: str = ""
    """The data as in a zone file, SRV of Services without weight; or SERVFAIL; empty if added."""
    after: str = ""
    """Empty if deleted."""
    ttl_before: int = 0
    ttl: int = 0
    object: str = ""
    """``kind/namespace/name`` of the object behind it; empty if deleted."""
    note: str = ""
    """``held`` or ``foreign`` for a deletion; else empty."""


@dataclass(frozen=True, slots=True)
class Records:
    """All record changes of a pass."""

    changes: tuple[RecordChange, ...]
    """By name, apex first."""
    silent: int = 0
    """Number of changed keys that change no record."""


def records(
    outcome: Outcome,
    publisher: Publisher,
    reader: Reader,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Records:
    """The records that ``outcome`` changes, as answered by the server model ``reader``."""
    if not outcome.existing and not outcome.refused:
        return Records(tuple(_all(publisher)))
    questions: dict[Name, set[str]] = {}
    about: list[tuple[Name, ...]] = []
    notes: dict[Name, set[str]] = {}
    units: dict[Name, Unit] = {}
    for change in outcome.changes:
        name = publisher.layout.name(change.key)
        about.append(names := () if name is None else _names(name, publisher))
        if name is None:
            continue
        types = {rtype for value in _values(change) for rtype in _types(value, address_of(name) is not None)}
        questions.setdefault(names[0], set()).update(types)
        for one in names[1:] if types & _SHARED else ():
            questions.setdefault(one, set()).update(types & _SHARED)
        if (unit := publisher.desired.holder(change.key)) is not None:
            units[names[0]] = unit
        for one in () if isinstance(change, Create) else names:
            notes.setdefault(one, set()).add(_note(outcome, change.key))
    before, after, keys = reader(outcome.existing), reader(outcome.after), sorted(publisher.desired)
    found: list[RecordChange] = []
    changed: set[Name] = set()
    ordered = sorted(questions, key=lambda one: one.labels[::-1])
    for number, name in enumerate(ordered):
        if number % STEP == 0:
            progress(number, len(ordered))
        zone, types = publisher.zone_of(name), questions[name]
        external, zone_name = isinstance(zone, ExternalZone), "" if zone is None else str(zone.name)
        if not external and name.labels[0].startswith("_"):
            types = {"SRV"}
        old, new = (_answers(asked, name, types, external) for asked in (before, after))
        unit = units.get(name) or (_holder(publisher, keys, name) if new else None)
        made_by = "" if unit is None else str(maker(publisher, unit))
        # A name that several keys affect has a note only if all of them have the same.
        [note, *others] = notes.get(name) or {""}
        for action, rtype, was, now, ttl_was, ttl in _differences(old, new):
            behind = (made_by, "") if now else ("", "" if others else note)
            found.append(RecordChange(action, zone_name, f"{name}.", rtype, was, now, ttl_was, ttl, *behind))
            changed.add(name)
    refused = {key for key, _ in outcome.refused}
    made = (names for change, names in zip(outcome.changes, about, strict=True) if change.key not in refused)
    return Records(tuple(found), sum(map(changed.isdisjoint, made)))


def _holder(publisher: Publisher, keys: Sequence[bytes], name: Name) -> Unit | None:
    """The unit behind a name: the holder of its key or, with SkyDNS, of the first key below it.

    ``keys`` are all desired keys, sorted.
    """
    key = publisher.key(name)
    at = bisect_left(keys, key + b"/")
    below = [one for one in keys[at : at + 1] if one.startswith(key + b"/")]
    return next(filter(None, map(publisher.desired.holder, [key, *below])), None)


def _all(publisher: Publisher) -> Iterator[RecordChange]:
    """The changes to an empty etcd: all published records, without the model, which takes longer."""
    for row in rows(publisher):
        record, zone = row.record, publisher.zone_of(row.record.name)
        zone_name = "" if zone is None else str(zone.name)
        data = (str(record.data), 0, 0 if record.rtype == "NODATA" else record.ttl)
        yield RecordChange("add", zone_name, f"{record.name}.", record.rtype, "", *data, str(row.unit))


def _values(change: Create | Update | Delete) -> Iterator[bytes]:
    if not isinstance(change, Create):
        yield change.before
    if not isinstance(change, Delete):
        yield change.value


@lru_cache(4096)
def _types(value: bytes, reverse: bool) -> tuple[str, ...]:
    """The record types that a value affects; none if it only makes its name exist.

    ``reverse``: its key is that of a reverse name.
    """
    try:
        message = decode(value)
    except MalformedMessage:
        return ("A", "AAAA", "SRV", "TXT")
    found = ["TXT"] if message.text else []
    if message.host and reverse:
        found.append("PTR")
    elif message.host:
        try:
            found.append("A" if version(parse_address(message.host)) == 4 else "AAAA")
        except InvalidAddress:
            found.append("CNAME")
        if message.port > 0:
            found.append("SRV")
    if message.mail:
        found.append("MX")
    return tuple(found)


def _names(name: Name, publisher: Publisher) -> tuple[Name, ...]:
    """The names whose answers a key affects, its own name first."""
    zone = publisher.zone_of(name)
    if zone is not None and name.relative(zone.name) == RESERVED[1]:
        return (zone.name,)
    if isinstance(zone, ExternalZone) or len(name.labels) < 2 or address_of(name) is not None:
        return (name,)
    ports = [at for at, label in enumerate(name.labels) if label.startswith("_")]
    if not ports:
        # Outside our zones no Corefile rule applies: a name is answered from all keys below it.
        return (name,) if zone is None else (name, Name(name.labels[1:]))
    # Endpoints have keys below the name of the port.
    names = (name.labels[ports[0] :], name.labels[ports[-1] + 1 :])
    return tuple(Name(labels) for labels in names if labels)


def _answers(asked: Asked, name: Name, types: set[str], external: bool) -> _Answers:
    found: _Answers = {}
    exists = not types and _given(asked, name, "A").rcode == "NOERROR"
    for rtype in sorted(types):
        given = _given(asked, name, rtype)
        answers = [one for one in given.answers if one.rtype == rtype and one.name.lower() == f"{name}."]
        data = dict(_data(one, external) for one in answers)
        data.pop("", 0)
        if given.rcode == "SERVFAIL":
            data = {given.rcode: 0}
        if data:
            found[rtype] = data
        exists = exists or given.rcode == "NOERROR"
    return found or ({"NODATA": {"-": 0}} if exists else {})


def _given(asked: Asked, name: Name, rtype: str) -> Answer:
    given = asked(name, rtype)
    # SkyDNS returns a CNAME only to address queries.
    return asked(name, "A") if rtype == "CNAME" and not given.answers else given


def _data(record: Rr, external: bool) -> tuple[str, int]:
    """Data as shown by `kube2etcd records`, and TTL.

    SRV of Services is without its weight, which the server computes, and empty for port 0, which SkyDNS
    returns for a name without ports.
    """
    if external or record.rtype != "SRV":
        return record.data, record.ttl
    priority, _, port, target = record.data.split(" ", 3)
    return f"{priority} {port} {target}" if port != "0" else "", record.ttl


def _differences(old: _Answers, new: _Answers) -> Iterator[tuple[Action, str, str, str, int, int]]:
    """Action, type, data before and after, TTL before and after.

    The end of a SERVFAIL is shown with the records that replace it or, if there are none, only once.
    """
    failed = [rtype for rtype, was in old.items() if "SERVFAIL" in was]
    shown = failed[:1] if not new.keys() - {"NODATA"} else []
    for rtype in sorted({*old, *new}):
        if rtype == "NODATA" and old and new:
            continue  # the records of the other side say more
        was, is_now = old.get(rtype, {}), new.get(rtype, {})
        if not is_now and "SERVFAIL" in was and rtype not in shown:
            continue
        for data in sorted(was.keys() & is_now.keys()):
            if was[data] != is_now[data]:
                yield "change", rtype, data, data, was[data], is_now[data]
        gone, came = sorted(was.keys() - is_now.keys()), sorted(is_now.keys() - was.keys())
        for before, after in zip_longest(gone, came, fillvalue=""):
            action: Action = "change" if before and after else "add" if after else "delete"
            yield action, rtype, before, after, was.get(before, 0), is_now.get(after, 0)


def text(
    outcome: Outcome,
    records: Records | None,
    total: int,
    dry: bool = False,
    width: int = 160,
    colour: bool = False,
) -> str:
    """A line per record, or per key if ``records`` is None, and a summary as the last line.

    ``total`` is the number of all records, or of all keys, before and after the pass.  Records are aligned
    if no line becomes longer than ``width`` columns.
    """
    changes = _key_changes(outcome) if records is None else records.changes
    lines = _lines(changes, 0 if records is None else width)
    lines += [f"! {printable(_text(key))}  refused by etcd: {reason}" for key, reason in outcome.refused]
    lines += [
        f"? {printable(_text(key))}  another writer's malformed value, which breaks every name above it"
        for key in sorted(outcome.malformed)[:SHOWN]
    ]
    if colour:
        lines = [f"\x1b[{_COLOURS[line[0]]}m{line}\x1b[0m" for line in lines]
    if records is not None and records.silent:
        lines.append(f"{_keys(records.silent)} changed without changing a record; see --keys")
    if outcome.held:
        lines.append(f"{_keys(len(outcome.held))} held until a second listing agrees (or --force)")
    if outcome.foreign:
        lines.append(f"{_keys(len(outcome.foreign))} of other writers left alone")
    if not outcome.changes:
        return "\n".join([*lines, "nothing differs"])
    actions, held = Counter(one.action for one in changes), sum(one.note == "held" for one in changes)
    added, changed, deleted = (f"{actions[one]:,}" for one in MARKS)
    waiting, what = f" ({held:,} held)" if held else "", "keys" if records is None else "records"
    summary = f"{added} added, {changed} changed, {deleted} deleted{waiting} of {total:,} {what}"
    if dry:
        summary += f"; nothing written; checksum {outcome.checksum}"
    return "\n".join([*lines, summary])


def as_json(outcome: Outcome, records: Records, total: int, dry: bool = False) -> str:
    """A JSON object; docs/resync.md describes its fields."""
    keys, actions = _key_changes(outcome), Counter(one.action for one in records.changes)
    return json.dumps(
        {
            "dry_run": dry,
            "equal": not keys or not (dry or outcome.refused),
            "checksum": outcome.checksum,
            "records": {
                "total": total,
                "added": actions["add"],
                "changed": actions["change"],
                "deleted": actions["delete"],
                "changes": [asdict(one) for one in records.changes],
            },
            "created": {one.name: one.after for one in keys if one.action == "add"},
            "updated": {
                one.name: {"before": one.before, "after": one.after} for one in keys if one.action == "change"
            },
            "deleted": [one.name for one in keys if one.action == "delete"],
            "refused": {_text(key): reason for key, reason in outcome.refused},
            **{
                what: [_text(key) for key in sorted(getattr(outcome, what))]
                for what in ("held", "foreign", "malformed")
            },
        },
        indent=2,
    )


def _key_changes(outcome: Outcome) -> list[RecordChange]:
    """The changed keys in place of names, and values in place of data; a deletion has no value."""
    found = []
    for one in outcome.changes:
        before = _text(one.before) if isinstance(one, Update) else ""
        after = "" if isinstance(one, Delete) else _text(one.value)
        action, note = _ACTIONS[type(one)], _note(outcome, one.key)
        found.append(RecordChange(action, "", _text(one.key), "", before, after, note=note))
    return found


def _note(outcome: Outcome, key: bytes) -> str:
    return "held" if key in outcome.held else "foreign" if key in outcome.pruned else ""


def _lines(changes: Sequence[RecordChange], width: int) -> list[str]:
    cells = [_cells(one) for one in changes]
    *aligned, last = [max(map(len, column)) for column in zip(*cells, strict=True)] or [0] * 4
    widths = [min(*pair) for pair in zip(aligned, _CELLS, strict=True)]
    if sum(widths) + last + 8 > width:
        widths = [0, 0, 0]
    lines = []
    for one, row in zip(changes, cells, strict=True):
        padded = [cell.ljust(most) for cell, most in zip(row, [*widths, 0], strict=True)]
        lines.append(f"{MARKS[one.action]} {'  '.join(filter(None, padded)).rstrip()}")
    return lines


def _cells(one: RecordChange) -> tuple[str, ...]:
    """Name, type, what changes, and the object behind it or the note."""
    data = one.before or one.after
    if one.action == "change":
        same = one.before == one.after
        data = f"{data} (TTL {one.ttl_before} -> {one.ttl})" if same else f"{one.before} -> {one.after}"
    behind = one.object or (f"({one.note})" if one.note else "")
    return tuple(map(printable, (one.name, one.type, data, behind)))


def _keys(number: int) -> str:
    return "1 key" if number == 1 else f"{number:,} keys"


def _text(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")
