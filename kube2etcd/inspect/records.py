"""The published records and the objects behind them, as a table, JSON or a zone file.  Pure."""

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
from skydns_compat.records import NO_PORT, Exists, Host, Port, Record

#: Types of published records; NODATA stands for a name without data.
TYPES = ("A", "AAAA", "CNAME", "MX", "NODATA", "PTR", "SRV", "TXT")

#: Other names of kinds: the singular, and short names as in kubectl.
_KINDS = {one.kind.lower(): name for name, one in KINDS.items()} | {
    "svc": "services",
    "ns": "namespaces",
    "po": "pods",
    "vmi": "virtualmachineinstances",
    "zone": "zones",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A record and the object behind it."""

    record: Record
    unit: Unit


def rows(publisher: Publisher) -> list[Row]:
    """Every published record, by name, apex first."""
    return sorted((row for unit in publisher.units() for row in unit_rows(publisher, unit)), key=_order)


def count(publisher: Publisher) -> int:
    """The number of published records."""
    return sum(1 for unit in publisher.units() for _ in unit_rows(publisher, unit))


def _order(row: Row) -> tuple[tuple[str, ...], str, str, Unit]:
    return row.record.name.labels[::-1], row.record.rtype, str(row.record), row.unit


def unit_rows(publisher: Publisher, unit: Unit) -> Iterator[Row]:
    """The records of a unit, except those that it claims but another unit holds."""
    published, made_by = publisher.published(unit), maker(publisher, unit)
    for record in dict.fromkeys([*published.records, *published.pointers, *published.non_terminals]):
        # A port without a number is not a record: it only takes part in the weights.
        numberless = isinstance(record.data, Port) and record.data.port == NO_PORT
        if not numberless and _holds(publisher, unit, record):
            yield Row(record, made_by)


def _holds(publisher: Publisher, unit: Unit, record: Record) -> bool:
    """Whether ``record`` is among the keys of ``unit``.

    Machines may share a name, and so its marker, yet each has its own keys below it.
    """
    holder = publisher.desired.holder
    if holder(publisher.key(record.name)) in (unit, None):
        return True
    return not isinstance(record.data, Exists) and any(
        holder(key) == unit for key in _keys(publisher, record)
    )


def _keys(publisher: Publisher, record: Record) -> set[bytes]:
    """The keys of a record, its name's marker included; of an SRV record, which has its target's addresses in
    its keys, the marker alone."""
    zone = None if isinstance(record.data, Port) else publisher.zone_of(record.name)
    entries = zone.entries(publisher.layout, [record]) if zone is not None else {}
    return {publisher.key(record.name), *entries}


def maker(publisher: Publisher, unit: Unit) -> Unit:
    """The object behind a unit; for a name in an external domain, the first object that has it."""
    return next(iter(publisher.store.holders(unit.name)), unit) if unit.kind == NAMES else unit


def record_type(text: str) -> str:
    """One of `TYPES`, in capitals; ValueError for anything else."""
    if text.upper() not in TYPES:
        raise ValueError(f"{text!r} is not a record type; write one of {', '.join(TYPES)}")
    return text.upper()


def parse_object(text: str) -> tuple[str, ...]:
    """The parts of ``kind/namespace/name``; ValueError if ``text`` has another form."""
    parts = tuple(text.strip().split("/"))
    if len(parts) not in (2, 3) or not all(parts):
        raise ValueError(f"{text!r} is not an object; write KIND/NAMESPACE/NAME such as service/shop/web")
    return (_KINDS.get(parts[0].lower(), parts[0].lower()), *parts[1:])


def chosen(
    found: Iterable[Row],
    zone: Name | None = None,
    rtype: str | None = None,
    unit: tuple[str, ...] | None = None,
) -> list[Row]:
    """The rows in ``zone``, of type ``rtype``, of the object ``unit``; None means any."""
    return [
        row
        for row in found
        if (zone is None or row.record.name.below(zone))
        and (rtype is None or row.record.rtype == rtype)
        and (unit is None or tuple(part for part in row.unit if part) == unit)
    ]


def table(found: Iterable[Row]) -> str:
    """Aligned columns below a header."""
    lines = [["NAME", "TYPE", "TTL", "DATA", "OBJECT"]]
    for row in found:
        one = row.record
        lines.append([f"{one.name}.", one.rtype, str(one.ttl), str(one.data), str(row.unit)])
    *columns, _ = zip(*lines, strict=True)
    widths = [*(max(map(len, column)) for column in columns), 0]
    padded = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
    return "\n".join(printable("  ".join(line)) for line in padded)


def as_json(found: Iterable[Row]) -> str:
    """A JSON list with one record per line."""
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


def has_name_server(found: Iterable[Row], zone: Name) -> bool:
    """Whether the zone has an NS record: its name server has an address."""
    server = zone.child("ns", "dns")
    return any(row.record.name == server and isinstance(row.record.data, Host) for row in found)


def zone_file(found: Iterable[Row], zone: Name | None = None, ttl: int = 30, serial: int = 0) -> str:
    """Lines of a zone file (RFC 1035 section 5), each with its object in a comment.

    Given ``zone``, it starts with the SOA record, and the NS record with ``ttl`` seconds.
    """
    listed = list(found)
    ports = Counter(row.record.name for row in listed if isinstance(row.record.data, Port))
    lines = []
    if zone is not None:
        data = f"ns.dns.{zone}. hostmaster.{zone}. {serial} 7200 1800 86400 30"
        lines.append(f"{zone}. 30 IN SOA {data}")
        if has_name_server(listed, zone):
            lines.append(f"{zone}. {ttl} IN NS ns.dns.{zone}.")
    for row in listed:
        record = row.record
        if record.rtype == "NODATA":
            lines.append(f"; {record.name}. exists without data ; {row.unit}")
            continue
        data = str(record.data)
        if isinstance(record.data, Port):
            # CoreDNS divides 100 among the records of a name.
            weight = max(1, 100 // ports[record.name])
            data = f"0 {weight} {record.data.port} {record.data.target}."
        lines.append(f"{record.name}. {record.ttl} IN {record.rtype} {data} ; {row.unit}")
    return "\n".join(map(printable, lines))


class RowChanges:
    """The changes of a publisher's records; their cost depends on the change, not on the cluster."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._rows = {unit: self._of(unit) for unit in publisher.units()}
        self._records = Counter(str(row.record) for rows in self._rows.values() for row in rows)
        self._holders = {key: publisher.desired.holder(key) for key in publisher.desired}

    def after(self, touched: Iterable[Unit], keys: Iterable[bytes]) -> list[tuple[str, Row]]:
        """Records added (``+``) and deleted (``-``), by name, by the refresh of the units ``touched``, which
        changed the values of ``keys``."""
        units, publisher = set(touched), self._publisher
        # Another object may hold the name now, or may have held it, with the same value.
        own = {
            key
            for unit in units
            for row in (*self._rows.get(unit, ()), *self._of(unit))
            for key in _keys(publisher, row.record)
        }
        for key in own.union(keys):
            former, holder = self._holders.pop(key, None), publisher.desired.holder(key)
            units.update(filter(None, (former, holder)))
            if holder is not None:
                self._holders[key] = holder
        before = [row for unit in units for row in self._rows.pop(unit, ())]
        self._rows |= {unit: rows for unit in units if (rows := self._of(unit))}
        after = [row for unit in units for row in self._rows.get(unit, ())]
        # Several objects may have the same name without data.
        came = {text: row for row in after if not self._records[text := str(row.record)]}
        self._records.update(str(row.record) for row in after)
        self._records.subtract(str(row.record) for row in before)
        went = {text: row for row in before if not self._records[text := str(row.record)]}
        for text in went:
            del self._records[text]
        changes = [*(("-", row) for row in went.values()), *(("+", row) for row in came.values())]
        return sorted(changes, key=lambda change: (_order(change[1])[0], change[0] == "+", _order(change[1])))

    def _of(self, unit: Unit) -> frozenset[Row]:
        return frozenset(unit_rows(self._publisher, unit))


def change_line(sign: str, row: Row, moment: str, output: str) -> str:
    """One change as a line of text or JSON; ``moment`` is the time when it was seen."""
    if output == "json":
        change = "added" if sign == "+" else "deleted"
        return json.dumps({"time": moment, "change": change, **_item(row)}, ensure_ascii=False)
    record = row.record
    return printable(f"{moment} {sign} {record} ; {row.unit}")
