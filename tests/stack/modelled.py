"""Compares the reader model with a real CoreDNS on the same keys."""

import ipaddress
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from skydns_compat.corefile import CorefileSettings, blocks, corefile
from skydns_compat.reader import Answer, Entries, Rr
from skydns_compat.reader_served import refused, served_answer
from tests.stack.harness import LOOPBACK, CoreDns, Etcd

UPSTREAM = """
.:{port} {
    bind 127.0.0.1
    template ANY A ext.example {
        answer "ext.example. 60 IN A 192.0.2.7"
    }
    template ANY AAAA ext.example {
        answer "ext.example. 60 IN AAAA 2001:db8::7"
    }
    template ANY ANY ext.example {
        rcode NOERROR
    }
    template ANY ANY {
        rcode NXDOMAIN
    }
}
"""


def upstream(name: str, qtype: str) -> Answer:
    known = {"A": "192.0.2.7", "AAAA": "2001:db8::7"}
    if qtype == "ANY":  # the first template of the name's
        qtype = "A"
    if name != "ext.example.":
        return Answer("NXDOMAIN")
    return Answer("NOERROR", (Rr(name, qtype, 60, known[qtype]),)) if qtype in known else Answer("NOERROR")


class Pair:
    """An etcd and the CoreDNS that reads it."""

    def __init__(self, etcd: Etcd, coredns: CoreDns) -> None:
        self.etcd = etcd
        self.coredns = coredns
        self._held: list[str] = []

    def hold(self, keys: Mapping[str, str]) -> None:
        """Make etcd hold these keys and no others."""
        operations = [f"del {_quoted(key)}" for key in self._held if key not in keys]
        operations += [f"put {_quoted(key)} {_quoted(value)}" for key, value in keys.items()]
        if operations:
            self.etcd.ctl("txn", stdin="\n".join(["", *operations, "", "", ""]))
        self._held = list(keys)

    def ask(self, name: str, qtype: str) -> Answer:
        """The real answer in the model's words; records as they came, none merged."""
        question = dns.message.make_query(name, qtype, use_edns=False)
        reply = dns.query.tcp(question, LOOPBACK, timeout=5, port=self.coredns.port, one_rr_per_rrset=True)
        rcode = dns.rcode.to_text(reply.rcode())
        assert rcode in ("NOERROR", "NXDOMAIN", "SERVFAIL", "REFUSED")
        return Answer(rcode, tuple(map(_record, reply.answer)), tuple(map(_record, reply.additional)))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Modelled:
    """What a server should say that has these keys, these settings, and an upstream or none."""

    keys: Mapping[bytes, bytes]
    settings: CorefileSettings
    with_upstream: bool

    def differences(
        self, etcd: Etcd, binaries: Mapping[str, Path], directory: Path, questions: Iterable[tuple[str, str]]
    ) -> str:
        """Where the real server says something else: a text that names each such question, or nothing."""
        other = CoreDns(directory, binaries, UPSTREAM, name="upstream")
        settings = replace(
            self.settings,
            etcd_servers=(etcd.url,),
            listen=f"{LOOPBACK}:{{port}}",
            upstream=f"{LOOPBACK}:{other.port}" if self.with_upstream else "none",
        )
        entries, rules = Entries(dict(self.keys)), blocks(settings)
        above = upstream if self.with_upstream else refused
        coredns = CoreDns(directory, binaries, corefile(settings))
        lines = []
        with other, coredns:
            pair = Pair(etcd, coredns)
            for name, qtype in questions:
                modelled, real = served_answer(entries, rules, name, qtype, above), pair.ask(name, qtype)
                if unordered(real) != unordered(modelled):
                    lines.append(f"{name} {qtype}\n  server {real}\n  model  {modelled}")
        return "\n".join(lines)


def unordered(answer: Answer) -> tuple[str, list[str], list[str]]:
    """The answer in any order: the server turns the addresses round, so that load is spread."""
    return (
        answer.rcode,
        sorted(str(normal(record)) for record in answer.answers),
        sorted(str(normal(record)) for record in answer.additional),
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


def _quoted(text: str) -> str:
    """As etcdctl's transactions read an argument: a Go string."""
    return json.dumps(text, ensure_ascii=False)
