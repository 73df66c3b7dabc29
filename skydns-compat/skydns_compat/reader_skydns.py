"""The answer that classic SkyDNS gives from a set of v2 keys: a model, and pure.

SkyDNS's last state (2019), asked beside this model.  What it leaves out: TTLs of etcd's own, MX, DNSSEC,
caches, stub zones, ``-local``, the shuffling of answers, the CHAOS class, and which of several CNAME
records of one name is kept.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import floor

import msgspec

from skydns_compat.message import MalformedMessage, decode
from skydns_compat.names import InvalidAddress, Name, parse_address
from skydns_compat.reader import (
    WILDCARDS,
    Answer,
    Found,
    NoSuchKey,
    Rr,
    absolute,
    below,
    one_group,
    printed,
    split,
)

#: A name is followed through at most so many CNAME records.
MAX_LINKS = 8
#: Names of fewer labels are never asked of the upstream.
NDOTS = 2

_WEIGHT = 100
_CHUNK = 255
#: Seconds of what the upstream said, in an answer that an alias led to.
_UPSTREAM_TTL = 60

#: The upstream: (name, type) -> the records of its answer; None where it denies the name or is silent.
Forwarder = Callable[[str, str], Sequence[Rr] | None]


class Settings(msgspec.Struct, frozen=True):
    """What SkyDNS reads at ``/PREFIX/config`` and the answers depend on, with its own defaults; seconds."""

    ttl: int = 3600
    """Of a message that has none."""
    min_ttl: int = 60
    """Of a negative answer."""
    hostmaster: str = "hostmaster.skydns.local"


def silent(_name: str, _qtype: str) -> Sequence[Rr] | None:
    """An upstream in which every name exists and has no records."""
    return ()


def skydns_answer(
    entries: Mapping[bytes, bytes],
    domain: Name,
    qname: Name | str,
    qtype: str,
    *,
    prefix: str = "/skydns",
    forward: Forwarder = silent,
) -> Answer:
    """What SkyDNS says for ``domain``; REFUSED stands for a question that it hands to its upstream, too.

    A text as ``qname`` may hold what a `Name` may not (wildcards).
    """
    keys = _Keys(entries, prefix)
    server = _Server(keys, absolute(str(domain)), keys.settings(), forward)
    return server.ask(absolute(str(qname)), qtype.upper())


class _Keys:
    """Keys in order; what lies below a hidden segment is found by asking below it only."""

    def __init__(self, entries: Mapping[bytes, bytes], prefix: str) -> None:
        self._keys = sorted(entries)
        self._values = entries
        self._prefix = "/" + prefix.strip("/")

    def settings(self) -> Settings:
        """SkyDNS's own settings, which it reads when it starts."""
        said = self._values.get(f"{self._prefix}/config".encode(), b"{}")
        with suppress(msgspec.DecodeError):
            return msgspec.json.decode(said, type=Settings)
        return Settings()

    def read(self, name: str, *, exact: bool = False) -> list[Found]:
        """The value at ``name``, or what its directory lists.

        ``exact``: a directory counts for nothing.

        :raises NoSuchKey: there is neither.
        :raises NotADirectoryError: there is a value above.
        """
        labels = split(name.lower())[::-1]
        wild = next((at for at, label in enumerate(labels) if label in WILDCARDS), None)
        parts = [self._prefix, *labels[:wild]]
        path = "/".join(parts)
        if any("/".join(parts[:count]).encode() in self._values for count in range(1, len(parts))):
            raise NotADirectoryError(path)
        if path.encode() in self._values:
            return _distinct([self._found(path.encode())])
        inside = self._inside(path)
        if not inside:
            raise NoSuchKey(path)
        if exact:
            return []
        listed = [key for key in inside if b"/_" not in key[len(path) :]]
        if wild is not None:
            pattern = [*self._prefix.split("/"), *labels]
            listed = [key for key in listed if _fits(key.decode().split("/"), pattern)]
        return _distinct([self._found(key) for key in listed])

    def _inside(self, path: str) -> list[bytes]:
        low, high = f"{path}/".encode(), f"{path}0".encode()  # "0" follows "/"
        return self._keys[bisect_left(self._keys, low) : bisect_left(self._keys, high)]

    def _found(self, key: bytes) -> Found:
        message = decode(self._values[key])
        try:
            return Found(key.decode(), message, parse_address(message.host))
        except InvalidAddress:
            return Found(key.decode(), message, None)


@dataclass(frozen=True, slots=True)
class _Server:
    keys: _Keys
    domain: str
    settings: Settings
    forward: Forwarder

    def ask(self, name: str, qtype: str) -> Answer:
        if qtype == "ANY":
            return Answer("REFUSED")
        # Below ip6.arpa it looks at no type.
        if (qtype == "PTR" and below(name, "in-addr.arpa.")) or below(name, "ip6.arpa."):
            return self.reverse(name)
        if not below(name, self.domain):
            return _forwarded(name)
        try:
            answers, additional = self.records(name, qtype)
        except NoSuchKey:
            return Answer("NXDOMAIN")
        except (MalformedMessage, NotADirectoryError):
            return Answer("SERVFAIL" if qtype == "SRV" else "NOERROR")
        answers = list({(rr.name.lower(), rr.rtype, rr.data): rr for rr in answers}.values())
        if len(answers) > 1:
            lowest = min(self.settings.ttl, *(rr.ttl for rr in answers))
            answers = [Rr(rr.name, rr.rtype, lowest, rr.data) for rr in answers]
        return Answer("NOERROR", tuple(answers), tuple(dict.fromkeys(additional)) if answers else ())

    def reverse(self, name: str) -> Answer:
        """One value at exactly this name; everything else is somebody else's address."""
        with suppress(NoSuchKey, MalformedMessage, NotADirectoryError):
            found = self.keys.read(name, exact=True)
            if found and WILDCARDS.isdisjoint(split(name.lower())):
                return Answer(
                    "NOERROR", (self.record(name, "PTR", found[0], printed(found[0].message.host)),)
                )
        return _forwarded(name)

    def records(self, name: str, qtype: str) -> tuple[list[Rr], list[Rr]]:
        apex = name.lower() == self.domain
        match qtype:
            case "A" | "AAAA":
                return self.addresses(name, (qtype,)), []
            case "NS":
                return self.name_servers(name) if apex else ([], [])
            case "SOA" if apex:
                mailbox = absolute(self.settings.hostmaster.replace("@", "."))
                data = f"ns.dns.{self.domain} {mailbox} 0 28800 7200 604800 {self.settings.min_ttl}"
                return [Rr(self.domain, "SOA", self.settings.ttl, data)], []
            case "CNAME":
                found = one_group(self.keys.read(name, exact=True))
                return [
                    self.record(name, qtype, one, printed(one.message.host))
                    for one in found
                    if one.address is None
                ], []
            case "TXT":
                found = one_group(self.keys.read(name))
                return [
                    self.record(name, qtype, one, _quoted(one.message.text))
                    for one in found
                    if one.message.text
                ], []
            case "SRV":
                return self.services(name)
        one_group(self.keys.read(name))
        return [], []

    def addresses(self, name: str, types: tuple[str, ...], links: tuple[str, ...] = ()) -> list[Rr]:
        """Addresses in the directory of ``name``, and where its names lead to."""
        records: list[Rr] = []
        for found in one_group(self.keys.read(name)):
            if found.address is not None:
                if found.kind in types:
                    records.append(self.record(name, found.kind, found, str(found.address)))
                continue
            target = absolute(found.message.host)
            if target.lower() == name.lower() or len(links) >= MAX_LINKS or target in links:
                continue
            further = self.followed(target, types, (*links, target))
            if further is not None:
                records += [self.record(name, "CNAME", found, printed(target)), *further]
        return records

    def followed(self, target: str, types: tuple[str, ...], links: tuple[str, ...]) -> Sequence[Rr] | None:
        """What is at the end of an alias; None where the alias does not count."""
        with suppress(NoSuchKey, MalformedMessage, NotADirectoryError):
            return self.addresses(printed(target), types, links) or None
        return None if below(target, self.domain) else self.upstream(target, types[0])

    def upstream(self, target: str, qtype: str) -> Sequence[Rr] | None:
        """What the upstream says of a name outside of the domain."""
        said = self.forward(target, qtype) if len(split(target)) >= NDOTS else None
        return said and [Rr(one.name, one.rtype, _UPSTREAM_TTL, one.data) for one in said]

    def services(self, name: str) -> tuple[list[Rr], list[Rr]]:
        found = one_group(self.keys.read(name))
        sums: dict[int, int] = {}
        for one in found:
            sums[one.priority] = sums.get(one.priority, 0) + (one.message.weight or _WEIGHT)
        answers: list[Rr] = []
        additional: list[Rr] = []
        for one in found:
            weight = floor(100.0 / sums[one.priority] * (one.message.weight or _WEIGHT)) & 0xFFFF
            target = one.target()
            data = f"{one.priority & 0xFFFF} {weight} {one.message.port & 0xFFFF} {target}"
            answers.append(self.record(name, "SRV", one, data))
            if one.address is not None:
                additional.append(self.record(target, one.kind, one, str(one.address)))
                continue
            if not below(target, self.domain):
                additional += self.upstream(target, "A") or ()
                additional += [one for one in self.upstream(target, "AAAA") or () if one.rtype != "CNAME"]
                continue
            with suppress(NoSuchKey, MalformedMessage, NotADirectoryError):
                additional += self.addresses(target, ("A", "AAAA"))
        return answers, additional

    def name_servers(self, name: str) -> tuple[list[Rr], list[Rr]]:
        found = one_group(self.keys.read(f"ns.dns.{self.domain}"))
        if any(one.address is None for one in found):
            return [], []
        answers = [self.record(name, "NS", one, one.name()) for one in found]
        return answers, [self.record(one.name(), one.kind, one, str(one.address)) for one in found]

    def record(self, name: str, rtype: str, found: Found, data: str) -> Rr:
        return Rr(name, rtype, found.message.ttl or self.settings.ttl, data)


def _forwarded(name: str) -> Answer:
    """Handed to the upstream, unless the name is too short for that."""
    return Answer("REFUSED" if len(split(name)) >= NDOTS else "SERVFAIL")


def _distinct(found: Sequence[Found]) -> list[Found]:
    """Of values that say the same the first; SkyDNS looks neither at the group nor at the key."""
    kept: dict[tuple[object, ...], Found] = {}
    for one in found:
        said = one.message
        kept.setdefault((said.host, said.port, said.priority, said.weight, said.text), one)
    return list(kept.values())


def _fits(segments: Sequence[str], pattern: Sequence[str]) -> bool:
    return len(segments) >= len(pattern) and all(
        wanted in WILDCARDS or wanted == segment for wanted, segment in zip(pattern, segments, strict=False)
    )


def _quoted(text: str) -> str:
    """A text in the pieces that the wire holds, each in quotes."""
    octets = text.encode()
    pieces = [octets[at : at + _CHUNK] for at in range(0, max(1, len(octets)), _CHUNK)]
    return " ".join(f'"{piece.decode("utf-8", "replace")}"' for piece in pieces)
