"""Records to etcd entries for external domains, whose names have any depth and records of any type.

A question reads the whole subtree of its name.  `Layout.entries` keeps names apart by groups, which requires
known depths.  Here each name's data are below an extra label, ``own_``, which the Corefile prepends to the
question:

    a.b.example.  ->  own_.a.b.example.  ->  /skydns/example/b/a/own_ and what is below it

So a question reads only its name's keys, foreign keys below a name do not appear in its answers, and no key
equals one of `Layout.entries`.  No other name has the label, since it ends in an underscore.  Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from msgspec import structs

from skydns_compat.layout import ALIAS, GUARD, OWN, PRIORITY_ZERO, Layout
from skydns_compat.message import Message, encode
from skydns_compat.names import MAX_NAME, WILDCARD, Name
from skydns_compat.records import NO_PORT, Alias, Exists, Host, Mail, Pointer, Record, Srv, Text

#: Between the target of an SRV or MX record and the record's own name.
TARGET = "tgt_"
#: Longest name with room for the label in front.
MAX_QUESTION = MAX_NAME - len(OWN) - 1
#: Longest target of SRV and MX together with the name that has the record.
MAX_TARGET = MAX_QUESTION - len(TARGET) - 2


def own_name(name: Name) -> Name:
    """Where the Corefile asks for the data of ``name``; its length is not checked."""
    return Name((OWN, *name.labels))


def fits(name: Name) -> bool:
    """Whether ``name`` can be asked for: there is room for the label, and no label is a wildcard."""
    return len(str(name)) <= MAX_QUESTION and WILDCARD not in name.labels


def target_fits(target: Name, name: Name) -> bool:
    """Whether ``name`` can have an SRV or MX record that points to ``target``."""
    return len(str(target)) + len(str(name)) <= MAX_TARGET


def external_entries(layout: Layout, records: Iterable[Record], zone: Name) -> dict[bytes, bytes]:
    """Key to value for the records of one name, or of several, in ``zone``.

    Pass all records of a name in one call.  Names satisfy `fits`, and `target_fits` for SRV and MX; a name
    with an `Alias` has nothing else, and one `Pointer` at most.
    """
    made: dict[bytes, bytes] = {}
    records = list(records)
    weighted = {
        (one.name, one.data.priority, bool(one.data.weight)) for one in records if isinstance(one.data, Srv)
    }
    for record in records:
        name, data, ttl = record.name, record.data, record.ttl
        own = own_name(name)
        made.setdefault(layout.key(own), encode(Message(owner=layout.owner)))
        leaves: dict[str, Message] = {}
        match data:
            case Host(address):
                leaf = address.replace(".", "-").replace(":", "-")
                leaves[f"{leaf}-H"] = Message(address, NO_PORT, ttl=ttl)
            case Alias(target):
                # Twice: questions for CNAME read the first, all others the second.  Without it they would
                # take two reads to the first, and the name may change in between.
                # The server follows an alias within the zone by its keys, past the Corefile.
                followed = own_name(target) if target.below(zone) else target
                leaves[""] = leaves[ALIAS] = Message(str(followed), NO_PORT, ttl=ttl)
            case Pointer(target):
                leaves[""] = Message(str(target), NO_PORT, ttl=ttl)
                # The server skips a host below the question, so the name has no addresses.
                leaves[GUARD] = Message(f"m.{own}", NO_PORT)
            case Text(text):
                leaves[f"T-{_digest(text)}"] = Message(text=text, ttl=ttl)
            case Srv(priority, weight, port, target):
                if (name, priority, False) in weighted and (name, priority, True) in weighted:
                    # The server reads 0 as 100, so it becomes a hundredth of 1 beside others.
                    weight = weight * 100 or 1
                host = _passed_over(target, own)
                leaves[f"S-{_digest(str(data))}"] = Message(
                    host, port, priority or PRIORITY_ZERO, weight, ttl=ttl
                )
            case Mail(preference, target):
                host = _passed_over(target, own)
                leaves[f"X-{_digest(str(data))}"] = Message(
                    host, NO_PORT, preference or PRIORITY_ZERO, mail=True, ttl=ttl
                )
            case Exists():
                pass  # the marker alone
            case _:
                raise ValueError(f"{record}: only names of Services can have this")
        for leaf, message in leaves.items():
            made[layout.key(own, leaf)] = encode(structs.replace(message, owner=layout.owner))
    return made


def _passed_over(target: Name, own: Name) -> str:
    """A host below the question, so that A and AAAA skip it; the Corefile cuts the suffix."""
    return f"{target}.{TARGET}.{own}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
