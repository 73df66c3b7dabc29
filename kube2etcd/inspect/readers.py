"""What the DNS servers answer from keys: CoreDNS by its Corefile's blocks, classic SkyDNS by its own rules.

Tests hold both equal to the real servers.  Pure.
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

#: A server that is asked: (name, type) -> its answer.
Asked: TypeAlias = Callable[[Name, str], Answer]


class Reader(Protocol):
    """A DNS server as the reader of keys."""

    def __call__(self, keys: Mapping[bytes, bytes], /) -> Asked:
        """The server over these keys."""
        ...

    def settings(self, existing: Mapping[bytes, bytes], /) -> Mapping[bytes, bytes]:
        """The keys of etcd that are the server's own settings, whoever wrote them."""
        ...

    def reasons(self, name: Name, rtype: str, rows: Sequence[Row], answer: Answer, /) -> Iterator[str]:
        """What is the server's own about its answer; ``rows`` are the records at the name."""
        ...


class CoreDns(msgspec.Struct, frozen=True):
    """CoreDNS with the server ``blocks`` of its Corefile.

    ``everywhere``: a name that no block serves is answered as without rules, instead of refused.
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
        """None: they are in the Corefile."""
        return {}

    def reasons(self, name: Name, rtype: str, rows: Sequence[Row], answer: Answer) -> Iterator[str]:
        """What it makes up."""
        if any(one.rtype == "HINFO" for one in answer.answers):
            yield "ANY has this one answer for every name of the zone (RFC 8482)"


class SkyDns(msgspec.Struct, frozen=True):
    """Classic SkyDNS for ``domain``."""

    domain: Name
    prefix: str

    def __call__(self, keys: Mapping[bytes, bytes]) -> Asked:
        """SkyDNS over these keys."""
        return lambda name, rtype: skydns_answer(keys, self.domain, name, rtype, prefix=self.prefix)

    def settings(self, existing: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
        """SkyDNS's settings, where they are in etcd."""
        key = f"{self.prefix}/{CONFIG}".encode()
        return {key: existing[key]} if key in existing else {}

    def reasons(self, name: Name, rtype: str, rows: Sequence[Row], answer: Answer) -> Iterator[str]:
        """Where SkyDNS differs from CoreDNS (skydns-compat/README.md)."""
        wild = next((label for label in name.labels if label in WILDCARDS), None)
        if rtype == "ANY":
            yield "SkyDNS refuses ANY, and asks no upstream"
        elif any(map(name.below, REVERSE)):
            if answer.rcode != "NOERROR":
                yield "SkyDNS asks its upstream for every reverse name and type that has no PTR here"
            elif rtype != "PTR":
                yield "SkyDNS answers every type below ip6.arpa with the PTR"
        elif not name.below(self.domain):
            if answer.rcode == "SERVFAIL":
                yield "SkyDNS asks its upstream for names of two labels and more"
        elif rtype == "SOA" and name == self.domain:
            yield f"SkyDNS takes its values from {self.prefix}/{CONFIG} in etcd, or else its defaults"
        elif rtype == "NS" and name != self.domain:
            yield "SkyDNS answers NS below the apex whether the name exists or not"
        elif wild is not None:
            yield f"SkyDNS takes the label {wild} for any label: the answer is that of all names that match"
        elif rtype == "SRV" and any(f" 0 {name}." in one.data for one in answer.answers):
            yield "SkyDNS has an SRV with port 0 for a name without ports"
        elif rtype == "CNAME" and any(isinstance(row.record.data, Alias) for row in rows):
            yield "SkyDNS shows an alias to A and AAAA only"
        elif rtype in ("A", "AAAA"):
            yield from self._about_addresses(name, rows, answer)

    def _about_addresses(self, name: Name, rows: Sequence[Row], answer: Answer) -> Iterator[str]:
        alias = next((row.record.data for row in rows if isinstance(row.record.data, Alias)), None)
        if name.labels[0].startswith("_") and answer.answers:
            yield "SkyDNS takes the target of SRV for an alias; of several it shows one, at random"
        elif alias is None:
            return
        elif answer.answers:
            if not alias.target.below(self.domain):
                yield f"SkyDNS asks its upstream for {alias}, and leaves the alias out where that denies it"
        elif len(alias.target.labels) < NDOTS:
            yield f"SkyDNS does not ask its upstream for {alias}, a name of one label"
        else:
            yield "SkyDNS leaves out an alias that leads to no address"
