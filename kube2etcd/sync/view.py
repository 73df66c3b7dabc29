"""What a running bridge knows, as one immutable value: for the status page and ``explain --bridge``.

`take` runs in the loop's thread (`kube2etcd.sync.events.Inbox.ask`) and only copies; whatever costs time is
done by whoever reads the `View`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Final

from kube2etcd.kube.store import Unit
from kube2etcd.sync.reconciler import Reconciler
from skydns_compat.message import MalformedMessage, Message, decode
from skydns_compat.names import InvalidAddress, Name, parse_address

MOST_PROBLEMS: Final = 1000
"""Problems of one sort that a view names; the rest is counted."""

MOST_LEFT_OUT: Final = 200
"""The same for objects with something left out, whose reasons are made anew."""

LONGEST: Final = 500
"""Characters of a text that strangers choose."""

_REVERSE = (".in-addr.arpa", ".ip6.arpa")


@dataclass(frozen=True, slots=True, order=True)
class Row:
    """One record as it is wanted in etcd."""

    order: tuple[str, ...]
    """The labels of the name from the right: the order of a zone file."""
    name: str
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
    """``left out``, ``refused`` (by etcd), ``contested``, ``held`` or ``malformed``."""
    subject: str
    """The object, or the name of the key."""
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
    entries: tuple[tuple[bytes, bytes, Unit | None, str], ...]
    """Key, value, object and state of each wanted key."""
    name_of: Callable[[bytes], Name | None]
    """The name that a key is about."""

    @cached_property
    def rows(self) -> list[Row]:
        """Every record, by name from the apex down."""
        zones = sorted((Name.parse(zone) for zone in self.zones), key=lambda one: -len(one.labels))
        rows: list[Row] = []
        marks: list[Row] = []
        for key, value, unit, state in self.entries:
            name = self.name_of(key)
            if name is None:
                continue
            kind, data, ttl = _record(name, value)
            zone = next((str(one) for one in zones if name.below(one)), "")
            made_by = str(unit) if unit is not None else ""
            row = Row(name.labels[::-1], str(name), kind, data, ttl, zone, made_by, state)
            (marks if kind == "NODATA" else rows).append(row)
        with_data = {row.name for row in rows}
        return sorted({*rows, *(row for row in marks if row.name not in with_data)})

    def found(self, text: str = "", zone: str = "", kind: str = "") -> list[Row]:
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


def take(reconciler: Reconciler) -> View:
    """The view of now; call it in the loop's thread."""
    publisher, target = reconciler.publisher, reconciler.target
    layout, entries, store = publisher.layout, target.mirror.entries, publisher.store
    refused, held = target.refused(), reconciler.held.keys
    contested, malformed = target.foreign.contested, target.foreign.malformed

    def shown(key: bytes) -> str:
        name = layout.name(key)
        return str(name) if name is not None else key.decode(errors="backslashreplace")

    def state(key: bytes, value: bytes) -> str:
        if entries.get(key) == value:
            return ""
        return "contested" if key in contested else "refused" if key in refused else "missing"

    left_out = publisher.left_out_units()
    problems = [
        *(Problem("refused", shown(key), reason) for key, reason in islice(refused.items(), MOST_PROBLEMS)),
        *(
            Problem("contested", shown(key), "another writer holds it by right of its owner id")
            for key in islice(sorted(contested), MOST_PROBLEMS)
        ),
        *(
            Problem("held", shown(key), "to be deleted when a second listing agrees")
            for key in islice(sorted(held), MOST_PROBLEMS)
        ),
        *(
            Problem("malformed", shown(key), "a foreign value that no DNS server can read")
            for key in islice(sorted(malformed), MOST_PROBLEMS)
        ),
        *(
            Problem("left out", str(unit), reason[:LONGEST])
            for unit in islice(sorted(left_out), MOST_LEFT_OUT)
            for reason in dict.fromkeys(publisher.published(unit).left_out)
        ),
    ]
    rejects = [one.kind for one in store.rejects()]
    now = reconciler.parts.clock()
    counts, stale = reconciler.listings.counts, reconciler.listings.stale
    return View(
        taken=time.time(),
        zones=tuple(str(zone.name) for zone in publisher.zones),
        sources=tuple(
            Source(
                kind,
                counts.get(kind, 0),
                store.count(kind),
                rejects.count(kind),
                now - stale[kind] if kind in stale else None,
            )
            for kind in sorted({*counts, *stale, *reconciler.listings.waiting})
        ),
        problems=tuple(problems),
        counts={
            "left out": publisher.left_out(),
            "refused": len(refused),
            "contested": len(contested),
            "held": len(held),
            "malformed": len(malformed),
        },
        leader=target.other_leader,
        trouble=target.trouble,
        entries=tuple(
            (key, value, publisher.holder(key), state(key, value)) for key, value in publisher.desired.items()
        )
        + tuple((key, entries[key], None, "held") for key in held if key in entries),
        name_of=layout.name,
    )


def _record(name: Name, value: bytes) -> tuple[str, str, int]:
    """Type, data and TTL of a value at ``name``."""
    try:
        message = decode(value)
    except MalformedMessage:
        return "NODATA", "", 0
    if not message.host:
        return ("TXT", message.text[:LONGEST], message.ttl) if message.text else ("NODATA", "", message.ttl)
    return _type(name, message), _data(name, message), message.ttl


def _type(name: Name, message: Message) -> str:
    if message.mail:
        return "MX"
    if name.labels[0].startswith("_"):
        return "SRV"
    try:
        return "A" if parse_address(message.host).version == 4 else "AAAA"
    except InvalidAddress:
        return "PTR" if str(name).endswith(_REVERSE) else "CNAME"


def _data(name: Name, message: Message) -> str:
    host = message.host[:LONGEST]
    return f"{message.port} {host}" if name.labels[0].startswith("_") else host
