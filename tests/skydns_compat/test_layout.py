"""What the layout writes is what the reader answers, and keys lead back to names."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from kube2etcd.cluster.objects import EndpointSlice, Namespace, Service
from kube2etcd.sources.cluster import ClusterZone, namespace_records, service_records, zone_records
from skydns_compat.corefile import CorefileSettings, blocks
from skydns_compat.layout import Layout
from skydns_compat.names import Address, Name, parse_address
from skydns_compat.reader import Entries
from skydns_compat.reader_served import served_answer
from skydns_compat.records import Alias, Host, Port, Record
from tests.strategies import LAW, Present, clusters

ZONE = Name.parse("cluster.local")
RULES = blocks(CorefileSettings(ZONE, pods="verified", upstream="none"))
TYPES = ("A", "AAAA", "CNAME", "SRV", "TXT", "PTR")


def promised(cluster: Present, how: ClusterZone) -> tuple[list[list[Record]], list[Record]]:
    """The records of each unit, and the PTR records that nobody contests."""
    units = [zone_records(how)]
    for (kind, namespace, name), one in cluster.items():
        if kind == "services" and isinstance(one, Service):
            pieces = [
                piece
                for piece in cluster.values()
                if isinstance(piece, EndpointSlice)
                and (piece.metadata.namespace, piece.service_name) == (namespace, name)
            ]
            units.append(service_records(one, pieces, how))
        elif isinstance(one, Namespace):
            units.append(namespace_records(one, how))
    pointers: dict[Name, Record] = {}
    for unit in units:
        for record in unit.pointers:
            pointers.setdefault(record.name, record)
    return [unit.records for unit in units], list(pointers.values())


def expected(records: list[Record], qtype: str) -> Counter[str]:
    """The data and TTL of a name's own records of that type; SRV with the weight that all share."""
    if qtype != "SRV":
        return Counter({f"{one.ttl} {one.data}": 1 for one in records if one.rtype == qtype})
    return Counter({f"{one.ttl} {one.data}": 1 for one in records if isinstance(one.data, Port)})


def shares(name: Name, everything: dict[Name, list[Record]]) -> set[str]:
    """The weight that all SRV records of a name have: the share of one entry in a hundred.

    An entry is a port of an address; an address without a port is none of the answers but counts.
    """
    count = sum(entry_count(one.data, everything) for one in everything[name] if isinstance(one.data, Port))
    if not count:
        return set()
    if not name.labels[0].startswith("_"):
        own = {one.data.target for one in everything[name] if isinstance(one.data, Port)}
        near = [name] if name in own else [other for other in everything if other.labels[1:] == name.labels]
        count += sum(portless(other, everything) for other in near)
    return {str(max(1, 100 // count))}


def entry_count(port: Port, everything: dict[Name, list[Record]]) -> int:
    return 1 if port.via else len(addresses(port.target, everything))


def addresses(name: Name, everything: dict[Name, list[Record]]) -> set[Address]:
    return {one.data.address for one in everything[name] if isinstance(one.data, Host)}


def portless(name: Name, everything: dict[Name, list[Record]]) -> int:
    ports = [one.data for one in everything[name] if isinstance(one.data, Port) and one.data.target == name]
    if any(port.via is None for port in ports):
        return 0
    return len(addresses(name, everything) - {port.via for port in ports})


def check(units: list[list[Record]], how: ClusterZone) -> None:
    layout = Layout()
    keys: dict[bytes, bytes] = {}
    everything: dict[Name, list[Record]] = {}
    for records in units:
        made = layout.entries(records, how.zone)
        assert not keys.keys() & made.keys()
        keys.update(made)
        for record in records:
            everything.setdefault(record.name, []).append(record)
    entries = Entries(keys)
    for name, records in everything.items():
        if any(isinstance(record.data, Alias) for record in records):
            continue
        if name.labels.count("any") > 1:
            continue
        for qtype in TYPES:
            if name.labels[0].startswith("_") and qtype in ("A", "AAAA"):
                # No record has these; the server answers with the addresses behind the port.
                continue
            if name.labels[-1] == "arpa" and qtype != "PTR":
                # In reverse zones other types are refused without a look (NXDOMAIN).
                continue
            given_ = served_answer(entries, RULES, name, qtype)
            assert given_.rcode == "NOERROR", (str(name), qtype)
            if qtype == "SRV":
                answers = [one.data.split() for one in given_.answers]
                assert {weight for _, weight, _, _ in answers} == shares(name, everything), str(name)
                found = Counter(
                    f"{one.ttl} {a} {c} {d}"
                    for one, (a, _, c, d) in zip(given_.answers, answers, strict=True)
                )
            else:
                found = Counter(f"{one.ttl} {one.data}" for one in given_.answers)
            assert {one.name for one in given_.answers} <= {f"{name}."}
            assert found == expected(records, qtype), (str(name), qtype)


@LAW
@given(clusters(), st.sampled_from(["headless", "all"]))
def test_reader_answers_exactly_the_records(cluster: Present, endpoint_names: str) -> None:
    how = ClusterZone(
        ZONE, pods="verified", endpoint_names=endpoint_names, dns_server_ips=(parse_address("10.0.0.10"),)
    )
    units, pointers = promised(cluster, how)
    check([*units, *([one] for one in pointers)], how)
