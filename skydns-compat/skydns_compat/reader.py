"""The answer that CoreDNS's ``etcd`` plugin gives from a set of entries: a model, and pure.

Held equal to CoreDNS 1.15.0 by tests that ask both.  What it leaves out: leases (they shorten the
TTL), answers too long for a message, hosts and keys that are no names on the wire (a label of more
than 63 octets), and whatever another plugin says first.  The serial of SOA is a clock there and 0
here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import floor
from typing import Literal

from skydns_compat.message import MalformedMessage
from skydns_compat.names import Name
from skydns_compat.reader_entries import Entries, Found, NoSuchKey, absolute, below, printed

__all__ = ["Answer", "Elsewhere", "Entries", "Rcode", "Rr", "answer"]

Rcode = Literal["NOERROR", "NXDOMAIN", "SERVFAIL", "REFUSED"]

#: A name is followed through at most so many CNAME records.
MAX_LINKS = 11
#: TTL and minimum of SOA, with which every negative answer comes.
SOA_TTL = 30

_WEIGHT = 100
_CHUNK = 255
_ESCAPE = re.compile(rb"\\(?:(\d{3})|(.)|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Rr:
    """One resource record of an answer; ``name`` is absolute, ``data`` as a zone file writes it."""

    name: str
    rtype: str
    ttl: int
    data: str

    def __str__(self) -> str:
        return f"{self.name} {self.ttl} IN {self.rtype} {self.data}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What comes back: NODATA is NOERROR without answers."""

    rcode: Rcode
    answers: tuple[Rr, ...] = ()
    additional: tuple[Rr, ...] = ()


#: The same server, asked for a name outside the zone: (name, type) -> the records of its answer.
Elsewhere = Callable[[str, str], Sequence[Rr]]


def answer(
    entries: Entries, zone: Name, qname: Name | str, qtype: str, elsewhere: Elsewhere | None = None
) -> Answer:
    """What the server says to ``qname qtype`` in ``zone`` when etcd holds ``entries``.

    A text as ``qname`` keeps its letter case in the answer and may hold what a `Name` may not
    (wildcards), written as in a zone file.  ``elsewhere`` answers for names outside the zone;
    without it they have no records, and a CNAME to them stands alone.
    """
    name = absolute(str(qname))
    if not below(name, str(zone)):
        raise ValueError(f"{qname} is not below {zone}")
    question = _Question(entries, absolute(str(zone)), elsewhere or _nothing)
    try:
        answers, additional = question.ask(name, qtype.upper())
    except NoSuchKey:
        return Answer("NXDOMAIN")
    except MalformedMessage:
        return Answer("SERVFAIL")
    if not answers:
        return Answer("NOERROR")
    return Answer("NOERROR", tuple(answers), tuple(additional))


@dataclass(frozen=True, slots=True)
class _Question:
    entries: Entries
    zone: str
    elsewhere: Elsewhere

    def ask(self, name: str, qtype: str) -> tuple[list[Rr], list[Rr]]:
        match qtype:
            case "A" | "AAAA" | "TXT":
                return self.chased(name, qtype), []
            case "CNAME" | "PTR":
                return self.exact(name, qtype), []
            case "SRV":
                return self.srv(name)
            case "MX":
                return self.mx(name)
            case "SOA":
                data = f"ns.dns.{self.zone} hostmaster.{self.zone} 0 7200 1800 86400 {SOA_TTL}"
                return [Rr(self.zone, "SOA", SOA_TTL, data)], []
            case "NS" if self.is_apex(name):
                return self.ns(name)
        self.addresses(name)
        return [], []

    def is_apex(self, name: str) -> bool:
        return name.lower() == self.zone

    def addresses(self, name: str) -> list[Found]:
        """What A and AAAA read: at the apex the entries below ``apex.dns`` come first."""
        if self.is_apex(name):
            with suppress(NoSuchKey):
                return self.entries.read(f"apex.dns.{self.zone}")
        return self.entries.read(name)

    def chased(self, name: str, qtype: str, links: tuple[str, ...] = ()) -> list[Rr]:
        """A, AAAA or TXT: the records of that type below the name, and where its names lead to."""
        records: list[Rr] = []
        seen: set[str] = set()
        found = self.entries.read(name, texts=True) if qtype == "TXT" else self.addresses(name)
        for each in found:
            content = each.message.text if qtype == "TXT" else each.message.host
            if each.kind == "CNAME":
                records += self.followed(each, name, qtype, links)
            elif each.kind == qtype and content not in seen:
                seen.add(content)
                data = _quoted(content) if qtype == "TXT" else str(each.address)
                records.append(Rr(name, qtype, each.ttl, data))
        return records

    def followed(self, found: Found, name: str, qtype: str, links: tuple[str, ...]) -> list[Rr]:
        """The CNAME of an entry whose host is a name, and what is there; nothing where it leads nowhere."""
        target = absolute(found.message.host)
        # An entry that names its own owner, or something below, is a loop: the owner's own read found it.
        if below(target, name) or len(links) >= MAX_LINKS or target in links:
            return []
        alias = Rr(name, "CNAME", found.ttl, printed(target))
        if not below(target, self.zone):
            return [alias, *self.elsewhere(target, qtype)]
        try:
            further = self.chased(printed(target), qtype, (*links, target))
        except (NoSuchKey, MalformedMessage):
            return []
        return [alias, *further] if further else []

    def exact(self, name: str, qtype: str) -> list[Rr]:
        """CNAME and PTR: the one entry at the name itself, whatever its host is but an address."""
        return [
            Rr(name, qtype, each.ttl, printed(each.message.host))
            for each in self.entries.read(name, exact=True)
            if each.address is None
        ]

    def srv(self, name: str) -> tuple[list[Rr], list[Rr]]:
        found = self.entries.read(name)
        sums: dict[int, int] = {}
        for each in found:
            sums[each.priority] = sums.get(each.priority, 0) + (each.message.weight or _WEIGHT)
        answers: list[Rr] = []
        additional = _Additional(self)
        for each in found:
            # Left out only here: the weight of an entry without a port counts among the others.
            if each.message.port == -1 or each.kind == "TXT":
                continue
            weight = _weight(each.message.weight or _WEIGHT, sums[each.priority])
            priority, port, target = each.priority & 0xFFFF, each.message.port & 0xFFFF, each.target()
            record = Rr(name, "SRV", each.ttl, f"{priority} {weight} {port} {target}")
            if each.address is None:
                answers.append(record)
                additional.of_name(target)
            else:
                if additional.first(target, str(port)):
                    answers.append(record)
                additional.of_address(target, each)
        return answers, additional.records

    def mx(self, name: str) -> tuple[list[Rr], list[Rr]]:
        answers: list[Rr] = []
        additional = _Additional(self)
        for each in self.entries.read(name):
            if not each.message.mail or each.kind == "TXT":
                continue
            preference, target = each.priority & 0xFFFF, each.target()
            record = Rr(name, "MX", each.ttl, f"{preference} {target}")
            if each.address is None:
                answers.append(record)
                additional.of_name(target)
            else:
                if additional.first(target, str(preference)):
                    answers.append(record)
                # Unlike SRV, the address comes under the key's whole name.
                additional.of_address(each.name(), each)
        return answers, additional.records

    def ns(self, name: str) -> tuple[list[Rr], list[Rr]]:
        answers: dict[str, Rr] = {}
        additional: list[Rr] = []
        for each in self.entries.read(f"ns.dns.{self.zone}"):
            if each.kind == "CNAME":
                raise MalformedMessage(f"{each.message.host!r}, the host of a name server, is no address")
            if each.address is not None:
                target = each.target()
                answers.setdefault(target, Rr(name, "NS", each.ttl, target))
                additional.append(Rr(target, each.kind, each.ttl, str(each.address)))
        return list(answers.values()), additional


class _Additional:
    """The addresses that come along with SRV and MX, each once."""

    def __init__(self, question: _Question) -> None:
        self.records: list[Rr] = []
        self._question = question
        self._names: set[str] = set()
        self._seen: set[tuple[str, str, str]] = set()

    def first(self, target: str, number: str = "", address: str = "") -> bool:
        """Whether this target with this number (or address) comes for the first time."""
        item = (target, number, address)
        new = item not in self._seen
        self._seen.add(item)
        return new

    def of_name(self, target: str) -> None:
        """A alone for a name in the zone, both families for one outside."""
        if target in self._names:
            return
        self._names.add(target)
        question = self._question
        if not below(target, question.zone):
            self.records += question.elsewhere(target, "A")
            self.records += _without_aliases(question.elsewhere(target, "AAAA"))
            return
        with suppress(NoSuchKey, MalformedMessage):
            self.records += question.chased(printed(target), "A")

    def of_address(self, owner: str, found: Found) -> None:
        """The address of the entry itself."""
        if self.first(owner, address=found.message.host):
            self.records.append(Rr(owner, found.kind, found.ttl, str(found.address)))


def _nothing(_name: str, _qtype: str) -> Sequence[Rr]:
    return ()


def _without_aliases(records: Iterable[Rr]) -> list[Rr]:
    return [record for record in records if record.rtype != "CNAME"]


def _weight(own: int, total: int) -> int:
    """The share of ``own`` in hundred, of 16 bits, at least 1."""
    share = floor(100.0 / total * own) & 0xFFFF if total else 0
    return share or 1


def _quoted(text: str) -> str:
    """A text in the pieces that the wire holds, each in quotes.

    Lengths from 255 octets on that are multiples of it end in an empty piece.  A backslash is
    taken for the start of an escape, and lost.
    """
    octets = text.encode("utf-8", "replace")
    pieces = [octets[at : at + _CHUNK] for at in range(0, len(octets) + 1, _CHUNK)]
    return " ".join(f'"{_plain(_ESCAPE.sub(_unescaped, piece))}"' for piece in pieces)


def _unescaped(match: re.Match[bytes]) -> bytes:
    return bytes([int(match[1]) & 0xFF]) if match[1] else match[2] or b""


def _plain(octets: bytes) -> str:
    return "".join(
        f"\\{chr(octet)}" if octet in b'"\\' else chr(octet) if 0x20 <= octet < 0x7F else f"\\{octet:03d}"
        for octet in octets
    )
