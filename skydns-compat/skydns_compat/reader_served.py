"""A model of CoreDNS with our Corefile: the rules of `skydns_compat.corefile.Block` in front of the entries.

Not modelled is what does not change the meaning of an answer: the cache, the order of addresses, and the SOA
record of a negative answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from skydns_compat.corefile import Block, Rewrite, Template
from skydns_compat.names import Name, parse_address
from skydns_compat.reader import Answer, Entries, Rr, absolute, answer, below

# A rewrite of the answer: place (``name`` or ``value``), pattern and replacement.
_Revert = tuple[str, str, str]
#: The upstream's answer: (name, type) -> answer.
Upstream = Callable[[str, str], Answer]

# The name in the data of a record.
_WORD = {rtype: re.compile(r"\S+$") for rtype in ("CNAME", "MX", "NS", "PTR", "SRV")} | {
    "SOA": re.compile(r"^\S+")
}


class _EndlessQuestionError(RuntimeError):
    """A question led back to itself."""


def refused(_name: str, _qtype: str) -> Answer:
    """The answer without an upstream: no block serves such names."""
    return Answer("REFUSED")


def served_answer(
    entries: Entries, blocks: Sequence[Block], qname: Name | str, qtype: str, upstream: Upstream = refused
) -> Answer:
    """The answer of a server with the Corefile ``blocks`` and ``entries`` in etcd.

    SERVFAIL if CNAME records of two zones point to each other, since the server queries itself until it gives
    up, and for a chain between zones too long for Python's stack.
    """
    name, qtype = absolute(str(qname)), qtype.upper()
    try:
        return _Server(entries, tuple(blocks), upstream, ((name.lower(), qtype),)).ask(name, qtype)
    except (_EndlessQuestionError, RecursionError):
        return Answer("SERVFAIL")


@dataclass(frozen=True, slots=True)
class _Server:
    entries: Entries
    blocks: tuple[Block, ...]
    upstream: Upstream
    asked: tuple[tuple[str, str], ...]

    def ask(self, name: str, qtype: str) -> Answer:
        # Of two blocks for one zone, the first whose view matches the type.
        zones = {
            zone: block
            for block in reversed(self.blocks)
            for zone in block.zones
            if block.only in ("", qtype) and below(name, str(zone))
        }
        if not zones:
            return self.upstream(name, qtype)
        # DS belongs to the parent (RFC 4035 section 3.1.4.1), so CoreDNS takes the topmost of its zones.
        choose = min if qtype == "DS" else max
        zone = choose(zones, key=lambda each: len(each.labels))
        block = zones[zone]
        if qtype == "ANY" and not block.only:
            return Answer("NOERROR", (Rr(name, "HINFO", 8482, '"ANY obsoleted" "See RFC 8482"'),))
        rewritten, reverts = _rewritten(name, block.rewrites)
        given = _by_template(block.templates, rewritten, qtype) or self.stored(block, zone, rewritten, qtype)
        for revert in reversed(reverts):
            answers, additional = _reverted(given.answers, *revert), _reverted(given.additional, *revert)
            given = Answer(given.rcode, answers, additional)
        return given

    def stored(self, block: Block, zone: Name, name: str, qtype: str) -> Answer:
        """The etcd plugin's answer; missing names may go to the upstream."""
        given = answer(self.entries, zone, name, qtype, self.elsewhere)
        if given.rcode == "NXDOMAIN" and block.fallthrough:
            return self.upstream(name, qtype)
        return given

    def elsewhere(self, name: str, qtype: str) -> Sequence[Rr]:
        """Query the whole server for a name outside the zone."""
        asked = (*self.asked, (name.lower(), qtype))
        if asked[-1] in self.asked:
            raise _EndlessQuestionError
        return replace(self, asked=asked).ask(name, qtype).answers


def _rewritten(name: str, rewrites: Sequence[Rewrite]) -> tuple[str, list[_Revert]]:
    """The rewritten name, and the rewrites of the answer in the order of the rules."""
    reverts: list[_Revert] = []
    for rewrite in rewrites:
        pattern = f"{re.escape(rewrite.pattern)}$" if rewrite.suffix else rewrite.pattern
        match = re.search(pattern, name.lower())
        if match is None:
            continue
        before, name = name, name.lower()[: match.start()] + _expanded(rewrite.replacement, match)
        # Default, ``answer auto``: restore the original name, also at the end of longer names.
        auto = rf"^(.*\.)?{re.escape(name)}$", "{1}" + before
        reverts += rewrite.answers or (("name", *auto), ("value", *auto))
        if not rewrite.then:
            break
    return name, reverts


def _expanded(replacement: str, match: re.Match[str]) -> str:
    return re.sub(r"{(\d)}", lambda number: match[int(number[1])] or "", replacement)


def _reverted(records: Sequence[Rr], place: str, pattern: str, replacement: str) -> tuple[Rr, ...]:
    def renamed(name: str) -> str:
        match = re.search(pattern, name)
        return _expanded(replacement, match) if match else name

    if place == "name":
        return tuple(replace(record, name=renamed(record.name)) for record in records)
    return tuple(
        replace(record, data=_WORD[record.rtype].sub(lambda word: renamed(word[0]), record.data))
        if record.rtype in _WORD
        else record
        for record in records
    )


def _by_template(templates: Sequence[Template], name: str, qtype: str) -> Answer | None:
    name = name.lower()
    for template in templates:
        if template.rtype not in ("ANY", qtype):
            continue
        if template.zone is not None and not below(name, str(template.zone)):
            continue
        for pattern in template.patterns or ("",):
            match = re.search(pattern, name)
            if match is None:
                continue
            if template.address is None:
                return Answer(template.rcode)
            address = match["a"].replace("-", "." if template.rtype == "A" else ":")
            record = Rr(name, template.rtype, template.address, str(parse_address(address)))
            return Answer("NOERROR", (record,))
    return None
