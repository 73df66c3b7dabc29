"""From the state to what is published: usable endpoints by name, and lines for a hosts file.  Pure.

`GET /records` says what was posted; this says what of it names anything.  Bookkeeping is left out, the
addresses of a name win over an alias beside them, and aliases that lead to themselves, directly or in
a ring, become the cluster's address or nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from kube2etcd.external import Domain, Endpoint, is_ownership, plain_name
from kube2etcd.webhook.adjust import ClusterAddress, at_cluster
from kube2etcd.webhook.refusals import addresses, is_wildcard, refusal, unusable_targets
from kube2etcd.webhook.state import State
from skydns_compat.names import Address

_ADDRESSED: Final = ("A", "AAAA")
#: Names that mean this machine to everybody on it.
_LOCAL: Final = frozenset({"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"})


@dataclass(slots=True)
class Published:
    """Endpoints by plain name, and sentences about what is not published."""

    names: dict[str, tuple[Endpoint, ...]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


@dataclass(slots=True)
class HostLines:
    """(name, address) in the order of the file, and sentences about what is not there."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def published(state: State, domains: Iterable[Domain], cluster: ClusterAddress) -> Published:
    """What of ``state`` names something in ``domains``."""
    known = tuple(domains)
    found = Published()
    names: dict[str, list[Endpoint]] = {}
    for _, endpoint in sorted(state.endpoints.items()):
        if is_ownership(endpoint):
            continue
        # Again, since domains may have gone since it was taken in.
        why = refusal(endpoint, known)
        if why:
            found.warnings.append(f"{endpoint.name} {endpoint.record_type} is not published: {why}")
        else:
            names.setdefault(endpoint.name, []).append(endpoint)
    aliases: dict[str, str] = {}
    for name, endpoints in names.items():
        some = [endpoint for endpoint in endpoints if endpoint.record_type == "CNAME"]
        if not some:
            continue
        kept = [] if any(one.record_type in _ADDRESSED for one in endpoints) else some[:1]
        for endpoint in some[len(kept) :]:
            what = "another alias" if kept else "its addresses"
            found.warnings.append(f"{name}: {what} wins over the alias {endpoint.targets[0]}")
        names[name] = kept + [one for one in endpoints if one.record_type != "CNAME"]
        if kept:
            aliases[name] = alias_target(kept[0])
    for name in _in_rings(aliases):
        alias, *others = names[name]
        names[name] = [*at_cluster(alias, cluster), *others]
        if not cluster:
            found.warnings.append(f"{name} leads to itself, and there is no cluster address to stand for it")
    found.names = {name: tuple(endpoints) for name, endpoints in sorted(names.items()) if endpoints}
    return found


def alias_target(endpoint: Endpoint) -> str:
    """The plain name that a CNAME leads to: the first that can be one."""
    unusable = unusable_targets(endpoint)
    return plain_name(next(target for target in endpoint.targets if target not in unusable))


def host_lines(
    names: Mapping[str, Collection[Endpoint]], cluster: ClusterAddress, own: str = ""
) -> HostLines:
    """A hosts file's lines for published ``names``; ``own`` is the name of this machine."""
    found = HostLines()
    never = _LOCAL | {plain_name(own)}
    seen: dict[str, list[Address] | None] = {}
    for name in sorted(names):
        there = _addresses(names, name, seen)
        if there is None:
            continue
        if is_wildcard(name):
            found.warnings.append(f"{name} is not in the hosts file: it takes no wildcards")
        elif name in never:
            found.warnings.append(f"{name} is not in the hosts file: it is this machine")
        elif not (there or cluster):
            found.warnings.append(
                f"{name} is not in the hosts file: the address of its target is not known, and there is no"
                " cluster address"
            )
        else:
            ordered = sorted(set(there or cluster.addresses), key=lambda one: (one.version, int(one)))
            found.lines += [(name, str(address)) for address in ordered]
    return found


def _addresses(
    names: Mapping[str, Collection[Endpoint]], name: str, seen: dict[str, list[Address] | None]
) -> list[Address] | None:
    """The addresses of a name, through aliases; empty: an alias to elsewhere; None: it has neither.

    ``seen`` remembers all that was passed, so that long chains are not walked from each of their links.
    """
    path = []
    at = name
    while at not in seen:
        there = names.get(at, ())
        found = [address for endpoint in there for address in addresses(endpoint)]
        alias = next((endpoint for endpoint in there if endpoint.record_type == "CNAME"), None)
        seen[at] = found or (None if alias is None else [])
        if found or alias is None:
            break
        path.append(at)
        at = alias_target(alias)
    end = seen[at] or []
    seen |= dict.fromkeys(path, end)
    return seen[name]


def _in_rings(aliases: Mapping[str, str]) -> Iterator[str]:
    """The names from which the aliases lead back to the same name, in order."""
    checked: set[str] = set()
    for start in sorted(aliases):
        path: dict[str, int] = {}
        name = start
        while name in aliases and name not in checked and name not in path:
            path[name] = len(path)
            name = aliases[name]
        checked.update(path)
        if name in path:
            yield from sorted(one for one, place in path.items() if place >= path[name])
