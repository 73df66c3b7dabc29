"""The view of a bridge with many records and hostile tenants."""

from __future__ import annotations

import time

from kube2etcd.inspect.live import Problem, RecordState, Source, View, record_of
from kube2etcd.kube.store import Unit
from skydns_compat.names import Name

HOSTILE = "<img src=x onerror=alert(1)>\"'{{7*7}}</script>"


def view(records: int = 20, hostile: bool = True) -> View:
    """``records`` A records in the cluster's zone, and one record of each other type."""
    rows: list[RecordState] = []

    def add(name: str, value: str, unit: Unit | None, state: str = "") -> None:
        record = record_of(Name.parse(name), value.encode())
        zone = next((zone for zone in ("cluster.local", "example.com") if name.endswith(zone)), "")
        made_by, data = "" if unit is None else str(unit), str(record.data)
        rows.append(RecordState(f"{name}.", record.rtype, data, record.ttl, zone, made_by, state))

    for number in range(records):
        unit = Unit("services", f"team-{number % 7}", f"web-{number:05}")
        value = f'{{"host":"10.{number >> 16}.{number >> 8 & 255}.{number & 255}","ttl":30}}'
        add(f"{unit.name}.{unit.namespace}.svc.cluster.local", value, unit, "held" if number == 3 else "")
    zone = Unit("zones", "", "cluster.local")
    add("svc.cluster.local", "{}", zone)
    add("v6.shop.svc.cluster.local", '{"host":"fd00::1","ttl":5}', None, "missing")
    add("_http._tcp.v6.shop.svc.cluster.local", '{"host":"v6.shop.svc.cluster.local","port":80}', None)
    add("ext.shop.svc.cluster.local", '{"host":"db.example.org"}', None)
    add("1.0.0.10.in-addr.arpa", '{"host":"web-00001.team-1.svc.cluster.local"}', None)
    add("mail.example.com", '{"host":"mx.example.org","mail":true}', None, "contested")
    add("broken.example.com", "{", None)
    if hostile:
        quoted = HOSTILE.replace('"', '\\"')
        add("txt.example.com", f'{{"text":"{quoted}"}}', Unit("dnsendpoints", "shop", HOSTILE))
    return View(
        taken=time.time(),
        zones=("cluster.local", "example.com"),
        sources=(
            Source("endpointslices", 2, 40, 0, None),
            Source("namespaces", 0, 0, 0, None),
            Source("services", 3, records, 1, 12.4),
        ),
        problems=(
            Problem("refused", "v6.shop.svc.cluster.local.", "permission denied"),
            Problem("left out", f"virtualmachineinstances/shop/{HOSTILE}", f"the address {HOSTILE} is none"),
        ),
        counts={"left out": 1, "skipped": 0, "refused": 1, "contested": 1, "held": 1, "malformed": 0},
        leader="",
        trouble="",
        rows=tuple(sorted(rows, key=lambda row: row.name.split(".")[::-1])),
    )
