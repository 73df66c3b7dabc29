"""Label selectors, as the API server and kubectl read them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


class InvalidSelector(ValueError):
    """The text is no label selector; the message says which requirement is wrong."""


_KEY = r"[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)?"
_EQUAL = re.compile(rf"({_KEY})\s*(==|=|!=)\s*({_VALUE})\Z")
_SET = re.compile(rf"({_KEY})\s+(in|notin)\s*\(([^()]*)\)\Z")
_EXISTS = re.compile(rf"(!?)\s*({_KEY})\Z")
_PARTS = re.compile(r",(?![^()]*\))")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label; ``values`` None asks for the label alone."""

    key: str
    negated: bool = False
    values: frozenset[str] | None = None

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether ``labels`` fulfil it; a label that is not there fulfils every negated one."""
        if self.values is None:
            return (self.key in labels) != self.negated
        return (labels.get(self.key) in self.values) != self.negated


@dataclass(frozen=True, slots=True)
class Selector:
    """All of its requirements; none at all matches everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether ``labels`` fulfil every requirement."""
        return all(one.matches(labels) for one in self.requirements)

    @classmethod
    def parse(cls, text: str) -> Selector:
        """The selector in ``text``, such as ``tier in (web, api), !hidden``; else `InvalidSelector`."""
        if not text.strip():
            return cls()
        return cls(tuple(_requirement(part.strip()) for part in _PARTS.split(text)))


#: The selector without requirements.
EVERYTHING = Selector()


def _requirement(text: str) -> Requirement:
    if found := _EQUAL.match(text):
        return Requirement(found[1], found[2] == "!=", frozenset({found[3]}))
    if found := _SET.match(text):
        values = frozenset(value.strip() for value in found[3].split(","))
        if all(re.fullmatch(_VALUE, value) for value in values):
            return Requirement(found[1], found[2] == "notin", values)
    elif found := _EXISTS.match(text):
        return Requirement(found[2], bool(found[1]))
    raise InvalidSelector(f"{text!r} is not a label requirement; write key=value, key in (a, b), key or !key")
