"""Questions to a running bridge, for the status page and ``explain --bridge``.

The loop's thread owns the state, so it is asked (`kube2etcd.sync.events.EventQueue.ask`): once for the
summary, then for the records of a few units at a time, so that no question holds the loop up.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Final, TypeVar

from kube2etcd.inspect.explain import CONTESTED, Explainer, Explanation, question_name, question_type
from kube2etcd.inspect.readers import Reader
from kube2etcd.inspect.records import Row, unit_rows
from kube2etcd.kube.store import Unit
from kube2etcd.sync.reconciler import Reconciler
from skydns_compat.message import MalformedMessage, Message, decode
from skydns_compat.names import InvalidAddress, InvalidName, Name, parse_address
from skydns_compat.records import Alias, Data, Exists, Host, Mail, Pointer, Port, Record, Text

MOST_PROBLEMS: Final = 1000
"""Problems of one sort that a view names; the rest is counted."""

MOST_LEFT_OUT: Final = 200
"""The same for objects with something left out, whose reasons are made anew."""

HELD: Final = "to be deleted once a second listing confirms it"
MALFORMED: Final = "a foreign value that no DNS server can read"

UNITS: Final = 200
"""Units whose records are asked for at once: some ten milliseconds of the loop."""

GROUPS: Final = 500
"""Groups of keys (mostly one for an object) that are copied at once: some ten milliseconds, too."""

LONGEST: Final = 500
"""Characters of a text that strangers choose."""


_T = TypeVar("_T")
_U = TypeVar("_U")


@dataclass(frozen=True, slots=True, order=True)
class RecordState:
    """One record as it is wanted in etcd; docs/status-page.md has this as JSON."""

    name: str
    """With its final dot."""
    type: str
    """A, AAAA, CNAME, MX, PTR, SRV, TXT, or NODATA for a name without data."""
    data: str
    ttl: int
    zone: str
    """The zone that it is in; empty for one of the reverse zones."""
    object: str
    """``kind/namespace/name`` of the object that made it; ``zones/…`` for the zone itself."""
    state: str
    """Empty where etcd holds it; else ``held``, ``contested``, ``refused`` or ``missing``."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not in etcd as an object asks for."""

    sort: str
    """``left out``, ``skipped`` (sent by ExternalDNS), ``refused`` (by etcd), ``contested``, ``held`` or
    ``malformed``."""
    subject: str
    """The object, or the name of the key with its final dot."""
    reason: str


@dataclass(frozen=True, slots=True)
class Source:
    """One kind of objects that is listed and watched."""

    kind: str
    listed: int
    """How often it was listed; 0: not yet."""
    objects: int
    rejected: int
    stale: float | None
    """Seconds since it could last be followed; None while it is followed."""


@dataclass(frozen=True)
class View:
    """The state of a bridge at one moment."""

    taken: float
    """Seconds of the epoch."""
    zones: tuple[str, ...]
    sources: tuple[Source, ...]
    problems: tuple[Problem, ...]
    counts: dict[str, int]
    """How many problems of each sort there are, named or not."""
    leader: str
    """Who writes in our place; empty: this bridge writes."""
    trouble: str
    """Why etcd cannot be read or written; empty: it can."""
    rows: tuple[RecordState, ...] = ()
    """Every record, by name from the apex down."""

    def found(self, text: str = "", zone: str = "", kind: str = "") -> list[RecordState]:
        """The records of a zone and type in whose name, data or object ``text`` stands, in any letter
        case."""
        wanted = text.strip().rstrip(".").lower()
        return [
            row
            for row in self.rows
            if (not zone or row.zone == zone)
            and (not kind or row.type == kind)
            and (not wanted or wanted in f"{row.name} {row.data} {row.object}".lower())
        ]


def look(reconciler: Reconciler, timeout: float) -> View:
    """The view of now, from any other thread than the loop's.

    :raises TimeoutError: the loop did not answer within ``timeout`` seconds.
    """
    publisher, mirror = reconciler.publisher, reconciler.target.mirror

    def ask(question: Callable[[], _T]) -> _T:
        return reconciler.parts.queue.ask(question, timeout)

    def rows_of(units: Sequence[Unit]) -> list[Row]:
        return [row for unit in units for row in unit_rows(publisher, unit)]

    view, units, states = ask(lambda: _summary(reconciler))
    zones = sorted((Name.parse(zone) for zone in view.zones), key=lambda one: -len(one.labels))
    rows: set[RecordState] = set()

    def add(one: Record, made_by: str, state: str) -> None:
        name, data = one.name, str(one.data)[:LONGEST]
        zone = next((str(zone) for zone in zones if name.below(zone)), "")
        rows.add(RecordState(f"{name}.", one.rtype, data, one.ttl, zone, made_by, state))

    for one in _in_parts(ask, rows_of, units, UNITS):
        add(one.record, str(one.unit), states.get(one.record.name, ""))
    held = ask(lambda: {key: mirror.get(key) for key in reconciler.held.keys})
    for key, value in held.items():
        if value is not None and (name := publisher.layout.name(key)) is not None:
            add(record_of(name, value), "", "held")
    return replace(view, rows=tuple(sorted(rows, key=lambda row: (row.name.split(".")[::-1], row))))


def _in_parts(
    ask: Callable[[Callable[[], list[_T]]], list[_T]],
    read: Callable[[Sequence[_U]], list[_T]],
    items: Sequence[_U],
    size: int,
) -> Iterator[_T]:
    """What ``read`` makes of ``items``; the loop is asked for ``size`` at a time."""
    for start in range(0, len(items), size):
        yield from ask(partial(read, items[start : start + size]))


def _summary(reconciler: Reconciler) -> tuple[View, list[Unit], dict[Name, str]]:
    """The view without records, the units that have some, and the state of names that etcd has not as
    wanted."""
    publisher, target = reconciler.publisher, reconciler.target
    layout, store = publisher.layout, publisher.store
    refused, held = target.refused(), reconciler.held.keys
    contested, malformed = target.contested, target.malformed

    def shown(key: bytes) -> str:
        name = layout.name(key)
        return f"{name}." if name is not None else key.decode(errors="backslashreplace")

    def state(key: bytes) -> str:
        return "contested" if key in contested else "refused" if key in refused else "missing"

    left_out, skipped = publisher.left_out_units(), list(store.refusals())
    problems = [Problem("skipped", f"{name}.", reason[:LONGEST]) for name, reason in skipped[:MOST_PROBLEMS]]
    of_keys: dict[str, Mapping[bytes, str]] = {
        "refused": refused,
        "contested": dict.fromkeys(sorted(contested), CONTESTED),
        "held": dict.fromkeys(sorted(held), HELD),
        "malformed": dict.fromkeys(sorted(malformed), MALFORMED),
    }
    problems += [
        Problem(sort, shown(key), reason)
        for sort, reasons in of_keys.items()
        for key, reason in islice(reasons.items(), MOST_PROBLEMS)
    ]
    problems += [
        Problem("left out", str(unit), reason[:LONGEST])
        for unit in islice(sorted(left_out), MOST_LEFT_OUT)
        for reason in dict.fromkeys(publisher.published(unit).left_out)
    ]
    rejects = Counter(one.kind for one in store.rejects())
    now = reconciler.parts.clock()
    counts, stale = reconciler.listings.counts, reconciler.listings.stale
    view = View(
        taken=time.time(),
        zones=tuple(str(zone.name) for zone in publisher.zones),
        sources=tuple(
            Source(
                kind,
                counts.get(kind, 0),
                store.count(kind),
                rejects[kind],
                now - stale[kind] if kind in stale else None,
            )
            for kind in sorted({*counts, *stale, *reconciler.listings.waiting})
        ),
        problems=tuple(problems),
        counts={
            "left out": publisher.refusals.total(),
            "skipped": len(skipped),
            **{sort: len(reasons) for sort, reasons in of_keys.items()},
        },
        leader=target.other_leader,
        trouble=target.trouble,
    )
    unlike = (key for key in target.mirror.unlike if key in publisher.desired)
    states = {name: state(key) for key in unlike if (name := layout.name(key)) is not None}
    return view, list(publisher.units()), states


def conditions(reconciler: Reconciler, keys: Iterable[bytes]) -> list[str]:
    """What only the bridge knows about ``keys``: why etcd has them not as wanted, and what is out of date.

    To be run in the loop's thread.
    """
    target, listings, now = reconciler.target, reconciler.listings, reconciler.parts.clock()
    entries, wanted = target.mirror, reconciler.publisher.desired
    refused, held, disputed = target.refused(), reconciler.held.keys, reconciler.disputes.keys
    found = []
    for key in keys:
        if key in held:
            found.append(f"a plan is held: {len(held)} keys, this name's among them, {HELD}")
        elif key in refused:
            found.append(f"etcd refuses to write the name: {refused[key]}")
        elif key in disputed:
            found.append("another writer with our owner ID keeps undoing our changes to this name")
        elif key in target.foreign or key in target.contested:
            continue  # `Explainer` names these, by etcd's keys
        elif wanted.get(key) != entries.get(key):
            found.append("a change to this name is not written yet")
    found += [
        f"{kind} are not listed yet; nothing is published until then" for kind in sorted(listings.waiting)
    ]
    if listings.stale:
        since = time.time() - (now - min(listings.stale.values()))
        moment = datetime.fromtimestamp(since, UTC).isoformat(timespec="seconds").removesuffix("+00:00")
        kinds = ", ".join(sorted(listings.stale))
        found.append(f"{kinds} have not been watched since {moment}Z; later changes are unknown")
    if target.trouble:
        found.append(f"etcd is in trouble: {target.trouble}")
    if target.other_leader:
        found.append(f"this bridge stands by: {target.other_leader}")
    return list(dict.fromkeys(found))


class _Live(Explainer):
    """Asks the loop, which owns the publisher."""

    live = True

    def __init__(self, reconciler: Reconciler, reader: Reader, timeout: float) -> None:
        self._reconciler, self._timeout = reconciler, timeout
        wanted, mirror = reconciler.publisher.desired, reconciler.target.mirror
        groups, desired = self._ask(wanted.groups), dict[bytes, bytes]()
        for entries in _in_parts(self._ask, lambda some: [*map(wanted.within, some)], groups, GROUPS):
            desired |= entries
        # Last: a key that was written meanwhile is as desired in both copies.
        unlike = self._ask(lambda: dict(mirror.unlike))
        existing = {key: value for key, value in (desired | unlike).items() if value is not None}
        super().__init__(reconciler.publisher, reader, existing, desired)

    def _ask(self, question: Callable[[], _T]) -> _T:
        return self._reconciler.parts.queue.ask(question, self._timeout)

    def _conditions(self, keys: Sequence[bytes]) -> list[str]:
        more = self._ask(partial(conditions, self._reconciler, keys))
        return super()._conditions(keys) + more


def explain_live(
    reconciler: Reconciler, reader: Reader, name: str, rtype: str, timeout: float
) -> list[Explanation]:
    """What a running bridge says of a name and a type (empty: those that it has), from any other thread.

    The loop only copies its keys, a few objects' at a time, and looks at some of the objects behind the name.

    :raises ValueError: that is no name, or no type.
    :raises TimeoutError: the loop did not answer within ``timeout`` seconds.
    """
    asked = question_name(name), question_type(rtype) if rtype else None
    return _Live(reconciler, reader, timeout).explain(*asked)


def record_of(name: Name, value: bytes) -> Record:
    """The record that a value at ``name`` stands for; one without data where it stands for none."""
    try:
        message = decode(value)
        return Record(name, _data(name, message), message.ttl)
    except (MalformedMessage, InvalidName):
        return Record(name, Exists(), 0)


def _data(name: Name, message: Message) -> Data:
    if message.host in ("", str(name)):
        return Text(message.text) if message.text else Exists()
    if not (message.mail or name.labels[0].startswith("_")):
        with suppress(InvalidAddress):
            return Host(parse_address(message.host))
    target = Name.parse(message.host)
    if message.mail:
        return Mail(message.priority, target)
    if name.labels[0].startswith("_"):
        return Port(message.port, target)
    return Pointer(target) if name.labels[-1] == "arpa" else Alias(target)
