"""Endpoints by the name that they are about, whichever objects they stand in.

What a name has is looked at as a whole, so the unit is the name and not the object: one object may
hold many names, and one name may stand in many objects.  An alias depends on where it leads to, so the
names that lead to a touched one are touched as well, when the touched one's own way on has changed.
No I/O.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, TypeAlias, TypeVar

from kube2etcd.external import Endpoint, plain_name

#: Who holds endpoints.
Holder = TypeVar("Holder", bound=Hashable)

#: What decides where a name leads to: an alias does, unless the name has addresses.
_DECIDING = frozenset({"A", "AAAA", "CNAME"})
#: Type, targets and TTL: all that makes an endpoint usable or not.
_Said: TypeAlias = tuple[str, tuple[str, ...], int]


class NameIndex(Generic[Holder]):
    """The endpoints of each name, and which names lead to it."""

    def __init__(self) -> None:
        self._names: dict[str, dict[Holder, tuple[Endpoint, ...]]] = {}
        self._leading_to: dict[str, set[str]] = {}

    def names(self) -> Iterable[str]:
        """Every name that an endpoint is about."""
        return self._names.keys()

    def of(self, name: str) -> dict[Holder, tuple[Endpoint, ...]]:
        """The endpoints of a name by who holds them."""
        return self._names.get(name, {})

    def put(
        self, holder: Holder, before: Iterable[Endpoint], after: Iterable[Endpoint], again: bool = False
    ) -> set[str]:
        """Let ``after`` stand for ``before``; the names to look at again.

        ``again``: all of them, since the holder's place among the holders may have changed.
        """
        old, new = _by_name(before), _by_name(after)
        touched = {name for name in old.keys() | new.keys() if again or old.get(name) != new.get(name)}
        turned = [name for name in touched if self._turns(holder, name, new.get(name)) or again]
        return touched | self.followers(turned)

    def _turns(self, holder: Holder, name: str, endpoints: tuple[Endpoint, ...] | None) -> bool:
        """Put in what a holder says of a name; whether the name's way on has changed."""
        before = self._way_on(name)
        there = self._names.setdefault(name, {})
        if endpoints is None:
            there.pop(holder, None)
            if not there:
                del self._names[name]
        else:
            there[holder] = endpoints
        after = self._way_on(name)
        for target in before[1] - after[1]:
            leading = self._leading_to[target]
            leading.discard(name)
            if not leading:
                del self._leading_to[target]
        for target in after[1] - before[1]:
            self._leading_to.setdefault(target, set()).add(name)
        return before != after

    def _way_on(self, name: str) -> tuple[frozenset[_Said], frozenset[str], bool]:
        """What decides where a name leads to, where its aliases lead to, and whether there is anything.

        Addresses decide only beside aliases, and then as they were said: which of them are usable is
        for the source to find out.
        """
        all_ = [one for endpoints in self.of(name).values() for one in endpoints]
        aliases = [one for one in all_ if one.record_type == "CNAME"]
        deciding = [one for one in all_ if one.record_type in _DECIDING] if aliases else []
        return (
            frozenset((one.record_type, one.targets, one.ttl) for one in deciding),
            frozenset(plain_name(to) for one in aliases for to in one.targets),
            bool(all_),
        )

    def followers(self, names: Iterable[str]) -> set[str]:
        """The names that lead to ``names``, over any number of aliases."""
        found: set[str] = set()
        todo = list(names)
        while todo:
            more = self._leading_to.get(todo.pop(), set()) - found
            found |= more
            todo += more
        return found


def _by_name(endpoints: Iterable[Endpoint]) -> dict[str, tuple[Endpoint, ...]]:
    found: dict[str, list[Endpoint]] = {}
    for one in endpoints:
        found.setdefault(one.name, []).append(one)
    return {name: tuple(some) for name, some in found.items()}
