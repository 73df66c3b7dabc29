"""A model of classic SkyDNS: the answer that it gives from a set of v2 keys.  Pure.

Compared with SkyDNS's last state (2019).  Left out are TTLs of etcd's own, MX, DNSSEC, caches, stub zones,
``-local``, the order of answers, the CHAOS class, and which of several CNAME records of a name is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from skydns_compat.layout_skydns import CONFIG, ServerSettings
from skydns_compat.message import MalformedMessage
from skydns_compat.names import Name
from skydns_compat.reader import (
    WILDCARDS,
    Answer,
    Entries,
    Found,
    NoSuchKey,
    Rr,
    absolute,
    below,
    fits,
    one_group,
    printed,
    shares,
    split,
)
from skydns_compat.records import Text

#: The most CNAME records that are followed.
MAX_LINKS = 8
#: Names of fewer labels are never asked of the upstream.
NDOTS = 2
# Seconds of the upstream's records in an answer that an alias led to.
_UPSTREAM_TTL = 60

#: The upstream: (name, type) -> answers; None where it denies the name or does not answer.
Forwarder = Callable[[str, str], Sequence[Rr] | None]


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
    """What SkyDNS answers for ``domain``; REFUSED also stands for a question that its upstream would answer.

    ``qname`` as text may contain what a `Name` may not (wildcards).
    """
    keys = _Keys(entries, prefix)
    server = _Server(keys, absolute(str(domain)), keys.settings(), forward)
    return server.ask(absolute(str(qname)), qtype.upper())


class _Keys(Entries):
    """Keys as etcd's v2 API lists them: what is below a hidden segment shows to a question below it only."""

    def settings(self) -> ServerSettings:
        """SkyDNS's own settings; the defaults where they are missing or malformed."""
        value = self.values.get(f"{self.prefix}/{CONFIG}".encode(), b"{}")
        with suppress(msgspec.DecodeError):
            return msgspec.json.decode(value, type=ServerSettings)
        return ServerSettings()

    def read(self, name: str, *, exact: bool = False, texts: bool = True) -> list[Found]:
        """The value at ``name``, or what its directory lists, where it is not ``exact``.

        :raises NoSuchKey: there is neither.
        :raises NotADirectoryError: there is a value above.
        :raises MalformedMessage: one of the values is malformed.
        """
        key, pattern = self.place(name)
        if any(key[:at].encode() in self.values for at, char in enumerate(key) if char == "/"):
            raise NotADirectoryError(key)
        if key.encode() in self.values:
            return [self.found(key)]
        inside = self.below(key)
        if not inside:
            raise NoSuchKey(key)
        listed = [one for one in inside if not exact and "/_" not in one[len(key) :] and fits(one, pattern)]
        # Of values that are equal in these the first; neither the group nor the key matters.
        kept: dict[tuple[object, ...], Found] = {}
        for one in map(self.found, listed):
            said = one.message
            kept.setdefault((said.host, said.port, said.priority, said.weight, said.text), one)
        return one_group(list(kept.values()))


@dataclass(frozen=True, slots=True)
class _Server:
    keys: _Keys
    domain: str
    settings: ServerSettings
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
        """The value at exactly this name; other reverse names are the upstream's."""
        with suppress(NoSuchKey, MalformedMessage, NotADirectoryError):
            found = self.keys.read(name, exact=True)
            if found and WILDCARDS.isdisjoint(split(name.lower())):
                return Answer("NOERROR", tuple(self.each(name, "PTR", found)))
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
                found = self.keys.read(name, exact=True)
                return self.each(name, qtype, [one for one in found if one.address is None]), []
            case "TXT":
                found = [one for one in self.keys.read(name) if one.message.text]
                return [self.record(name, qtype, one, str(Text(one.message.text))) for one in found], []
            case "SRV":
                return self.services(name)
        self.keys.read(name)
        return [], []

    def each(self, name: str, qtype: str, found: Sequence[Found]) -> list[Rr]:
        """A record with the host of each entry."""
        return [self.record(name, qtype, one, printed(one.message.host)) for one in found]

    def addresses(self, name: str, types: tuple[str, ...], links: tuple[str, ...] = ()) -> list[Rr]:
        """Addresses in the directory of ``name``, with CNAME followed; ``links`` are the names on the way."""
        records: list[Rr] = []
        for found in self.keys.read(name):
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
        """The records of an alias's target; None where the alias is left out."""
        with suppress(NoSuchKey, MalformedMessage, NotADirectoryError):
            return self.addresses(printed(target), types, links) or None
        return None if below(target, self.domain) else self.upstream(target, types[0])

    def upstream(self, target: str, qtype: str) -> Sequence[Rr] | None:
        """What the upstream answers for a name outside of the domain."""
        said = self.forward(target, qtype) if len(split(target)) >= NDOTS else None
        return said and [Rr(one.name, one.rtype, _UPSTREAM_TTL, one.data) for one in said]

    def services(self, name: str) -> tuple[list[Rr], list[Rr]]:
        answers: list[Rr] = []
        additional: list[Rr] = []
        for one, weight in shares(self.keys.read(name)):
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
        found = self.keys.read(f"ns.dns.{self.domain}")
        if any(one.address is None for one in found):
            return [], []
        answers = [self.record(name, "NS", one, one.name()) for one in found]
        return answers, [self.record(one.name(), one.kind, one, str(one.address)) for one in found]

    def record(self, name: str, rtype: str, found: Found, data: str) -> Rr:
        return Rr(name, rtype, found.message.ttl or self.settings.ttl, data)


def _forwarded(name: str) -> Answer:
    """REFUSED for the upstream's answer; a name that is too short for it is SERVFAIL."""
    return Answer("REFUSED" if len(split(name)) >= NDOTS else "SERVFAIL")
