"""Records to entries for names that nest to any depth, each with any data: external domains.

A question reads the whole subtree of its name, so what a name has itself must lie where no other
name's data are.  `Layout.entries` tells depths apart by groups, which needs names of a known shape.
Here every name's data lie under a label of their own, ``own_``, and the Corefile asks for that:

    a.b.example.  ->  own_.a.b.example.  ->  /skydns/example/b/a/own_ and what is below it

So a question costs what its name has, never what lies below; foreign keys cannot show in an answer or
spoil one; and no key is ever the same as one that `Layout.entries` makes.  Names of other people never
hold the label: it ends in an underscore.

What the reader gives for a type is kept from other types: the host of an SRV or MX entry is written
below the name itself, where A passes over it, and the Corefile takes that tail off again.  A PTR
record alone shows as another type too (CNAME), and a CNAME shows for PTR.

Every key is a function of its content.  Pure; knows no Kubernetes and nobody's API.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from skydns_compat.layout import ALIAS, GUARD, OWN, PRIORITY_ZERO, Layout
from skydns_compat.message import Message, encode
from skydns_compat.names import WILDCARD, Name
from skydns_compat.records import NO_PORT, Alias, Host, Mail, Pointer, Record, Srv, Text

#: Between the target of an SRV or MX record and the name that has the record.
TARGET = "tgt_"


def own_name(name: Name) -> Name:
    """Where the data of ``name`` are asked for; not checked for its length."""
    return Name((OWN, *name.labels))


def fits(name: Name) -> bool:
    """Whether ``name`` can be asked for: the label in front needs room, and no label is a wildcard."""
    return len(str(name)) <= MAX_QUESTION and WILDCARD not in name.labels


#: Longest name that still is one with the label in front (RFC 1035 section 2.3.4).
MAX_QUESTION = 253 - len(OWN) - 1
#: Longest target of SRV and MX together with the name that has it.
MAX_TARGET = MAX_QUESTION - len(TARGET) - 2


def target_fits(target: Name, name: Name) -> bool:
    """Whether ``name`` can have an SRV or MX record that points to ``target``."""
    return len(str(target)) + len(str(name)) <= MAX_TARGET


@dataclass(slots=True)
class _Weights:
    """The weights of one name's SRV records, by priority."""

    zero: Counter[int] = field(default_factory=Counter)
    more: Counter[int] = field(default_factory=Counter)

    def add(self, one: Srv) -> None:
        (self.more if one.weight else self.zero)[one.priority] += 1

    def of(self, one: Srv) -> int:
        """The weight to write: 0 means 100 to the reader, so beside others it is a hundredth of 1."""
        if not self.zero[one.priority]:
            return one.weight
        if not self.more[one.priority]:
            return 0
        return one.weight * 100 or 1


def nested_entries(layout: Layout, records: Iterable[Record], zone: Name) -> dict[bytes, bytes]:
    """Key to value for the records of one name, or of several, in ``zone``.

    All records of a name come from one call.  Names satisfy `fits`, and `target_fits` for SRV and MX;
    a name with an `Alias` has nothing else, and one `Pointer` at most.
    """
    made: dict[bytes, bytes] = {}
    marker = encode(Message(owner=layout.owner))
    weights: dict[Name, _Weights] = {}
    records = list(records)
    for record in records:
        if isinstance(record.data, Srv):
            weights.setdefault(record.name, _Weights()).add(record.data)
    for record in records:
        own = own_name(record.name)
        at = layout.key(own)
        match record.data:
            case Host(address):
                made.setdefault(at, marker)
                leaf = address.replace(".", "-").replace(":", "-") + "-H"
                made[layout.key(own, leaf)] = _value(layout, host=address, port=NO_PORT, ttl=record.ttl)
            case Alias(target):
                # Twice: questions for CNAME read the one, all others the other.  Without the second they
                # would come to the first in two steps, between which the name may become another type.
                made[at] = made[layout.key(own, ALIAS)] = _value(
                    layout, host=_alias(target, zone), port=NO_PORT, ttl=record.ttl
                )
            case Pointer(target):
                made[at] = _value(layout, host=str(target), port=NO_PORT, ttl=record.ttl)
                made[layout.key(own, GUARD)] = _guard(layout, own)
            case Text(text):
                made.setdefault(at, marker)
                made[layout.key(own, f"T-{_digest(text)}")] = _value(layout, text=text, ttl=record.ttl)
            case Srv(priority, _, port, target):
                made.setdefault(at, marker)
                made[layout.key(own, f"S-{_digest(str(record.data))}")] = _value(
                    layout,
                    host=_target(target, own),
                    port=port,
                    priority=priority or PRIORITY_ZERO,
                    weight=weights[record.name].of(record.data),
                    ttl=record.ttl,
                )
            case Mail(preference, target):
                made.setdefault(at, marker)
                made[layout.key(own, f"X-{_digest(str(record.data))}")] = _value(
                    layout,
                    host=_target(target, own),
                    port=NO_PORT,
                    priority=preference or PRIORITY_ZERO,
                    mail=True,
                    ttl=record.ttl,
                )
            case _:
                # No data, or a port of a Service, which has no place here.
                made.setdefault(at, marker)
    return made


def _alias(target: Name, zone: Name) -> str:
    """What the reader follows: in the zone it goes on by itself, without the Corefile."""
    return str(own_name(target) if target.below(zone) else target)


def _target(target: Name, own: Name) -> str:
    return f"{target}.{TARGET}.{own}"


def _guard(layout: Layout, own: Name) -> bytes:
    """A host below the question is passed over: the name itself then has no addresses."""
    return _value(layout, host=f"m.{own}", port=NO_PORT)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _value(
    layout: Layout,
    host: str = "",
    port: int = 0,
    priority: int = 0,
    weight: int = 0,
    text: str = "",
    mail: bool = False,
    ttl: int = 0,
) -> bytes:
    return encode(
        Message(
            host=host,
            port=port,
            priority=priority,
            weight=weight,
            text=text,
            mail=mail,
            ttl=ttl,
            owner=layout.owner,
        )
    )
