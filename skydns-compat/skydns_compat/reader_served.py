"""The answer of a whole server: the entries, and the Corefile's rules in front of them.

Reads the same `skydns_compat.corefile.Block` data from which the Corefile's text is made.  Leaves
out what does not change the meaning of an answer: cache, order of addresses, the SOA of a negative.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from skydns_compat.corefile import ANY_TYPE, Block, Rewrite, Template
from skydns_compat.names import InvalidAddress, Name, parse_address
from skydns_compat.reader import Answer, Entries, Rcode, Rr, answer
from skydns_compat.reader_entries import absolute, below

#: Who answers for other names: (name, type) -> its answer.
Upstream = Callable[[str, str], Answer]

_NAMED = frozenset({"CNAME", "MX", "NS", "PTR", "SRV"})
_CONDITION = re.compile(r"{{ if \.Group\.(\w+) }}(.*?){{ end }}")
_VARIABLE = re.compile(r"{{ \.(?:(Name)|Group\.(\w+)) }}")
_RCODES: dict[str, Rcode] = {"NOERROR": "NOERROR", "NXDOMAIN": "NXDOMAIN", "SERVFAIL": "SERVFAIL"}
_LAST_WORD = re.compile(r"\S+$")
_QUOTED = re.compile(r"\\Q(.*?)\\E")


class EndlessQuestionError(RuntimeError):
    """Two zones of one server lead to each other by CNAME: it goes round for ever and never answers."""


def refused(_name: str, _qtype: str) -> Answer:
    """No upstream at all: the server has no block for such names."""
    return Answer("REFUSED")


def served_answer(
    entries: Entries, blocks: Sequence[Block], qname: Name | str, qtype: str, upstream: Upstream = refused
) -> Answer:
    """What a server with ``blocks`` as its Corefile says when etcd holds ``entries``."""
    return _Server(entries, tuple(blocks), upstream).ask(absolute(str(qname)), qtype.upper())


@dataclass(frozen=True, slots=True)
class _Server:
    entries: Entries
    blocks: tuple[Block, ...]
    upstream: Upstream
    asked: tuple[tuple[str, str], ...] = ()

    def ask(self, name: str, qtype: str) -> Answer:
        zones = [(zone, block) for block in self.blocks for zone in block.zones if below(name, str(zone))]
        if not zones:
            return self.upstream(name, qtype)
        _, block = max(zones, key=lambda each: len(each[0].labels))
        if block.only_types and qtype not in block.only_types:
            return Answer("NOERROR")
        rewritten, reverts = _rewritten(name, block.rewrites)
        given = _by_template(block.templates, rewritten.lower(), qtype) or self.stored(
            block, rewritten, qtype
        )
        for revert in reverts:
            given = replace(
                given,
                answers=tuple(map(revert, given.answers)),
                additional=tuple(map(revert, given.additional)),
            )
        return given

    def stored(self, block: Block, name: str, qtype: str) -> Answer:
        """What the etcd plugin behind the rules says; unknown names may go on to the upstream."""
        zone = max(
            (zone for zone in block.backend if below(name, str(zone))), key=lambda zone: len(zone.labels)
        )
        inner = replace(self, asked=(*self.asked, (name.lower(), qtype)))
        given = answer(self.entries, zone, name, qtype, inner.elsewhere)
        if given.rcode == "NXDOMAIN" and block.fallthrough:
            return self.upstream(name, qtype)
        return given

    def elsewhere(self, name: str, qtype: str) -> Sequence[Rr]:
        """A name outside the zone is asked here again, from the first rule on."""
        if (name.lower(), qtype) in self.asked:
            raise EndlessQuestionError(" -> ".join(each for each, _ in (*self.asked, (name, qtype))))
        return self.ask(name, qtype).answers


def _rewritten(name: str, rewrites: Sequence[Rewrite]) -> tuple[str, list[Callable[[Rr], Rr]]]:
    """The name that is asked for instead, and how the records come back, the last change first."""
    reverts: list[Callable[[Rr], Rr]] = []
    for rewrite in rewrites:
        match = _search(rewrite.pattern, name.lower())
        if match is None:
            continue
        before, name = name, _expanded(rewrite.replacement, match)
        if rewrite.back is None:
            reverts.insert(0, _rename_owner(name, before))
            if not rewrite.then:
                break
            continue
        reverts.insert(0, _rename_all(*rewrite.back))
    return name, reverts


def as_python(pattern: str) -> str:
    """An RE2 expression of the rules for Python, which has no ``\\Q…\\E``."""
    return _QUOTED.sub(lambda quoted: re.escape(quoted[1]), pattern)


def _search(pattern: str, name: str) -> re.Match[str] | None:
    return re.search(as_python(pattern), name)


def _expanded(replacement: str, match: re.Match[str]) -> str:
    return re.sub(r"{(\d)}", lambda number: match[int(number[1])] or "", replacement)


def _rename_owner(name: str, before: str) -> Callable[[Rr], Rr]:
    """``answer auto``: the name comes back wherever it stands, in targets and within longer names too."""

    def revert(record: Rr) -> Rr:
        data = record.data
        if record.rtype in _NAMED:
            data = _LAST_WORD.sub(lambda last: last[0].replace(name, before), data)
        return replace(record, name=record.name.replace(name, before), data=data)

    return revert


def _rename_all(pattern: str, replacement: str) -> Callable[[Rr], Rr]:
    def renamed(name: str) -> str:
        match = _search(pattern, name.lower())
        return _expanded(replacement, match) if match else name

    def revert(record: Rr) -> Rr:
        data = record.data
        if record.rtype in _NAMED:
            data = _LAST_WORD.sub(lambda last: renamed(last[0]), data)
        return replace(record, name=renamed(record.name), data=data)

    return revert


def _by_template(templates: Sequence[Template], name: str, qtype: str) -> Answer | None:
    for template in templates:
        if template.types != ANY_TYPE and qtype not in template.types:
            continue
        for pattern in template.patterns:
            match = _search(pattern, name)
            if match is not None:
                return _filled(template, name, match)
    return None


def _filled(template: Template, name: str, match: re.Match[str]) -> Answer:
    if not template.answer:
        return Answer(_RCODES[template.rcode])
    groups = match.groupdict()
    text = _CONDITION.sub(lambda part: part[2] if groups.get(part[1]) else "", template.answer)
    text = _VARIABLE.sub(lambda part: name if part[1] else groups.get(part[2]) or "", text)
    owner, ttl, _, rtype, data = text.split(" ", 4)
    try:
        return Answer(_RCODES[template.rcode], (Rr(owner, rtype, int(ttl), str(parse_address(data))),))
    except InvalidAddress:
        return Answer("SERVFAIL")
