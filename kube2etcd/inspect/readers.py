"""Models of the DNS servers that read the keys: CoreDNS with our Corefile, and classic SkyDNS.

Tests compare both with the real servers.  Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from kube2etcd.inspect.records import Row
from skydns_compat.corefile import Block
from skydns_compat.names import REVERSE, Name
from skydns_compat.reader import WILDCARDS, Answer, Entries, answer
from skydns_compat.reader_served import served_answer
from skydns_compat.records import Alias
from skydns_compat.skydns import CONFIG, NDOTS, skydns_answer

#: First labels of the names above the ports of a Service.
_PROTOCOLS = ("_tcp", "_udp", "_sctp")
#: A server over some keys: (name, type) -> its answer.
Asked: TypeAlias = Callable[[Name, str], Answer]


@dataclass(frozen=True)
class CoreDns:
    """CoreDNS with the server ``blocks`` of its Corefile.

    ``everywhere``: names outside all blocks are answered from the keys alone instead of refused.
    """

    blocks: Sequence[Block]
    prefix: str
    everywhere: bool = False

    def __call__(self, keys: Mapping[bytes, bytes]) -> Asked:
        """CoreDNS over these keys."""
        entries = Entries(keys, self.prefix)

        def asked(name: Name, rtype: str) -> Answer:
            found = served_answer(entries, self.blocks, name, rtype)
            if found.rcode == "REFUSED" and self.everywhere:
                return answer(entries, Name(name.labels[-1:]), name, rtype)
            return found

        return asked

    def settings(self, existing: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
        """The keys in etcd with the server's own settings, whoever wrote them: none, there is a Corefile."""
        return {}

    def reason(self, name: Name, rtype: str, rows: Sequence[Row], answer: Answer) -> str:
        """A reason for ``answer`` that is peculiar to this server, or ""; ``rows`` are the name's records."""
        if any(one.rtype == "HINFO" for one in answer.answers):
            return "ANY has the same answer for every name in the zone (RFC 8482)"
        if rows or answer != Answer("NOERROR"):
            return ""
        above_ports = name.labels[0] in _PROTOCOLS
        if rtype not in ("SOA", "DS") and not above_ports:
            return ""
        which = f"names such as {name.labels[0]}.SERVICE" if above_ports else f"{rtype} below the apex"
        return f"the Corefile answers NODATA for {which}, whether or not the name exists"


@dataclass(frozen=True)
class SkyDns:
    """Classic SkyDNS, serving ``domain``."""

    domain: Name
    prefix: str

    def __call__(self, keys: Mapping[bytes, bytes]) -> Asked:
        """SkyDNS over these keys."""
        return lambda name, rtype: skydns_answer(keys, self.domain, name, rtype, prefix=self.prefix)

    def settings(self, existing: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
        """The keys in etcd with the server's own settings, whoever wrote them."""
        key = f"{self.prefix}/{CONFIG}".encode()
        return {key: existing[key]} if key in existing else {}

    def reason(self, name: Name, rtype: str, rows: Sequence[Row], answer: Answer) -> str:
        """Where SkyDNS differs from CoreDNS (skydns-compat/README.md), or ""."""
        wild = next((label for label in name.labels if label in WILDCARDS), None)
        alias = next((row.record.data for row in rows if isinstance(row.record.data, Alias)), None)
        if rtype == "ANY":
            return "SkyDNS refuses ANY and does not forward it"
        if any(map(name.below, REVERSE)):
            if answer.rcode != "NOERROR":
                return "SkyDNS forwards reverse queries that have no PTR here to its upstream"
            return "" if rtype == "PTR" else "SkyDNS answers with the PTR whatever the type below ip6.arpa"
        if not name.below(self.domain):
            failed = answer.rcode == "SERVFAIL"
            return "SkyDNS forwards names of two or more labels to its upstream" if failed else ""
        if rtype == "SOA" and name == self.domain:
            return f"SkyDNS takes the values of the SOA from {self.prefix}/{CONFIG} in etcd, or its defaults"
        if rtype == "NS" and name != self.domain:
            return "SkyDNS answers NS for every name below the apex, even one that does not exist"
        if wild is not None:
            return f"SkyDNS treats the label {wild} as a wildcard: the answer combines all matching names"
        if rtype == "SRV" and any(f" 0 {name}." in one.data for one in answer.answers):
            return "SkyDNS answers SRV with port 0 for a name without ports"
        if rtype == "CNAME" and alias is not None:
            return "SkyDNS returns a CNAME only to A and AAAA queries"
        if rtype not in ("A", "AAAA"):
            return ""
        if name.labels[0].startswith("_") and answer.answers:
            return "SkyDNS treats an SRV target as an alias; of several it returns one at random"
        if alias is None or (answer.answers and alias.target.below(self.domain)):
            return ""
        if answer.answers:
            return f"SkyDNS resolves {alias} at its upstream, and omits the alias if that fails"
        if len(alias.target.labels) < NDOTS:
            return f"SkyDNS does not forward {alias}, a name of one label"
        return "SkyDNS omits an alias whose target has no address"


Reader: TypeAlias = CoreDns | SkyDns
