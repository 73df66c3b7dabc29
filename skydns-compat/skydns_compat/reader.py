"""A model of CoreDNS's ``etcd`` plugin: its answer from a set of entries.  Pure.

`Entries` reads, decodes, filters and groups the entries for a question; `answer` makes records of them.
Tests compare it with CoreDNS 1.15.0.  Not modelled: leases (they shorten the TTL), answers too long for a
message, hosts and keys that are invalid on the wire (a label of more than 63 octets), other plugins, and the
serial of SOA, which is 0 here and the time there.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import floor
from posixpath import normpath
from typing import Literal

from skydns_compat.message import MalformedMessage, Message, decode
from skydns_compat.names import Address, InvalidAddress, Name, parse_address
from skydns_compat.records import quoted

Rcode = Literal["NOERROR", "NXDOMAIN", "SERVFAIL", "REFUSED"]

#: Maximum length of a CNAME chain.
MAX_LINKS = 11
#: TTL and minimum of SOA in every negative answer.
SOA_TTL = 30
#: Priority of a message without one, or with 0.
DEFAULT_PRIORITY = 10
#: TTL in seconds of a message without one, or with 0.
DEFAULT_TTL = 300
#: Labels that match any label, anywhere in a question.
WILDCARDS = frozenset({"*", "any"})

_LABEL = re.compile(r"(?:[^.\\]|\\.)+", re.DOTALL)
_TO_ESCAPE = re.compile(r"""(\\.)|([ '@;()"])""", re.DOTALL)
_WEIGHT = 100
_CHUNK = 255
_ESCAPE = re.compile(rb"\\(?:(\d{3})|(.)|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Rr:
    """A resource record; ``name`` is absolute, ``data`` in zone file syntax."""

    name: str
    rtype: str
    ttl: int
    data: str

    def __str__(self) -> str:
        return f"{self.name} {self.ttl} IN {self.rtype} {self.data}"


@dataclass(frozen=True, slots=True)
class Answer:
    """A response; NODATA is NOERROR without answers."""

    rcode: Rcode
    answers: tuple[Rr, ...] = ()
    additional: tuple[Rr, ...] = ()


#: The answers of the same server for a name outside the zone: (name, type) -> answers.
Elsewhere = Callable[[str, str], Sequence[Rr]]


def no_records(_name: str, _qtype: str) -> Sequence[Rr]:
    """An upstream in which every name exists and has no records."""
    return ()


def answer(
    entries: Entries, zone: Name, qname: Name | str, qtype: str, elsewhere: Elsewhere = no_records
) -> Answer:
    """The server's answer to ``qname qtype`` in ``zone`` when etcd holds ``entries``.

    ``qname`` as text, in zone file syntax, keeps its letter case in the answer and may contain what a `Name`
    cannot (wildcards).  ``elsewhere`` answers for names outside the zone; without it they have no records,
    and the answer is only the CNAME.
    """
    name = absolute(str(qname))
    if not below(name, str(zone)):
        raise ValueError(f"{qname} is not below {zone}")
    question = _Question(entries, absolute(str(zone)), elsewhere)
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
        """Answers and additional records."""
        match qtype:
            case "A" | "AAAA" | "TXT":
                return self.chased(name, qtype), []
            case "CNAME" | "PTR":
                return self.exact(name, qtype), []
            case "SRV" | "MX":
                return self.targets(name, qtype)
            case "SOA":
                data = f"ns.dns.{self.zone} hostmaster.{self.zone} 0 7200 1800 86400 {SOA_TTL}"
                return [Rr(self.zone, "SOA", SOA_TTL, data)], []
            case "NS" if name.lower() == self.zone:
                return self.name_servers(name)
        self.addresses(name)
        return [], []

    def addresses(self, name: str) -> list[Found]:
        """The entries for A and AAAA: at the apex those below ``apex.dns``, if there are any."""
        if name.lower() == self.zone:
            with suppress(NoSuchKey):
                return self.entries.read(f"apex.dns.{self.zone}")
        return self.entries.read(name)

    def chased(self, name: str, qtype: str, links: tuple[str, ...] = ()) -> list[Rr]:
        """A, AAAA or TXT below the name, following CNAME; ``links`` are the names that led here."""
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
        """The CNAME of an entry whose host is a name, with its target's records; empty without those."""
        target = absolute(found.message.host)
        # A target at or below the owner is a loop: reading the owner has found its entries already.
        if below(target, name) or len(links) >= MAX_LINKS or target in links:
            return []
        further = self.led_to(target, qtype, (*links, target))
        if below(target, self.zone) and not further:
            return []
        return [Rr(name, "CNAME", found.ttl, printed(target)), *further]

    def led_to(self, target: str, qtype: str, links: tuple[str, ...] = ()) -> list[Rr]:
        """The records of a target: by its keys in the zone, elsewhere as the server answers."""
        if not below(target, self.zone):
            return [*self.elsewhere(target, qtype)]
        with suppress(NoSuchKey, MalformedMessage):
            return self.chased(printed(target), qtype, links)
        return []

    def exact(self, name: str, qtype: str) -> list[Rr]:
        """CNAME and PTR: the one entry at the name itself, unless its host is an address."""
        return [
            Rr(name, qtype, each.ttl, printed(each.message.host))
            for each in self.entries.read(name, exact=True)
            if each.address is None
        ]

    def targets(self, name: str, qtype: str) -> tuple[list[Rr], list[Rr]]:
        """SRV and MX, with the addresses of their targets."""
        answers: list[Rr] = []
        additional: list[Rr] = []
        seen: set[tuple[str, ...]] = set()

        def first(*item: str) -> bool:
            new = item not in seen
            seen.add(item)
            return new

        # The weight of an entry without a port counts among the others.
        for each, share in shares(self.entries.read(name)):
            message = each.message
            if each.kind == "TXT" or (message.port == -1 if qtype == "SRV" else not message.mail):
                continue
            priority, port, target = str(each.priority & 0xFFFF), str(message.port & 0xFFFF), each.target()
            fields = [priority, str(share or 1), port] if qtype == "SRV" else [priority]
            record = Rr(name, qtype, each.ttl, " ".join([*fields, target]))
            if each.address is None:
                answers.append(record)
                if first(target):
                    additional += self.led_to(target, "A")
                    if not below(target, self.zone):
                        # Outside the zone both families, but the CNAME only once.
                        second = self.elsewhere(target, "AAAA")
                        additional += [one for one in second if one.rtype != "CNAME"]
                continue
            if first("answer", target, fields[-1]):
                answers.append(record)
            owner = target if qtype == "SRV" else each.name()
            if first("address", owner, message.host):
                additional.append(Rr(owner, each.kind, each.ttl, str(each.address)))
        return answers, additional

    def name_servers(self, name: str) -> tuple[list[Rr], list[Rr]]:
        """NS at the apex."""
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


def shares(found: Sequence[Found]) -> Iterator[tuple[Found, int]]:
    """Entries with their weight: a share of a hundred among those of one priority, cut to 16 bits."""
    sums: dict[int, int] = {}
    for each in found:
        sums[each.priority] = sums.get(each.priority, 0) + each.weight
    for each in found:
        total = sums[each.priority]
        yield each, floor(100.0 / total * each.weight) & 0xFFFF if total else 0


def _quoted(text: str) -> str:
    """A text in quoted pieces of 255 octets.

    A length that is a multiple of 255 ends in an empty piece.  A backslash is read as the start of an escape,
    and lost.
    """
    octets = text.encode("utf-8", "replace")
    pieces = [octets[at : at + _CHUNK] for at in range(0, len(octets) + 1, _CHUNK)]
    return " ".join(quoted(_ESCAPE.sub(_unescaped, piece)) for piece in pieces)


def _unescaped(match: re.Match[bytes]) -> bytes:
    return bytes([int(match[1]) & 0xFF]) if match[1] else match[2] or b""


class NoSuchKey(LookupError):
    """There is no key for the question: NXDOMAIN."""


@dataclass(frozen=True, slots=True)
class Found:
    """An entry: its message, and the host as an address, or None."""

    key: str
    message: Message
    address: Address | None

    @property
    def kind(self) -> str:
        """A or AAAA; for a host that is no address, TXT if the entry has a text, else CNAME."""
        if self.address is None:
            return "TXT" if self.message.text else "CNAME"
        return "AAAA" if ":" in self.address else "A"

    @property
    def ttl(self) -> int:
        """Seconds; every entry has its own."""
        return self.message.ttl or DEFAULT_TTL

    @property
    def priority(self) -> int:
        """As stored, not cut to 16 bits."""
        return self.message.priority or DEFAULT_PRIORITY

    @property
    def weight(self) -> int:
        """As stored, or 100."""
        return self.message.weight or _WEIGHT

    @property
    def depth(self) -> int:
        """Number of levels of the key."""
        return self.key.count("/")

    def target(self) -> str:
        """The target of SRV, MX and NS: the host, or for an address the key's name, less ``targetstrip``."""
        name = absolute(self.message.host) if self.address is None else self.name()
        labels = split(name)
        strip = self.message.targetstrip
        return absolute(".".join(labels[strip:])) if 0 < strip < len(labels) else name

    def name(self) -> str:
        """The DNS name of the key, without the first segment (the prefix) and a trailing slash."""
        segments = self.key.removesuffix("/").split("/")[2:]
        return absolute(".".join(reversed(segments)))


class Entries:
    """Entries in key order, as in etcd; ``prefix`` is the plugin's ``path``, of one segment."""

    def __init__(self, entries: Mapping[bytes, bytes], prefix: str = "/skydns") -> None:
        self.values = entries
        self.prefix = "/" + prefix.strip("/")
        self._keys = sorted(entries)

    def read(self, name: str, *, exact: bool = False, texts: bool = False) -> list[Found]:
        """The group of entries for the question ``name``: its subtree, or its key if that is empty.

        ``exact`` reads only the key.  Entries without a host are left out, except those with a text if
        ``texts`` is set.

        :raises NoSuchKey: there is none.
        :raises MalformedMessage: one of the values is malformed.
        """
        key, pattern = self.place(name)
        keys = [] if exact else self.below(key)
        if not keys:
            if key.encode("utf-8", "surrogateescape") not in self.values:
                raise NoSuchKey(key)
            keys = [key]
        found = [self.found(each) for each in keys if fits(each, pattern)]
        return one_group([each for each in found if each.message.host or (texts and each.message.text)])

    def place(self, name: str) -> tuple[str, list[str]]:
        """The key of ``name`` up to the first wildcard, and if there is one, all its segments."""
        labels = split(name.lower())[::-1]
        wild = next((at for at, label in enumerate(labels) if label in WILDCARDS), None)
        pattern = self._key(labels).split("/") if wild is not None else []
        return self._key(labels[:wild]), pattern

    def _key(self, labels: Sequence[str]) -> str:
        return normpath("/".join([self.prefix, *labels]))

    def below(self, key: str) -> list[str]:
        """The keys that begin with ``key`` and a slash."""
        octets = key.encode("utf-8", "surrogateescape")
        # "0" is the character after "/".
        first, end = bisect_left(self._keys, octets + b"/"), bisect_left(self._keys, octets + b"0")
        return [each.decode("utf-8", "surrogateescape") for each in self._keys[first:end]]

    def found(self, key: str) -> Found:
        """The entry at ``key``; raises MalformedMessage."""
        message = decode(self.values[key.encode("utf-8", "surrogateescape")])
        try:
            return Found(key, message, parse_address(message.host))
        except InvalidAddress:
            return Found(key, message, None)


def one_group(found: list[Found]) -> list[Found]:
    """The entries of the shortest key's group, and those without a group.

    All entries if the shortest key has no group, or two of the shortest keys disagree.  The search for the
    shortest key ends at one that is shorter than all before it and has no group; the comparison of the
    shortest keys ends before that one.
    """
    if not found:
        return found
    group, shortest, compared = found[0].message.group, found[0].depth, len(found)
    for at, each in enumerate(found):
        if each.depth < shortest:
            if not each.message.group:
                compared = at
                break
            group, shortest = each.message.group, each.depth
    if not group:
        return found
    for each in found[:compared]:
        if each.depth == shortest and each.message.group not in ("", group):
            return found
    return [each for each in found if each.message.group in ("", group)]


def split(name: str) -> list[str]:
    """The labels of a name in zone file syntax: ``a\\.b.c`` has two."""
    return _LABEL.findall(name)


def absolute(name: str) -> str:
    """The name with its final dot."""
    return name if name.endswith(".") else f"{name}."


def printed(name: str) -> str:
    """The absolute name, escaped as in a zone file."""
    return _TO_ESCAPE.sub(lambda match: match[1] or f"\\{match[2]}", absolute(name))


def below(name: str, parent: str) -> bool:
    """Whether ``name`` is at or below ``parent``, in any letter case."""
    upper = split(parent.lower())
    labels = split(name.lower())
    return len(labels) >= len(upper) and labels[len(labels) - len(upper) :] == upper


def fits(key: str, pattern: Sequence[str]) -> bool:
    """Whether ``key`` is at or below ``pattern``, whose segments may be wildcards."""
    segments = key.split("/")
    return len(segments) >= len(pattern) and all(
        wanted in WILDCARDS or wanted == segment for wanted, segment in zip(pattern, segments, strict=False)
    )
