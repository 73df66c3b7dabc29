"""Records to etcd entries, such that CoreDNS's ``etcd`` plugin answers exactly those records.

The rules of that reader which shape this module (skydns-compat/README.md has them all):

* a question for addresses or SRV reads the whole subtree of the name, so an entry deep in the tree
  also answers for the names above it; ``group`` says where that must stop: the shortest key's
  group wins, and keys of another group are left out;
* a question for CNAME or PTR reads the exact key only, so every name with children needs a marker
  (a message without data) at its exact key, or it would be NXDOMAIN for those types;
* an SRV target is made from the key, ``targetstrip`` labels shorter;
* a key segment with an upper-case letter can never be asked for, which is what leaves need;
* the labels ``any`` and ``*`` are wildcards: no name here has them (`skydns_compat.names.servable`).

Every leaf is a function of its content: two runs write the same keys.  Pure; knows no Kubernetes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from skydns_compat.message import Message, encode
from skydns_compat.names import Address, InvalidName, Name
from skydns_compat.owners import Owner, hosts_below, is_sum
from skydns_compat.records import NO_PORT, Alias, Exists, Host, Mail, Pointer, Port, Record, Srv, Text

#: Written for SRV priority 0: the reader takes 0 for "not given" and wraps this to 0.
PRIORITY_ZERO = 65536
#: Below a zone: names that exist without data, apart from the tree that their children are in.
#: No object's label ends in an underscore.
EMPTY_NAMES = "nt_"
#: In front of a name that nests: where its own data are (`skydns_compat.nested`).
OWN = "own_"

#: Names that CoreDNS reads for itself, as labels in front of the zone: its NS records, its apex.
RESERVED = (("ns", "dns"), ("apex", "dns"))
#: Leaf of the entry that keeps a name without data from showing what lies below it.
GUARD = "M"


#: Leaf of an alias.
ALIAS = "C"
#: Group of ports whose entries must not show at the names above them.
_NAMED = "n"


class _Entry(NamedTuple):
    """An address entry to be: ``strip`` labels are cut from the SRV target that its key makes."""

    address: Address
    port: int
    ttl: int
    strip: int
    group: str


class Layout:
    """Where records live in etcd: under ``prefix``, marked as ``owner``'s.

    >>> Layout().key(Name.parse("web.shop.svc.cluster.local"))
    b'/skydns/local/cluster/svc/shop/web'
    """

    def __init__(self, prefix: str = "/skydns", owner: str = "kube2etcd") -> None:
        self.prefix = "/" + prefix.strip("/")
        self.owner = owner
        self._marker = encode(Message(owner=owner))

    def key(self, name: Name, leaf: str = "") -> bytes:
        """The exact key of ``name``, or the key of its technical child ``leaf``."""
        path = "/".join(reversed(name.labels))
        return f"{self.prefix}/{path}/{leaf}".encode() if leaf else f"{self.prefix}/{path}".encode()

    def zone_range(self, zone: Name) -> bytes:
        """The prefix that every key below ``zone`` begins with; the apex is that without its slash."""
        return self.key(zone) + b"/"

    def name(self, key: bytes) -> Name | None:
        """The name that ``key`` is about, its technical leaf left out; ``None`` for a foreign shape."""
        try:
            head, _, path = key.decode().partition(self.prefix + "/")
            labels = path.split("/")
            if head or not path:
                return None
            if labels[-1] != labels[-1].lower():
                labels.pop()
            labels = [label for label in labels if label not in (EMPTY_NAMES, OWN)]
            return Name.parse(".".join(reversed(labels)))
        except (UnicodeDecodeError, InvalidName):
            return None

    def entries(self, records: Iterable[Record], zone: Name, above: int = 0) -> dict[bytes, bytes]:
        """Key to value for the records of one object in ``zone``.

        Records of one owner name come from one call, since the reader mixes what lies below a name.
        Repeated SRV records are kept: their number decides the weights that the server computes.
        Names of at most ``above`` labels below the zone stand above whole trees: what they have
        is kept aside, where the Corefile asks for it.
        """
        made: dict[bytes, bytes] = {}
        owners: dict[Name, Owner] = {}
        for record in records:
            if above and 0 < len(record.name.labels) - len(zone.labels) <= above:
                aside = _aside(record.name, zone)
                made[self.key(aside)] = self._marker
                if isinstance(record.data, Exists):
                    continue
                record = Record(aside, record.data, record.ttl)
            self._place(record, zone, made, owners)
        for name in owners:
            made[self.key(name)] = self._marker
        below = hosts_below(owners)
        for name, owner in owners.items():
            children = below.get(name, {})
            if owner.hosts and not is_sum(name, owner, children):
                self._own_hosts(name, owner, owners, bool(children), made)
            self._targets_elsewhere(name, owner, owners, made)
        return made

    def _place(self, record: Record, zone: Name, made: dict[bytes, bytes], owners: dict[Name, Owner]) -> None:
        """Put the kinds that need one key; collect hosts and ports, which need each other."""
        name, data, ttl = record.name, record.data, record.ttl
        match data:
            case Host(address, order):
                owner = owners.setdefault(name, Owner())
                owner.hosts[address] = ttl
                if order is not None:
                    owner.order[address] = order
            case Port():
                owners.setdefault(name, Owner()).ports.append((data, ttl))
            case Alias(target, follow):
                # Twice: questions for CNAME read the exact key, all others the leaf.  Without the leaf those
                # would come to the exact key in a second read, when the name may have become another type.
                made[self.key(name)] = self._value(host=str(target), port=NO_PORT, ttl=ttl)
                # A host below the question is passed over: the name then has no addresses.
                made[self.key(name, ALIAS)] = self._value(
                    host=str(target) if follow else f"m.{name}", port=NO_PORT, ttl=ttl
                )
            case Pointer(target):
                made[self.key(name)] = self._value(host=str(target), ttl=ttl)
            case Text(text):
                owners.setdefault(name, Owner())
                made[self.key(name, "T")] = self._value(text=text, ttl=ttl)
            case Srv() | Mail():
                raise ValueError(f"{record}: only names that nest can have this")
            case _:
                self._exists(name, zone, data.guarded, made)

    def _exists(self, name: Name, zone: Name, among: bool, made: dict[bytes, bytes]) -> None:
        """A name without data: a marker where the question for it arrives."""
        if name == zone:
            made[self.key(zone)] = self._marker
            made[self.key(zone.child("apex", "dns"))] = self._marker
        elif among:
            made[self.key(name)] = self._marker
            if name.relative(zone) not in RESERVED:
                # A host below the question is passed over, and the group hides what lies deeper.
                made[self.key(name, GUARD)] = self._value(host=f"m.{name}", port=NO_PORT, group=_group(name))
        else:
            made[self.key(_aside(name, zone))] = self._marker

    def _own_hosts(
        self,
        name: Name,
        owner: Owner,
        owners: dict[Name, Owner],
        crowded: bool,
        made: dict[bytes, bytes],
    ) -> None:
        """Entries for a name with addresses of its own.

        A named port's entry lies two levels deeper and serves the name itself too, unless the
        subtree holds other addresses (``crowded``): then the name gets entries right below it.
        """
        rest = Counter((port.port, port.via) for port, _ in owner.ports if port.target == name)
        group = _group(name)
        for other, about in owners.items():
            if other.labels[2:] != name.labels or not other.labels[0].startswith("_"):
                continue
            seen: Counter[tuple[int, Address]] = Counter()
            for port, ttl in about.ports:
                if port.target != name:
                    continue
                if not crowded and rest[port.port, port.via] > 0:
                    rest[port.port, port.via] -= 1
                for address in [port.via] if port.via else list(owner.hosts):
                    entry = _Entry(address, port.port, ttl, 3, _NAMED if crowded else group)
                    self._host(other, entry, owner, seen, made)
        seen = Counter()
        for (number, via), count in sorted(rest.items(), key=lambda item: (item[0][0], str(item[0][1]))):
            for _ in range(count):
                for address in [via] if via else list(owner.hosts):
                    entry = _Entry(address, number, owner.hosts.get(address, 0), 1, group)
                    self._host(name, entry, owner, seen, made)
        served = {port.via for port, _ in owner.ports if port.target == name}
        for address, ttl in owner.hosts.items():
            if None not in served and address not in served:
                self._host(name, _Entry(address, NO_PORT, ttl, 1, group), owner, seen, made)

    def _host(
        self,
        name: Name,
        entry: _Entry,
        owner: Owner,
        seen: Counter[tuple[int, Address]],
        made: dict[bytes, bytes],
    ) -> None:
        """One address entry; a repeated one gets its number, since repetition decides weights."""
        address, port = entry.address, entry.port
        seen[port, address] += 1
        text = str(address)
        leaf = text.replace(".", "-").replace(":", "-") + ("-H" if port == NO_PORT else f"-P{port}")
        if address in owner.order:
            leaf = f"{owner.order[address]:02}-{leaf}"
        if seen[port, address] > 1:
            leaf += f"-{seen[port, address]}"
        made[self.key(name, leaf)] = self._value(
            host=text,
            port=port,
            priority=PRIORITY_ZERO,
            ttl=entry.ttl,
            targetstrip=entry.strip,
            group=entry.group,
        )

    def _targets_elsewhere(
        self, name: Name, owner: Owner, owners: dict[Name, Owner], made: dict[bytes, bytes]
    ) -> None:
        """SRV whose target is a name below the service.

        The addresses stand under the target's own label below the port's name, so the server makes
        the target ``endpoint._port._proto.service``, which the Corefile's rewrite shortens to
        ``endpoint.service``.  A target as host would cost a read for each endpoint, and leave the
        additional section without AAAA and the A question with a CNAME for each.
        """
        if not name.labels[0].startswith("_"):
            return
        seen: dict[Name, Counter[tuple[int, Address]]] = {}
        for port, ttl in owner.ports:
            target = port.target
            if target.labels == name.labels[2:]:
                continue
            counter = seen.setdefault(target, Counter())
            at = Name((target.labels[0], *name.labels))
            for address in [port.via] if port.via else list(owners[target].hosts):
                entry = _Entry(address, port.port, ttl, 1, _NAMED)
                self._host(at, entry, owners[target], counter, made)

    def _value(
        self,
        host: str = "",
        port: int = 0,
        priority: int = 0,
        text: str = "",
        ttl: int = 0,
        targetstrip: int = 0,
        group: str = "",
    ) -> bytes:
        return encode(
            Message(
                host=host,
                port=port,
                priority=priority,
                text=text,
                ttl=ttl,
                targetstrip=targetstrip,
                group=group,
                owner=self.owner,
            )
        )


def _group(name: Name) -> str:
    """The group of a name's own entries; names of another depth have another one."""
    return f"a{len(name.labels)}"


def _aside(name: Name, zone: Name) -> Name:
    return Name((*name.relative(zone), EMPTY_NAMES, *zone.labels))
