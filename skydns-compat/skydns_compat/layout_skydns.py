"""Records to etcd entries for classic SkyDNS, which reads etcd's v2 keys: kube2sky's layout.  Pure.

A directory cannot hold a value, so every name is a directory with *leaves* in it, and nothing rewrites
questions.  A leaf is a hash of its content behind `H`: in upper case it is no name of a question.  That of a
name server begins with `n`: NS shows it, so it must be one.  skydns-compat/README.md has the rules of the
reader.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable

import msgspec
from msgspec import structs

from skydns_compat.layout import Layout
from skydns_compat.message import Message, encode
from skydns_compat.names import WILDCARD, Address, Name
from skydns_compat.records import NO_PORT, Alias, Exists, Host, Pointer, Port, Record, Text

#: SkyDNS's own settings, right below the prefix.
CONFIG = "config"
#: Where SkyDNS looks for its name servers, as labels in front of the domain.
NAME_SERVERS = ("ns", "dns")

_WRAP = 65536
# More labels than a name can have.
_DEPTHS = 128


class ServerSettings(msgspec.Struct, frozen=True, omit_defaults=True):
    """SkyDNS's settings at ``/PREFIX/config``, with its own defaults; times in seconds.

    It reads them once, when it starts, and prefers them to its flags.
    """

    domain: str = ""
    hostmaster: str = "hostmaster.skydns.local"
    dns_addr: str = ""
    """Where it listens, ``ADDRESS:PORT``; empty for its default, 127.0.0.1:53."""
    nameservers: tuple[str, ...] = ()
    """Its upstreams, ``ADDRESS:PORT`` each; none: those of its /etc/resolv.conf."""
    ttl: int = 3600
    """Of a message without one."""
    min_ttl: int = 60
    """Of negative answers."""
    owner: str = ""


class SkydnsLayout(Layout):
    """Where records live in etcd for SkyDNS: under ``prefix``, marked as ``owner``'s.

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
        """``empty``: labels below a zone's apex that stand above whole trees and have no data."""
        super().__init__(prefix, owner)
        self._server = server
        self._empty = empty

    def can_follow(self, target: Name) -> bool:
        """Whether the keys of ``target`` are the data of that name only.

        The directories above reverse names have no `group` that hides what is below; a wildcard reads every
        name that matches; the settings have no host, which stands for the root.
        """
        return target.labels[-1] != "arpa" and WILDCARD not in target.labels and target.labels != (CONFIG,)

    def entries(self, records: Iterable[Record], zone: Name, above: int = 0) -> dict[bytes, bytes]:
        """Key to value for the records of one object in ``zone``.

        Records of one owner name come from one call, since the reader mixes what lies below a name.
        ``above`` has no effect: nothing rewrites questions.
        """
        made: dict[bytes, bytes] = {}
        hosts: defaultdict[Name, dict[Address, int]] = defaultdict(dict)
        ports: defaultdict[Name, dict[Port, int]] = defaultdict(dict)
        below: defaultdict[Name, set[Address]] = defaultdict(set)
        for record in records:
            name, data, ttl = record.name, record.data, record.ttl
            match data:
                case Host(address):
                    hosts[name][address] = ttl
                    below[Name(name.labels[1:])].add(address)
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
                    # A host of its own keeps A questions from taking the empty host for the root.
                    self._leaf(made, name, Message(host=str(name), text=text, ttl=ttl))
                case Exists():
                    # What comes with the apex stays as long as the domain does.
                    if self._server is not None and f"{name}." == self._server.domain:
                        value = msgspec.json.encode(structs.replace(self._server, owner=self.owner))
                        made[f"{self.prefix}/{CONFIG}".encode()] = value
                    # A host that is the name of the question is skipped, and its group hides what is below.
                    for one in (name, *(name.child(label) for label in self._empty if name == zone)):
                        self._leaf(made, one, Message(host=str(one), ttl=ttl))
                case _:
                    pass  # SRV and MX of external domains, which SkyDNS does not serve
        # One leaf for each number and target, whatever addresses that has.  It does not show at the names
        # above: listings leave out segments that begin with `_`.
        for name in ports:
            if name.labels[0].startswith("_"):
                for port, ttl in ports[name].items():
                    self._leaf(made, name, Message(host=str(port.target), port=port.port, ttl=ttl))
        # Headless Services: their addresses and ports are just those of the names right below them.
        sums = {
            name
            for name in hosts.keys() & ports.keys()
            if all(port.target != name for port in ports[name]) and hosts[name].keys() == below[name]
        }
        # Endpoints that share an address and a port are told apart by a priority that is 0 as well.
        twins: Counter[tuple[Name, Address, int]] = Counter()
        for name in sorted(hosts.keys() - sums):
            parent = Name(name.labels[1:])
            # The target of NS is made from the whole key, so that leaf must be a name one can ask for.
            askable = name.below(zone) and name.relative(zone) == NAME_SERVERS
            for address, ttl in hosts[name].items():
                # Once for every port of the name, so that SRV at the name has them too.
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
        # Of two values with equal host, port, priority, weight and text SkyDNS drops one before it looks at
        # groups.  So the priority tells depths apart: a multiple of 65536 is 0 on the wire.
        depth = len(name.labels)
        content = f"{message.host} {message.port} {message.text}"
        digest = hashlib.sha256(content.encode()).hexdigest()[:10]
        made[self.key(name, f"n{digest}" if askable else f"H{digest}")] = encode(
            structs.replace(
                message, priority=_WRAP * (depth + _DEPTHS * twin), group=f"a{depth}", owner=self.owner
            )
        )
