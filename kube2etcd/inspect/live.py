"""The state of a running bridge, for the status page and ``explain --bridge``.

The loop's thread owns that state.  `EventQueue.ask` puts questions to it between turns: one for a summary,
then one for the records of every few objects, so that none delays it for long.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any, Final, TypeVar

from kube2etcd.inspect.explain import Explainer, Explanation, kept_by, question_name, question_type
from kube2etcd.inspect.readers import Reader
from kube2etcd.inspect.records import unit_rows
from kube2etcd.kube.store import Unit
from kube2etcd.sync.reconciler import Reconciler
from skydns_compat.message import MalformedMessage, Message, decode, owner_of
from skydns_compat.names import InvalidAddress, InvalidName, Name, parse_address
from skydns_compat.records import Alias, Data, Exists, Host, Mail, Pointer, Port, Record, Text

#: Problems of one sort that a view lists; it counts the rest.
MOST_PROBLEMS: Final = 1000
#: The same for objects with records left out, whose reasons are derived again.
MOST_LEFT_OUT: Final = 200
#: Units whose records one question reads: about 10 ms of the loop.
UNITS: Final = 200
#: Groups of keys (mostly one per object) that one question copies: about 10 ms as well.
GROUPS: Final = 500
#: Most characters of a text that others choose.
LONGEST: Final = 500

HELD: Final = "to be deleted once a second listing confirms it"
CONTESTED: Final = "another writer keeps it: its owner ID sorts before ours"
MALFORMED: Final = "a foreign value that no DNS server can read"

_T = TypeVar("_T")
_U = TypeVar("_U")


@dataclass(frozen=True, slots=True, order=True)
class RecordState:
    """A record and whether etcd holds it; docs/status-page.md describes the JSON."""

    name: str
    """With its final dot."""
    type: str
    """A, AAAA, CNAME, MX, PTR, SRV, TXT, or NODATA for a name without data."""
    data: str
    ttl: int
    zone: str
    """Its zone; empty for a reverse zone."""
    object: str
    """``kind/namespace/name`` of the object behind it; ``zones/…`` for the zone itself."""
    state: str
    """Empty if etcd holds it; else ``held``, ``contested``, ``refused`` or ``missing``."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A difference between etcd and what the objects ask for."""

    sort: str
    """``left out``, ``skipped`` (sent by ExternalDNS), ``refused`` (by etcd), ``contested``, ``held`` or
    ``malformed``."""
    subject: str
    """The object, or the name of the key with its final dot."""
    reason: str


@dataclass(frozen=True, slots=True)
class Source:
    """A kind of objects that is listed and watched."""

    kind: str
    listed: int
    """Number of lists so far."""
    objects: int
    rejected: int
    stale: float | None
    """Seconds since its watch was last up to date; None if it is."""


@dataclass(frozen=True)
class View:
    """The state of a bridge at one moment."""

    taken: float
    """Seconds since the epoch."""
    zones: tuple[str, ...]
    sources: tuple[Source, ...]
    problems: tuple[Problem, ...]
    counts: dict[str, int]
    """Number of problems by sort, listed or not."""
    leader: str
    """Why another bridge writes to etcd; empty if this one does."""
    trouble: str
    """Why etcd cannot be read or written; empty if it can."""
    rows: tuple[RecordState, ...] = ()
    """Every record, by name, apex first."""

    def found(self, text: str = "", zone: str = "", kind: str = "") -> list[RecordState]:
        """The records of a zone and type with ``text``, in any case, in their name, data or object."""
        wanted = text.strip().rstrip(".").lower()
        return [
            row
            for row in self.rows
            if (not zone or row.zone == zone)
            and (not kind or row.type == kind)
            and (not wanted or wanted in f"{row.name} {row.data} {row.object}".lower())
        ]


def look(reconciler: Reconciler, timeout: float) -> View:
    """The current view; call it from any thread but the loop's.

    :raises TimeoutError: the loop did not answer within ``timeout`` seconds.
    """
    publisher, mirror = reconciler.publisher, reconciler.target.mirror
    ask = partial(reconciler.parts.queue.ask, timeout=timeout)
    view, units, states = ask(lambda: _summary(reconciler))
    rows: set[RecordState] = set()

    def add(one: Record, made_by: str, state: str) -> None:
        zone = publisher.zone_of(one.name)
        zone_name = "" if zone is None else str(zone.name)
        data = str(one.data)[:LONGEST]
        rows.add(RecordState(f"{one.name}.", one.rtype, data, one.ttl, zone_name, made_by, state))

    for found in _in_parts(ask, lambda unit: list(unit_rows(publisher, unit)), units, UNITS):
        for one in found:
            add(one.record, str(one.unit), states.get(one.record.name, ""))
    held = ask(lambda: {key: mirror.get(key) for key in reconciler.held.keys})
    for key, value in held.items():
        if value is not None and (name := publisher.layout.name(key)) is not None:
            add(record_of(name, value), "", "held")
    return replace(view, rows=tuple(sorted(rows, key=lambda row: (row.name.split(".")[::-1], row))))


def _in_parts(
    ask: Callable[[Callable[[], Any]], Any], read: Callable[[_U], _T], items: Sequence[_U], size: int
) -> Iterator[_T]:
    """What ``read`` returns for each item, with one question to the loop for every ``size`` of them."""
    for start in range(0, len(items), size):
        yield from ask(partial(list, map(read, items[start : start + size])))


def _summary(reconciler: Reconciler) -> tuple[View, list[Unit], dict[Name, str]]:
    """The view without its records, the units with records, and the state of names that differ in etcd."""
    publisher, target = reconciler.publisher, reconciler.target
    layout, store = publisher.layout, publisher.store
    refused = target.refused()

    def shown(key: bytes) -> str:
        name = layout.name(key)
        return f"{name}." if name is not None else key.decode(errors="backslashreplace")

    left_out, skipped = publisher.left_out_units(), list(store.refusals())
    problems = [Problem("skipped", f"{name}.", reason[:LONGEST]) for name, reason in skipped[:MOST_PROBLEMS]]
    of_keys: dict[str, Mapping[bytes, str]] = {
        "refused": refused,
        "contested": dict.fromkeys(sorted(target.contested), CONTESTED),
        "held": dict.fromkeys(sorted(reconciler.held.keys), HELD),
        "malformed": dict.fromkeys(sorted(target.malformed), MALFORMED),
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
    counts, ages = reconciler.listings.counts, {k: now - at for k, at in reconciler.listings.stale.items()}
    view = View(
        taken=time.time(),
        zones=tuple(str(zone.name) for zone in publisher.zones),
        sources=tuple(
            Source(kind, counts.get(kind, 0), store.count(kind), rejects[kind], ages.get(kind))
            for kind in sorted({*counts, *ages, *reconciler.listings.waiting})
        ),
        problems=tuple(problems),
        counts={
            "left out": publisher.left_out_counts.total(),
            "skipped": len(skipped),
            **{sort: len(reasons) for sort, reasons in of_keys.items()},
        },
        leader=target.other_leader,
        trouble=target.trouble,
    )
    states = {
        name: "contested" if key in target.contested else "refused" if key in refused else "missing"
        for key in target.mirror.differing
        if key in publisher.desired and (name := layout.name(key)) is not None
    }
    return view, list(publisher.units()), states


def conditions(reconciler: Reconciler, keys: Iterable[bytes]) -> list[str]:
    """Reasons that only the bridge knows: why ``keys`` differ in etcd, and which of its sources are stale.

    Runs in the loop's thread.
    """
    target, listings, now = reconciler.target, reconciler.listings, reconciler.parts.clock()
    entries, wanted = target.mirror, reconciler.publisher.desired
    refused, held, disputed = target.refused(), reconciler.held.keys, reconciler.disputes.keys
    found: list[str] = []
    for key in keys:
        if key in held:
            found.append(f"deletions are held: {len(held)} keys, including this name's, {HELD}")
        elif key in refused:
            found.append(f"etcd refuses this name's key: {refused[key]}")
        elif key in disputed:
            found.append("another writer with our owner ID keeps undoing our changes to this name")
        elif key in target.foreign:
            continue  # `Explainer` reports these from etcd's keys
        elif key in target.contested:
            found.append(kept_by(owner_of(entries.get(key, b"")), reconciler.publisher.layout.owner))
        elif wanted.get(key) != entries.get(key):
            found.append("a change to this name has not been written yet")
    waiting = sorted(listings.waiting)
    found += [f"{kind} are not listed yet; nothing is published until then" for kind in waiting]
    if listings.stale:
        since = time.time() - (now - min(listings.stale.values()))
        moment = datetime.fromtimestamp(since, UTC).isoformat(timespec="seconds").removesuffix("+00:00")
        kinds = ", ".join(sorted(listings.stale))
        found.append(f"{kinds} have not been watched since {moment}Z; later changes are unknown")
    found += [reason for reason in (target.trouble, target.other_leader) if reason]
    return list(dict.fromkeys(found))


def explain_live(
    reconciler: Reconciler, reader: Reader, name: str, rtype: str, timeout: float
) -> list[Explanation]:
    """A running bridge's explanation of a name and a type (empty: those that the name has).

    Call it from any thread but the loop's, which only copies the keys of a few objects at a time and reads
    some of the objects behind the name.

    :raises ValueError: ``name`` is not a name, or ``rtype`` not a type.
    :raises TimeoutError: the loop did not answer within ``timeout`` seconds.
    """
    asked = question_name(name), question_type(rtype) if rtype else None
    publisher, mirror = reconciler.publisher, reconciler.target.mirror
    ask = partial(reconciler.parts.queue.ask, timeout=timeout)
    desired: dict[bytes, bytes] = {}
    for entries in _in_parts(ask, publisher.desired.within, ask(publisher.desired.groups), GROUPS):
        desired |= entries
    # Copied last: a key that was written in between is as desired in both.
    differing = ask(lambda: dict(mirror.differing))
    existing = {key: value for key, value in (desired | differing).items() if value is not None}
    known = partial(conditions, reconciler)
    return Explainer(publisher, reader, existing, desired, ask=ask, conditions=known).explain(*asked)


def record_of(name: Name, value: bytes) -> Record:
    """The record that ``value`` encodes for ``name``; one without data if it is malformed."""
    try:
        message = decode(value)
        return Record(name, _data(name, message), message.ttl)
    except (MalformedMessage, InvalidName):
        return Record(name, Exists(), 0)


def _data(name: Name, message: Message) -> Data:
    host = message.host
    if host in ("", str(name)):
        return Text(message.text) if message.text else Exists()
    if message.mail:
        return Mail(message.priority, Name.parse(host))
    if name.labels[0].startswith("_"):
        return Port(message.port, Name.parse(host))
    try:
        return Host(parse_address(host))
    except InvalidAddress:
        return (Pointer if name.labels[-1] == "arpa" else Alias)(Name.parse(host))
