"""What the records of one call say, by owner name: hosts and ports, which decide about each other's keys.

What it may know: names and records.  What it must never do: know a key.  Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from skydns_compat.names import Address, Name
from skydns_compat.records import Port


@dataclass(slots=True)
class Owner:
    """What the records say of one owner name."""

    hosts: dict[Address, int] = field(default_factory=dict)
    order: dict[Address, int] = field(default_factory=dict)
    ports: list[tuple[Port, int]] = field(default_factory=list)


def hosts_below(owners: dict[Name, Owner]) -> dict[Name, dict[Address, None]]:
    """For each name with addresses: those of the names right below it."""
    below: dict[Name, dict[Address, None]] = {}
    for name, owner in owners.items():
        if owner.hosts and len(name.labels) > 1:
            parent = Name(name.labels[1:])
            if parent in owners:
                below.setdefault(parent, {}).update(dict.fromkeys(owner.hosts))
    return below


def is_sum(name: Name, owner: Owner, children: dict[Address, None]) -> bool:
    """Whether the name's addresses and ports are just those of the names below it: headless."""
    targets = [port.target for port, _ in owner.ports]
    return bool(targets) and name not in targets and owner.hosts.keys() == children.keys()
