"""Models of the DNS servers that read the keys: CoreDNS with our Corefile, and classic SkyDNS.

Tests compare both with the real servers.  Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeAlias

import msgspec

from kube2etcd.inspect.records import Row
from skydns_compat.corefile import Block
from skydns_compat.names import REVERSE, Name
from skydns_compat.reader import WILDCARDS, Answer, Entries, answer
from skydns_compat.reader_served import served_answer
from skydns_compat.records import Alias
from skydns_compat.skydns import CONFIG, NDOTS, skydns_answer

#: A server over some keys: (name, type) -> its answer.
Asked: TypeAlias = Callable[[Name, str], Answer]


class Reader(Protocol):
    """The model of a DNS server."""

    def __call__(self, keys: Mapping[bytes, bytes], /) -> Asked:
        """The server over these keys."""
        ...

    def settings(self, existing: Mapping[bytes, bytes], /) -> Mapping[bytes, bytes]:
        """The keys in etcd with the server's own settings, whoever wrote them."""
        ...

    def reasons(self, name: Name, rtype: str, rows: Sequence[Row], answer: Answer, /) -> Iterator[str]:
        """Reasons for ``answer`` that are peculiar to this server; ``rows`` are the records at the name."""
        ...


class CoreDns(msgspec.Struct, frozen=True):
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
        """None; they are in the Corefile."""
        return {}

    def reasons(self, name: Name, rtype: str, rows: Sequence[Row], answer: Answer) -> Iterator[str]:
        """The answer to ANY, which it makes up."""
        if any(one.rtype == "HINFO" for one in answer.answers):
            yield "ANY has the same answer for every name in the zone (RFC 8482)"


class SkyDns(msgspec.Struct, frozen=True):
    """Classic SkyDNS, serving ``domain``."""

    domain: Name
    prefix: str

    def __call__(self, keys: Mapping[bytes, bytes]) -> Asked:
        """SkyDNS over these keys."""
        return lambda name, rtype: skydns_answer(keys, self.domain, name, rtype, prefix=self.prefix)

    def settings(self, existing: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
        """SkyDNS's settings, if they are in etcd."""
        key = f"{self.prefix}/{CONFIG}".encode()
        return {key: existing[key]} if key in existing else {}

    def reasons(self, name: Name, rtype: str, rows: Sequence[Row], answer: Answer) -> Iterator[str]:
        """Where SkyDNS differs from CoreDNS (skydns-compat/README.md)."""
        wild = next((label for label in name.labels if label in WILDCARDS), None)
        if rtype == "ANY":
            yield "SkyDNS refuses ANY and does not forward it"
        elif any(map(name.below, REVERSE)):
            if answer.rcode != "NOERROR":
                yield "SkyDNS forwards reverse queries that have no PTR here to its upstream"
            elif rtype != "PTR":
                yield "SkyDNS answers with the PTR whatever the type below ip6.arpa"
        elif not name.below(self.domain):
            if answer.rcode == "SERVFAIL":
                yield "SkyDNS forwards names of two or more labels to its upstream"
        elif rtype == "SOA" and name == self.domain:
            yield f"SkyDNS takes the values of the SOA from {self.prefix}/{CONFIG} in etcd, or its defaults"
        elif rtype == "NS" and name != self.domain:
            yield "SkyDNS answers NS for every name below the apex, even one that does not exist"
        elif wild is not None:
            yield f"SkyDNS treats the label {wild} as a wildcard: the answer combines all matching names"
        elif rtype == "SRV" and any(f" 0 {name}." in one.data for one in answer.answers):
            yield "SkyDNS answers SRV with port 0 for a name without ports"
        elif rtype == "CNAME" and any(isinstance(row.record.data, Alias) for row in rows):
            yield "SkyDNS returns a CNAME only to A and AAAA queries"
        elif rtype in ("A", "AAAA"):
            yield from self._about_addresses(name, rows, answer)

    def _about_addresses(self, name: Name, rows: Sequence[Row], answer: Answer) -> Iterator[str]:
        alias = next((row.record.data for row in rows if isinstance(row.record.data, Alias)), None)
        if name.labels[0].startswith("_") and answer.answers:
            yield "SkyDNS treats an SRV target as an alias; of several it returns one at random"
        elif alias is None:
            return
        elif answer.answers:
            if not alias.target.below(self.domain):
                yield f"SkyDNS resolves {alias} at its upstream, and omits the alias if that fails"
        elif len(alias.target.labels) < NDOTS:
            yield f"SkyDNS does not forward {alias}, a name of one label"
        else:
            yield "SkyDNS omits an alias that leads to no address"
