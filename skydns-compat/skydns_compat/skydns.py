"""Classic SkyDNS, which reads etcd's v2 keys: kube2sky's layout, and a model of its answers.  Pure.

A directory cannot hold a value, so every name is a directory with *leaves* in it, and nothing rewrites
questions.  A leaf is `H` and a hash of its content: with an upper-case letter no question can name it.
That of a name server begins with `n`, since NS returns it as a name.  skydns-compat/README.md has the rules.

The model was compared with SkyDNS's last state (2019).  Not modelled: etcd's own TTLs, MX, DNSSEC, caches,
stub zones, ``-local``, the order of answers, the CHAOS class, and which of several CNAME records is kept.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec
from msgspec import structs

from skydns_compat.layout import Layout
from skydns_compat.message import MalformedMessage, Message, encode
from skydns_compat.names import WILDCARD, Address, Name
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
from skydns_compat.records import NO_PORT, Alias, Exists, Host, Pointer, Port, Record, Text

#: Key of SkyDNS's own settings, directly below the prefix.
CONFIG = "config"
#: Name of SkyDNS's name servers, relative to the domain.
NAME_SERVERS = ("ns", "dns")

_WRAP = 65536
# More labels than a name can have.
_DEPTHS = 128
#: Maximum length of a CNAME chain.
MAX_LINKS = 8
#: Names of fewer labels are never sent to the upstream.
NDOTS = 2
# What a read may raise.
_UNREADABLE = (NoSuchKey, MalformedMessage, NotADirectoryError)


class ServerSettings(msgspec.Struct, frozen=True, omit_defaults=True):
    """SkyDNS's settings at ``/PREFIX/config``, with its own defaults; times in seconds.

    It reads them once, at startup; they override its flags.
    """

    domain: str = ""
    hostmaster: str = "hostmaster.skydns.local"
    dns_addr: str = ""
    """Its listener, ``ADDRESS:PORT``; empty for its default, 127.0.0.1:53."""
    nameservers: tuple[str, ...] = ()
    """Its upstreams, ``ADDRESS:PORT`` each; empty: those of its /etc/resolv.conf."""
    ttl: int = 3600
    """For a message without one."""
    min_ttl: int = 60
    """For negative answers."""
    owner: str = ""


class SkydnsLayout(Layout):
    """The keys of records in etcd for SkyDNS: under ``prefix``, marked as ``owner``'s.

    >>> SkydnsLayout().key(Name.parse("web.shop.svc.cluster.local"))
    b'/skydns/local/cluster/svc/shop/web'
    """

    def __init__(
        self,
        prefix: str = "/skydns",
        owner: str = "kube2etcd",
        server: ServerSettings | None = None,
        empty: tuple[str, ...] = (),
    ) -> None:
        """``empty``: labels directly below a zone's apex that have no data, but names below them."""
        super().__init__(prefix, owner)
        self._server = server
        self._empty = empty

    def can_follow(self, target: Name) -> bool:
        """Whether reading ``target`` returns only its own data.

        The directories above reverse names have no `group` to hide what is below; a wildcard reads every
        matching name; the settings have no host, which SkyDNS takes for the root.
        """
        return target.labels[-1] != "arpa" and WILDCARD not in target.labels and target.labels != (CONFIG,)

    def entries(self, records: Iterable[Record], zone: Name, above: int = 0) -> dict[bytes, bytes]:
        """Key to value for the records of one object in ``zone``.

        Pass all records of one owner name in one call, since SkyDNS merges what is below a name.
        ``above`` has no effect: nothing rewrites questions.
        """
        made: dict[bytes, bytes] = {}
        hosts: defaultdict[Name, dict[Address, int]] = defaultdict(dict)
        ports: defaultdict[Name, dict[Port, int]] = defaultdict(dict)
        children: defaultdict[Name, set[Address]] = defaultdict(set)
        for record in records:
            name, data, ttl = record.name, record.data, record.ttl
            match data:
                case Host(address):
                    hosts[name][address] = ttl
                    children[Name(name.labels[1:])].add(address)
                case Port() if data.port != NO_PORT:
                    ports[name][data] = ttl
                case Alias(target, follow):
                    # With its own name as host, the alias has no addresses.
                    host = target if follow and self.can_follow(target) else name
                    self._leaf(made, name, Message(host=str(host), ttl=ttl))
                case Pointer(target):
                    # The value itself: PTR questions read no directory.
                    made[self.key(name)] = encode(Message(host=str(target), ttl=ttl, owner=self.owner))
                case Text(text):
                    # Without a host, A questions would take it for the root.
                    self._leaf(made, name, Message(host=str(name), text=text, ttl=ttl))
                case Exists():
                    # Written with the apex, so it stays as long as the domain does.
                    if self._server is not None and f"{name}." == self._server.domain:
                        value = msgspec.json.encode(structs.replace(self._server, owner=self.owner))
                        made[f"{self.prefix}/{CONFIG}".encode()] = value
                    # SkyDNS skips a host that equals the question, and the group hides what is below.
                    for one in (name, *(name.child(label) for label in self._empty if name == zone)):
                        self._leaf(made, one, Message(host=str(one), ttl=ttl))
                case _:
                    pass  # SRV and MX of external domains, which SkyDNS does not serve
        # One leaf for each number and target, however many addresses that has.  It does not answer for the
        # names above, since listings omit segments that begin with `_`.
        for name in ports:
            if name.labels[0].startswith("_"):
                for port, ttl in ports[name].items():
                    self._leaf(made, name, Message(host=str(port.target), port=port.port, ttl=ttl))
        # Headless Services: their addresses and ports are exactly those of the names directly below.
        sums = {
            name
            for name in hosts.keys() & ports.keys()
            if all(port.target != name for port in ports[name]) and hosts[name].keys() == children[name]
        }
        # Endpoints that share an address and a port differ in a priority that is 0 on the wire.
        twins: Counter[tuple[Name, Address, int]] = Counter()
        for name in sorted(hosts.keys() - sums):
            parent = Name(name.labels[1:])
            # SkyDNS makes the target of NS from the whole key, so that leaf must be a name that resolves.
            askable = name.below(zone) and name.relative(zone) == NAME_SERVERS
            for address, ttl in hosts[name].items():
                # One leaf for each port of the name, for SRV at the name.
                own = {one.port for one in ports[name] if one.target == name and one.via in (None, address)}
                for number in sorted(own or {0}):
                    place = (parent, address, number)
                    message = Message(host=address, port=number, ttl=ttl, targetstrip=1)
                    self._leaf(made, name, message, twins[place], askable)
                    twins[place] += parent in sums
        return made

    def _leaf(
        self,
        made: dict[bytes, bytes],
        name: Name,
        message: Message,
        twin: int = 0,
        askable: bool = False,
    ) -> None:
        # Of two values with equal host, port, priority, weight and text SkyDNS drops one before it compares
        # groups.  So the priority encodes the depth: a multiple of 65536 is 0 on the wire.
        depth = len(name.labels)
        content = f"{message.host} {message.port} {message.text}"
        digest = hashlib.sha256(content.encode()).hexdigest()[:10]
        made[self.key(name, f"n{digest}" if askable else f"H{digest}")] = encode(
            structs.replace(
                message, priority=_WRAP * (depth + _DEPTHS * twin), group=f"a{depth}", owner=self.owner
            )
        )


def skydns_answer(
    entries: Mapping[bytes, bytes],
    domain: Name,
    qname: Name | str,
    qtype: str,
    prefix: str = "/skydns",
) -> Answer:
    """SkyDNS's answer for ``domain``; REFUSED also stands for a question that it sends upstream.

    ``qname`` as text may contain what a `Name` cannot (wildcards).  To an alias or SRV record that leads out
    of ``domain`` the upstream adds nothing.
    """
    keys = _Keys(entries, prefix)
    server = _Server(keys, absolute(str(domain)), keys.settings())
    return server.ask(absolute(str(qname)), qtype.upper())


class _Keys(Entries):
    """Keys as etcd's v2 API lists them: those below a hidden segment only if the question is below it too."""

    def settings(self) -> ServerSettings:
        """SkyDNS's own settings; the defaults if they are missing or malformed."""
        value = self.values.get(f"{self.prefix}/{CONFIG}".encode(), b"{}")
        with suppress(msgspec.DecodeError):
            return msgspec.json.decode(value, type=ServerSettings)
        return ServerSettings()

    def read(self, name: str, *, exact: bool = False, texts: bool = True) -> list[Found]:
        """The value at ``name``, or unless ``exact`` what its directory lists.

        :raises NoSuchKey: there is neither.
        :raises NotADirectoryError: a key above holds a value.
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
        # The first of values that are equal in these fields, whatever their groups and keys.
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

    def ask(self, name: str, qtype: str) -> Answer:
        if qtype == "ANY":
            return Answer("REFUSED")
        # Below ip6.arpa it ignores the type.
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
        """The value at exactly this name; other reverse names go to the upstream."""
        with suppress(*_UNREADABLE):
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
        """One record for the host of each entry."""
        return [self.record(name, qtype, one, printed(one.message.host)) for one in found]

    def addresses(self, name: str, types: tuple[str, ...], links: tuple[str, ...] = ()) -> list[Rr]:
        """Addresses in the directory of ``name``, following CNAME; ``links`` are the names on the way."""
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
        """The records of an alias's target; None if the alias is left out."""
        with suppress(*_UNREADABLE):
            return self.addresses(printed(target), types, links) or None
        return None if below(target, self.domain) or len(split(target)) < NDOTS else []

    def services(self, name: str) -> tuple[list[Rr], list[Rr]]:
        answers: list[Rr] = []
        additional: list[Rr] = []
        for one, weight in shares(self.keys.read(name)):
            target = one.target()
            data = f"{one.priority & 0xFFFF} {weight} {one.message.port & 0xFFFF} {target}"
            answers.append(self.record(name, "SRV", one, data))
            if one.address is not None:
                additional.append(self.record(target, one.kind, one, str(one.address)))
            elif below(target, self.domain):
                with suppress(*_UNREADABLE):
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
    """REFUSED in place of the upstream's answer; SERVFAIL for a name too short to forward."""
    return Answer("REFUSED" if len(split(name)) >= NDOTS else "SERVFAIL")
