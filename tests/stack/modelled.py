"""Compares the reader model with a real CoreDNS on the same keys."""

import ipaddress
from collections.abc import Iterable, Mapping
from pathlib import Path

import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from msgspec.structs import replace

from skydns_compat.corefile import CorefileSettings, blocks, corefile
from skydns_compat.names import Name
from skydns_compat.reader import Answer, Entries, Rr, answer
from skydns_compat.reader_served import refused, served_answer
from tests.stack.coredns import outside
from tests.stack.harness import LOOPBACK, Binaries, CoreDns


def upstream(name: str, qtype: str) -> Answer:
    known = {"A": "192.0.2.80", "AAAA": "2001:db8::80"}
    if qtype == "ANY":  # the first template of the name's
        qtype = "A"
    if name != "ext.example.":
        return Answer("NXDOMAIN")
    return Answer("NOERROR", (Rr(name, qtype, 60, known[qtype]),)) if qtype in known else Answer("NOERROR")


def ask(coredns: CoreDns, name: str, qtype: str) -> Answer:
    """The real answer in the model's words; records as they came, none merged."""
    question = dns.message.make_query(name, qtype, use_edns=False)
    reply = dns.query.tcp(question, LOOPBACK, timeout=5, port=coredns.port, one_rr_per_rrset=True)
    rcode = dns.rcode.to_text(reply.rcode())
    assert rcode in ("NOERROR", "NXDOMAIN", "SERVFAIL", "REFUSED")
    return Answer(rcode, tuple(map(_record, reply.answer)), tuple(map(_record, reply.additional)))  # type: ignore[arg-type]


def _entries(keys: Mapping[str, str]) -> Entries:
    return Entries({key.encode(): value.encode() for key, value in keys.items()})


def plain_answer(keys: Mapping[str, str], zone: Name, name: str, qtype: str) -> Answer:
    """What the model says of the etcd plugin alone, with its texts written as dnspython writes them."""
    modelled = answer(_entries(keys), zone, name, qtype)
    return Answer(
        modelled.rcode, tuple(map(normal, modelled.answers)), tuple(map(normal, modelled.additional))
    )


def differences(
    binaries: Binaries,
    directory: Path,
    keys: Mapping[str, str],
    settings: CorefileSettings,
    with_upstream: bool,
    questions: Iterable[tuple[str, str]],
) -> str:
    """Where a server of these settings, whose etcd has these keys, answers otherwise than the model.

    A text that names each such question, or nothing.
    """
    other = CoreDns(directory, binaries, outside("ext.example"), name="upstream")
    behind = f"{LOOPBACK}:{other.port}" if with_upstream else "none"
    settings = replace(settings, listen=f"{LOOPBACK}:{{port}}", upstream=behind)
    entries, rules = _entries(keys), blocks(settings)
    above = upstream if with_upstream else refused
    lines = []
    with other, CoreDns(directory, binaries, corefile(settings)) as coredns:
        for name, qtype in questions:
            modelled, real = served_answer(entries, rules, name, qtype, above), ask(coredns, name, qtype)
            if unordered(real) != unordered(modelled):
                lines.append(f"{name} {qtype}\n  server {real}\n  model  {modelled}")
    return "\n".join(lines)


def unordered(given: Answer) -> tuple[str, list[str], list[str]]:
    """The answer in any order: the server turns the addresses round, so that load is spread."""
    return (
        given.rcode,
        sorted(str(normal(record)) for record in given.answers),
        sorted(str(normal(record)) for record in given.additional),
    )


def normal(record: Rr) -> Rr:
    """The record with its texts written as dnspython writes them."""
    data = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.from_text(record.rtype), record.data)
    return Rr(dns.name.from_text(record.name).to_text(), record.rtype, record.ttl, _data(data))


def _record(rrset: dns.rrset.RRset) -> Rr:
    return Rr(rrset.name.to_text(), dns.rdatatype.to_text(rrset.rdtype), rrset.ttl, _data(rrset[0]))


def _data(data: dns.rdata.Rdata) -> str:
    text = data.to_text()
    if data.rdtype == dns.rdatatype.AAAA:
        return str(ipaddress.ip_address(text))
    if data.rdtype == dns.rdatatype.SOA:  # the serial is the server's clock
        words = text.split()
        return " ".join([*words[:2], "0", *words[3:]])
    return text
