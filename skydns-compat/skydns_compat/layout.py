"""Records to etcd entries, such that CoreDNS's ``etcd`` plugin answers exactly those records.

The rules of that reader which shape this module (skydns-compat/README.md has them all):

* a question for A, AAAA or SRV reads the whole subtree of the name, so an entry deep in the tree
  also answers for the names above it; ``group`` says where that must stop: the shortest key's
  group wins, and keys of another group are left out;
* a question for CNAME or PTR reads the exact key only, so every name with children needs a marker
  (a message without data) at its exact key, or it would be NXDOMAIN for those types;
* the server makes an SRV target from the key, without its first ``targetstrip`` labels;
* the server lower-cases questions, so none reads a key segment with an upper-case letter: leaves have one;
* the labels ``any`` and ``*`` are wildcards: no name here has them (`skydns_compat.names.servable`).

Every leaf is a function of its content, so two runs write the same keys.  Pure; knows no Kubernetes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from skydns_compat.message import Message, encode
from skydns_compat.names import Address, InvalidName, Name
from skydns_compat.records import NO_PORT, Alias, Exists, Host, Pointer, Port, Record, Text

#: Written for SRV priority 0: the reader takes 0 for "not given" and wraps this to 0.
PRIORITY_ZERO = 65536
#: Label below a zone for markers of names without data, apart from the subtree of their children.
#: No object's label ends in an underscore.
EMPTY_NAMES = "nt_"
#: Label in front of a name of an external domain, for its own data (`skydns_compat.layout_external`).
OWN = "own_"

#: Names that CoreDNS reads for NS and for the apex, relative to the zone.
RESERVED = (("ns", "dns"), ("apex", "dns"))
#: Leaf that keeps a name without data from answering with what is below it.
GUARD = "M"
#: Leaf of an alias.
ALIAS = "C"
#: Group of ports that must not answer for the names above them.
_NAMED = "n"
#: Data whose keys depend on other records of the name or of names next to it.
_DEPENDENT = (Host, Port, Text)
#: Placeholder for the host in a cached value.
_ANY = "0.0.0.0"
#: Limit of cached values without their hosts.
_MAX_AFFIXES = 1024


class _Owner(msgspec.Struct, gc=False):
    """The records of one owner name; ``path`` is its key."""

    name: Name
    path: str
    group: str
    hosts: dict[Address, int] = {}
    order: dict[Address, int] = {}
    ports: list[tuple[Port, int]] = []
    below: set[Address] | None = None
    """The addresses of the names one label below; None without any."""
    named: list[_Owner] = []
    """The owners ``_port._protocol.<name>``."""

    def is_covered_below(self) -> bool:
        """Whether the names one label below have exactly its addresses and ports, as if headless."""
        return (
            bool(self.ports)
            and self.hosts.keys() == self.below
            and all(port.target != self.name for port, _ in self.ports)
        )


class Layout:
    """The keys of records in etcd: under ``prefix``, marked as ``owner``'s.

    >>> Layout().key(Name.parse("web.shop.svc.cluster.local"))
    b'/skydns/local/cluster/svc/shop/web'
    """

    def __init__(self, prefix: str = "/skydns", owner: str = "kube2etcd") -> None:
        self.prefix = "/" + prefix.strip("/")
        self.owner = owner
        self._marker = encode(Message(owner=owner))
        self._affixes: dict[tuple[int, int, int, str], tuple[str, str]] = {}

    def key(self, name: Name, leaf: str = "") -> bytes:
        """The exact key of ``name``, or that of its ``leaf``, which is no label of any name."""
        path = self._path(name)
        return f"{path}/{leaf}".encode() if leaf else path.encode()

    def _path(self, name: Name) -> str:
        return "/".join((self.prefix, *name.labels[::-1]))

    def zone_range(self, zone: Name) -> bytes:
        """The prefix of every key below ``zone``, ending in a slash; without that, it is the apex's key."""
        return self.key(zone) + b"/"

    def name(self, key: bytes) -> Name | None:
        """The name that ``key`` belongs to, without the leaf; None if the key is not of this layout."""
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

    def can_follow(self, _target: Name) -> bool:
        """Whether the server may follow an alias to this target by its keys, even outside the zone."""
        return True

    def entries(self, records: Iterable[Record], zone: Name, above: int = 0) -> dict[bytes, bytes]:
        """Key to value for the records of one object in ``zone``.

        Pass all records of one owner name in one call, since the server merges what is below a name.
        Repeated SRV records are kept: their number decides the weights that the server computes.
        Names of at most ``above`` labels below the zone have whole trees below them: their data go
        below `EMPTY_NAMES`, to which the Corefile rewrites the question.

        :raises ValueError: a record type that only `skydns_compat.layout_external` can lay out.
        """
        made: dict[bytes, bytes] = {}
        owners: dict[tuple[str, ...], _Owner] = {}
        for record in records:
            if above and 0 < len(record.name.labels) - len(zone.labels) <= above:
                aside = _aside(record.name, zone)
                made[self.key(aside)] = self._marker
                if isinstance(record.data, Exists):
                    continue
                record = Record(aside, record.data, record.ttl)
            name, data = record.name, record.data
            if isinstance(data, _DEPENDENT):
                owner = owners.get(name.labels)
                if owner is None:
                    owner = owners[name.labels] = _Owner(name, self._path(name), _group(name))
                if isinstance(data, Port):
                    owner.ports.append((data, record.ttl))
                elif isinstance(data, Host):
                    owner.hosts[data.address] = record.ttl
                    if data.order is not None:
                        owner.order[data.address] = data.order
                else:
                    value = encode(Message(text=data.text, ttl=record.ttl, owner=self.owner))
                    made[self.key(name, "T")] = value
            elif isinstance(data, Pointer):
                before, after = self._affixes_of((0, record.ttl, 0, ""))
                made[self._path(name).encode()] = f"{before}{data.target!s}{after}".encode()
            else:
                self._place(record, zone, made)
        for labels, owner in owners.items():
            made[owner.path.encode()] = self._marker
            if labels[0][0] == "_" and (parent := owners.get(labels[2:])):
                parent.named.append(owner)
            if owner.hosts and (parent := owners.get(labels[1:])):
                if parent.below is None:
                    parent.below = set()
                parent.below.update(owner.hosts)
        repeats: dict[bytes, int] = {}
        for labels, owner in owners.items():
            if owner.hosts and not owner.is_covered_below():
                self._own_hosts(owner, made, repeats)
            if owner.ports and labels[0][0] == "_":
                self._targets_elsewhere(owner, owners, made, repeats)
        return made

    def _place(self, record: Record, zone: Name, made: dict[bytes, bytes]) -> None:
        """Add a record whose keys depend on no other record."""
        name, data, ttl = record.name, record.data, record.ttl
        match data:
            case Alias(target, follow):
                # Twice: questions for CNAME read the exact key, all others the leaf.  Without the leaf, those
                # would need a second read, of the exact key, and the name may change in between.
                # The server skips a host below the question, so the name has no addresses.
                for leaf, host in (("", str(target)), (ALIAS, str(target) if follow else f"m.{name}")):
                    made[self.key(name, leaf)] = encode(Message(host, NO_PORT, ttl=ttl, owner=self.owner))
            case Exists(guarded):
                self._exists(name, zone, guarded, made)
            case _:
                raise ValueError(f"{record}: only names of external domains can have this")

    def _exists(self, name: Name, zone: Name, guarded: bool, made: dict[bytes, bytes]) -> None:
        """A name without data: a marker at the key that its question reads."""
        if name == zone:
            made[self.key(zone)] = self._marker
            made[self.key(zone.child("apex", "dns"))] = self._marker
        elif guarded:
            made[self.key(name)] = self._marker
            if name.relative(zone) not in RESERVED:
                # The server skips a host below the question, and the group hides what is deeper.
                guard = Message(f"m.{name}", NO_PORT, group=_group(name), owner=self.owner)
                made[self.key(name, GUARD)] = encode(guard)
        else:
            made[self.key(_aside(name, zone))] = self._marker

    def _own_hosts(self, owner: _Owner, made: dict[bytes, bytes], repeats: dict[bytes, int]) -> None:
        """Entries for a name with addresses of its own.

        The entry of a named port is two levels deeper and also answers for the name itself, unless the
        subtree has other addresses: then the name gets entries directly below it.
        """
        name, hosts, group, below = owner.name, owner.hosts, owner.group, owner.below
        if not owner.ports and not owner.named:
            for address, ttl in hosts.items():
                self._host(owner.path, address, (NO_PORT, ttl, 1, group), owner, made, repeats)
            return
        own = [(port.port, port.via) for port, _ in owner.ports if port.target == name]
        rest = own
        if owner.named:
            left = Counter(own)
            for other in owner.named:
                for port, ttl in other.ports:
                    if port.target != name:
                        continue
                    if below is None and left[port.port, port.via] > 0:
                        left[port.port, port.via] -= 1
                    shape = (port.port, ttl, 3, group if below is None else _NAMED)
                    for address in [port.via] if port.via else hosts:
                        self._host(other.path, address, shape, owner, made, repeats)
            rest = list(left.elements())
        for number, via in sorted(rest, key=lambda one: (one[0], one[1] or "")) if len(rest) > 1 else rest:
            for address in [via] if via else hosts:
                shape = (number, hosts.get(address, 0), 1, group)
                self._host(owner.path, address, shape, owner, made, repeats)
        served = {via for _, via in own}
        if None not in served:
            for address, ttl in hosts.items():
                if address not in served:
                    self._host(owner.path, address, (NO_PORT, ttl, 1, group), owner, made, repeats)

    def _host(
        self,
        path: str,
        address: Address,
        shape: tuple[int, int, int, str],
        owner: _Owner,
        made: dict[bytes, bytes],
        repeats: dict[bytes, int],
    ) -> None:
        """One address entry below ``path``; repeated ones are numbered, since repetition decides weights.

        ``shape``: port, TTL in seconds, ``targetstrip``, group.
        """
        port = shape[0]
        dashed = address.replace(".", "-").replace(":", "-")
        leaf = f"{dashed}-H" if port == NO_PORT else f"{dashed}-P{port}"
        if owner.order and address in owner.order:
            leaf = f"{owner.order[address]:02}-{leaf}"
        key = f"{path}/{leaf}".encode()
        if key in made:
            number = repeats[key] = repeats.get(key, 1) + 1
            key = f"{path}/{leaf}-{number}".encode()
        before, after = self._affixes.get(shape) or self._affixes_of(shape)
        made[key] = f"{before}{address}{after}".encode()

    def _affixes_of(self, shape: tuple[int, int, int, str]) -> tuple[str, str]:
        """The encoded value of an address or a PTR record (which strips nothing), before and after its host.

        Cached, since most values differ in the host alone; a host needs no JSON escapes.
        """
        around = self._affixes.get(shape)
        if around is None:
            if len(self._affixes) >= _MAX_AFFIXES:
                self._affixes.clear()
            port, ttl, strip, group = shape
            priority = PRIORITY_ZERO if strip else 0
            message = Message(_ANY, port, priority, ttl=ttl, targetstrip=strip, group=group, owner=self.owner)
            before, _, after = encode(message).decode().partition(_ANY)
            around = self._affixes[shape] = (before, after)
        return around

    def _targets_elsewhere(
        self,
        owner: _Owner,
        owners: dict[tuple[str, ...], _Owner],
        made: dict[bytes, bytes],
        repeats: dict[bytes, int],
    ) -> None:
        """SRV whose target is a name below the service.

        The addresses are below the target's own label under the port's name, so the server makes
        the target ``endpoint._port._proto.service``, which the Corefile's rewrite shortens to
        ``endpoint.service``.  A target as host would cost a read for each endpoint, and leave the
        additional section without AAAA and the A question with a CNAME for each.
        """
        service = owner.name.labels[2:]
        for port, ttl in owner.ports:
            target = port.target.labels
            if target == service:
                continue
            at = f"{owner.path}/{target[0]}"
            of = owners[target]
            for address in [port.via] if port.via else of.hosts:
                self._host(at, address, (port.port, ttl, 1, _NAMED), of, made, repeats)


def _group(name: Name) -> str:
    """The group of a name's own entries: it differs by depth, to tell them from those of names below."""
    return f"a{len(name.labels)}"


def _aside(name: Name, zone: Name) -> Name:
    """``name`` moved below `EMPTY_NAMES`, away from the subtree of its children."""
    return Name((*name.relative(zone), EMPTY_NAMES, *zone.labels))
