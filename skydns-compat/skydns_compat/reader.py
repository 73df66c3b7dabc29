"""The answer that CoreDNS's ``etcd`` plugin gives from a set of entries: a model, and pure.

`Entries` is what a question reads, decoded, filtered and grouped; `answer` makes records of it.  Held equal
to CoreDNS 1.15.0 by tests that ask both.  What it leaves out: leases (they shorten the TTL), answers too
long for a message, hosts and keys that are no names on the wire (a label of more than 63 octets), and
whatever another plugin says first.  The serial of SOA is a clock there and 0 here.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import floor
from posixpath import normpath
from typing import Literal

from skydns_compat.message import MalformedMessage, Message, decode
from skydns_compat.names import Address, InvalidAddress, Name, parse_address

Rcode = Literal["NOERROR", "NXDOMAIN", "SERVFAIL", "REFUSED"]

#: A name is followed through at most so many CNAME records.
MAX_LINKS = 11
#: TTL and minimum of SOA, with which every negative answer comes.
SOA_TTL = 30
#: Priority of a message that has none, or 0.
DEFAULT_PRIORITY = 10
#: Seconds of a message that has none, or 0.
DEFAULT_TTL = 300
#: Labels that stand for any label, wherever they are in a question.
WILDCARDS = frozenset({"*", "any"})

_LABEL = re.compile(r"(?:[^.\\]|\\.)+", re.DOTALL)
_TO_ESCAPE = re.compile(r"""(\\.)|([ '@;()"])""", re.DOTALL)
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


class NoSuchKey(LookupError):
    """Nothing is stored where the question points: NXDOMAIN."""


@dataclass(frozen=True, slots=True)
class Found:
    """One entry that was found: a message, and what its host is."""

    key: str
    message: Message
    address: Address | None

    @property
    def kind(self) -> str:
        """A, AAAA or, for a host that is no address, CNAME; TXT where such an entry has a text."""
        if self.address is None:
            return "TXT" if self.message.text else "CNAME"
        return "AAAA" if ":" in self.address else "A"

    @property
    def ttl(self) -> int:
        """Seconds; every entry has its own."""
        return self.message.ttl or DEFAULT_TTL

    @property
    def priority(self) -> int:
        """Not yet cut to its 16 bits."""
        return self.message.priority or DEFAULT_PRIORITY

    @property
    def depth(self) -> int:
        """How deep the key lies."""
        return self.key.count("/")

    def target(self) -> str:
        """Where SRV, MX and NS point: the host, or the key's name for an address; ``targetstrip`` cuts it."""
        name = absolute(self.message.host) if self.address is None else self.name()
        labels = split(name)
        strip = self.message.targetstrip
        return absolute(".".join(labels[strip:])) if 0 < strip < len(labels) else name

    def name(self) -> str:
        """The DNS name of the key, less the first segment (the prefix) and a slash at the end."""
        segments = self.key.removesuffix("/").split("/")[2:]
        return absolute(".".join(reversed(segments)))


class Entries:
    """Entries in key order, as etcd holds them; ``prefix`` is the plugin's ``path``, of one segment."""

    def __init__(self, entries: Mapping[bytes, bytes], prefix: str = "/skydns") -> None:
        self._keys = sorted(entries)
        self._values = entries
        self._prefix = "/" + prefix.strip("/")

    def read(self, name: str, *, exact: bool = False, texts: bool = False) -> list[Found]:
        """The group that the question ``name`` finds: its subtree, or its key where that is empty.

        ``exact`` reads the key alone.  Entries without a host are left out, unless they have a
        text and ``texts`` are asked for.  `NoSuchKey` or `MalformedMessage` when it fails.
        """
        labels = split(name.lower())[::-1]
        wild = next((at for at, label in enumerate(labels) if label in WILDCARDS), None)
        keys = self._range(self._key(labels[:wild]), exact)
        if wild is not None:
            pattern = self._key(labels).split("/")
            keys = [key for key in keys if _fits(_text(key), pattern)]
        found = [self._found(key) for key in keys]
        return one_group([each for each in found if each.message.host or (texts and each.message.text)])

    def _key(self, labels: Sequence[str]) -> str:
        return normpath("/".join([self._prefix, *labels]))

    def _range(self, key: str, exact: bool) -> list[bytes]:
        name = key.encode("utf-8", "surrogateescape")
        if not exact:
            # "0" is the character after "/": the range of everything that starts with the key and a slash.
            first, end = bisect_left(self._keys, name + b"/"), bisect_left(self._keys, name + b"0")
            if first < end:
                return self._keys[first:end]
        if name not in self._values:
            raise NoSuchKey(key)
        return [name]

    def _found(self, key: bytes) -> Found:
        message = decode(self._values[key])
        try:
            address = parse_address(message.host)
        except InvalidAddress:
            address = None
        return Found(_text(key), message, address)


def one_group(found: list[Found]) -> list[Found]:
    """Only the entries of the group that the shortest key names, and those without a group.

    Everything, where the shortest key has no group, or where two of the shortest disagree.  The
    search for the shortest ends at a key that is shorter than all before it and has no group;
    what comes after that key is not heard when the shortest are compared.
    """
    if not found:
        return found
    group, shortest, heard = found[0].message.group, found[0].depth, len(found)
    for at, each in enumerate(found):
        if each.depth < shortest:
            if not each.message.group:
                heard = at
                break
            group, shortest = each.message.group, each.depth
    if not group:
        return found
    for each in found[:heard]:
        if each.depth == shortest and each.message.group not in ("", group):
            return found
    return [each for each in found if each.message.group in ("", group)]


def split(name: str) -> list[str]:
    """The labels of a name as a zone file writes it: ``a\\.b.c`` has two."""
    return _LABEL.findall(name)


def absolute(name: str) -> str:
    """The name with its final dot."""
    return name if name.endswith(".") else f"{name}."


def printed(name: str) -> str:
    """The absolute name with the characters escaped that a zone file cannot hold plainly."""
    return _TO_ESCAPE.sub(lambda match: match[1] or f"\\{match[2]}", absolute(name))


def below(name: str, parent: str) -> bool:
    """Whether ``name`` is under ``parent``, or is it; in any letter case."""
    upper = split(parent.lower())
    labels = split(name.lower())
    return len(labels) >= len(upper) and labels[len(labels) - len(upper) :] == upper


def _fits(key: str, pattern: Sequence[str]) -> bool:
    segments = key.split("/")
    return len(segments) >= len(pattern) and all(
        wanted in WILDCARDS or wanted == segment for wanted, segment in zip(pattern, segments, strict=False)
    )


def _text(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")
