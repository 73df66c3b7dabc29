"""What is published, record by record, with the object that made it: as table, JSON, zone file.  Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kube2etcd.kube.objects import KINDS
from kube2etcd.kube.store import NAMES, Unit
from kube2etcd.log import printable
from kube2etcd.sync.publisher import Publisher
from skydns_compat.names import Name
from skydns_compat.records import NO_PORT, Host, Port, Record

#: Types of published records; NODATA is a name without data.
TYPES = ("A", "AAAA", "CNAME", "MX", "NODATA", "PTR", "SRV", "TXT")

#: Other names of a kind: singular, and short as for kubectl.
_KINDS = {one.kind.lower(): name for name, one in KINDS.items()} | {
    "svc": "services",
    "ns": "namespaces",
    "po": "pods",
    "vmi": "virtualmachineinstances",
    "zone": "zones",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A record and the object that made it."""

    record: Record
    unit: Unit


def rows(publisher: Publisher) -> list[Row]:
    """Every record that is published, by name, from the zone's apex down."""
    return sorted((row for unit in publisher.units() for row in unit_rows(publisher, unit)), key=_order)


def count(publisher: Publisher) -> int:
    """How many records are published."""
    return sum(1 for unit in publisher.units() for _ in unit_rows(publisher, unit))


def _order(row: Row) -> tuple[tuple[str, ...], str, str, Unit]:
    return row.record.name.labels[::-1], row.record.rtype, str(row.record), row.unit


def unit_rows(publisher: Publisher, unit: Unit) -> Iterator[Row]:
    """The records of one unit, less those that another unit holds."""
    published, made_by = publisher.published(unit), maker(publisher, unit)
    for record in dict.fromkeys([*published.records, *published.pointers, *published.non_terminals]):
        # A port without a number is no record, it only has a share of the weights.
        numberless = isinstance(record.data, Port) and record.data.port == NO_PORT
        if not numberless and publisher.desired.holder(publisher.key(record.name)) in (unit, None):
            yield Row(record, made_by)


def maker(publisher: Publisher, unit: Unit) -> Unit:
    """The object behind a unit; the first of those that hold a name."""
    return next(iter(publisher.store.holders(unit.name)), unit) if unit.kind == NAMES else unit


def record_type(text: str) -> str:
    """One of `TYPES`; ``ValueError`` names them."""
    if text.upper() not in TYPES:
        raise ValueError(f"{text!r} is not a record type; write one of {', '.join(TYPES)}")
    return text.upper()


def parse_object(text: str) -> tuple[str, ...]:
    """The parts of the unit ``kind/namespace/name``; ``ValueError`` says what to write instead."""
    parts = tuple(text.strip().split("/"))
    if len(parts) not in (2, 3) or not all(parts):
        raise ValueError(f"{text!r} is no object; write KIND/NAMESPACE/NAME such as service/shop/web")
    return (_KINDS.get(parts[0].lower(), parts[0].lower()), *parts[1:])


def chosen(
    found: Iterable[Row],
    zone: Name | None = None,
    rtype: str | None = None,
    unit: tuple[str, ...] | None = None,
) -> list[Row]:
    """The rows below ``zone``, of type ``rtype``, made by ``unit``; ``None`` is any."""
    return [
        row
        for row in found
        if (zone is None or row.record.name.below(zone))
        and (rtype is None or row.record.rtype == rtype)
        and (unit is None or tuple(part for part in row.unit if part) == unit)
    ]


def table(found: Iterable[Row]) -> str:
    """Aligned columns with a header."""
    lines = [["NAME", "TYPE", "TTL", "DATA", "OBJECT"]]
    for row in found:
        one = row.record
        lines.append([f"{one.name}.", one.rtype, str(one.ttl), str(one.data), str(row.unit)])
    *columns, _ = zip(*lines, strict=True)
    widths = [*(max(map(len, column)) for column in columns), 0]
    padded = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
    return "\n".join(printable("  ".join(line)) for line in padded)


def as_json(found: Iterable[Row]) -> str:
    """A JSON list, one record a line."""
    items = [json.dumps(_item(row), ensure_ascii=False) for row in found]
    return "[\n" + ",\n".join(f"  {item}" for item in items) + "\n]" if items else "[]"


def _item(row: Row) -> dict[str, object]:
    return {
        "name": f"{row.record.name}.",
        "type": row.record.rtype,
        "ttl": row.record.ttl,
        "data": str(row.record.data),
        "object": row.unit._asdict(),
    }


def name_server(found: Iterable[Row], zone: Name) -> Name | None:
    """The target of the zone's NS record; None where it has none, for want of an address."""
    server = zone.child("ns", "dns")
    named = any(row.record.name == server and isinstance(row.record.data, Host) for row in found)
    return server if named else None


def zone_file(found: Iterable[Row], zone: Name | None = None, ttl: int = 30, serial: int = 0) -> str:
    """Lines of a zone file (RFC 1035 section 5), each with its object as a comment.

    With the SOA and NS records of ``zone``, ``ttl`` seconds, that make it a whole zone.
    """
    listed = list(found)
    server = None if zone is None else name_server(listed, zone)
    ports = Counter(row.record.name for row in listed if isinstance(row.record.data, Port))
    lines = []
    if zone is not None:
        data = f"ns.dns.{zone}. hostmaster.{zone}. {serial} 7200 1800 86400 30"
        lines.append(f"{zone}. 30 IN SOA {data}")
    if server is not None:
        lines.append(f"{zone}. {ttl} IN NS {server}.")
    for row in listed:
        record = row.record
        if record.rtype == "NODATA":
            lines.append(f"; {record.name}. exists without data ; {row.unit}")
            continue
        data = str(record.data)
        if isinstance(record.data, Port):
            # The server shares a hundred among the records of a name.
            weight = max(1, 100 // ports[record.name])
            data = f"0 {weight} {record.data.port} {record.data.target}."
        lines.append(f"{record.name}. {record.ttl} IN {record.rtype} {data} ; {row.unit}")
    return "\n".join(map(printable, lines))


class Changes:
    """The records of a publisher over time; what a change costs follows the change."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._rows = {unit: self._of(unit) for unit in publisher.units()}
        self._records = Counter(str(row.record) for rows in self._rows.values() for row in rows)
        self._holders = {key: publisher.desired.holder(key) for key in publisher.desired}

    def after(self, touched: Iterable[Unit], keys: Iterable[bytes]) -> list[tuple[str, Row]]:
        """What came (``+``) and went (``-``), by name, since ``touched`` units were refreshed and the value
        of ``keys`` changed."""
        units, publisher = set(touched), self._publisher
        # Another object may have the name now, or may have had it, with the same value.
        own = {
            publisher.key(row.record.name)
            for unit in units
            for row in (*self._rows.get(unit, ()), *self._of(unit))
        }
        for key in own.union(keys):
            units |= {
                one
                for one in (self._holders.pop(key, None), publisher.desired.holder(key))
                if one is not None
            }
            if (holder := publisher.desired.holder(key)) is not None:
                self._holders[key] = holder
        before = [row for unit in units for row in self._rows.pop(unit, ())]
        found = {unit: rows for unit in units if (rows := self._of(unit))}
        self._rows |= found
        after = [row for rows in found.values() for row in rows]
        # A name without data may be of several objects.
        counts = Counter(str(row.record) for row in after)
        counts.subtract(str(row.record) for row in before)
        known = {text: self._records[text] for text in counts}
        self._records.update(counts)
        went = {text: row for row in before if not self._records[text := str(row.record)]}
        came = {text: row for row in after if not known[text := str(row.record)]}
        for text in went:
            del self._records[text]
        changes = [*(("-", row) for row in went.values()), *(("+", row) for row in came.values())]
        return sorted(changes, key=lambda change: (_order(change[1])[0], change[0] == "+", _order(change[1])))

    def _of(self, unit: Unit) -> frozenset[Row]:
        return frozenset(unit_rows(self._publisher, unit))


def change_line(sign: str, row: Row, moment: str, output: str) -> str:
    """One line of `Changes`, as text or JSON; ``moment`` is when it was seen."""
    if output == "json":
        change = "added" if sign == "+" else "deleted"
        return json.dumps({"time": moment, "change": change, **_item(row)}, ensure_ascii=False)
    record = row.record
    return printable(f"{moment} {sign} {record} ; {row.unit}")
