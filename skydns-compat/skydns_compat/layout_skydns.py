"""Records to etcd entries for classic SkyDNS, which reads etcd's v2 keys: kube2sky's layout.  Pure.

A directory cannot hold a value, so every name is a directory with *leaves* in it, and nothing rewrites
questions.  A leaf is a hash of its content behind `H`: in upper case it is no name of a question.  That of a
name server begins with `n`: NS shows it, so it must be one.  skydns-compat/README.md has the rules of the
reader.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

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


@dataclass(slots=True)
class _Owner:
    """What the records say of one owner name."""

    hosts: dict[Address, int] = field(default_factory=dict)
    ports: dict[Port, int] = field(default_factory=dict)


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
        owners: dict[Name, _Owner] = {}
        for record in records:
            name, data, ttl = record.name, record.data, record.ttl
            match data:
                case Host(address):
                    owners.setdefault(name, _Owner()).hosts[address] = ttl
                case Port() if data.port != NO_PORT:
                    owners.setdefault(name, _Owner()).ports[data] = ttl
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
        sums = _sums(owners)
        twins: Counter[tuple[Name, Address, int]] = Counter()
        for name in sorted(owners):
            if name.labels[0].startswith("_"):
                # One leaf for each number and target, whatever addresses that has.  It does not show at the
                # names above: listings leave out segments that begin with `_`.
                for port, ttl in owners[name].ports.items():
                    self._leaf(made, name, Message(host=str(port.target), port=port.port, ttl=ttl))
            elif name not in sums:
                parent = Name(name.labels[1:])
                self._hosts(made, name, owners[name], zone, twins if parent in sums else Counter())
        return made

    def _hosts(
        self,
        made: dict[bytes, bytes],
        name: Name,
        owner: _Owner,
        zone: Name,
        twins: Counter[tuple[Name, Address, int]],
    ) -> None:
        """Addresses, each once for every port of the name, so that SRV at the name has them too."""
        # The target of NS is made from the whole key, so that leaf must be a name one can ask for.
        askable = name.below(zone) and name.relative(zone) == NAME_SERVERS
        for address, ttl in owner.hosts.items():
            served = {
                port.port for port in owner.ports if port.target == name and port.via in (None, address)
            }
            for number in sorted(served or {0}):
                # Endpoints that share an address and a port are told apart by a priority that is 0 as well.
                place = (Name(name.labels[1:]), address, number)
                message = Message(host=address, port=number, ttl=ttl, targetstrip=1)
                self._leaf(made, name, message, twins[place], askable)
                twins[place] += 1

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


def _sums(owners: dict[Name, _Owner]) -> set[Name]:
    """Names whose addresses and ports are just those of the names right below them: headless Services."""
    below: dict[Name, set[Address]] = {}
    for name, owner in owners.items():
        below.setdefault(Name(name.labels[1:]), set()).update(owner.hosts)
    return {
        name
        for name, owner in owners.items()
        if owner.hosts
        and owner.ports
        and all(port.target != name for port in owner.ports)
        and set(owner.hosts) == below.get(name)
    }
