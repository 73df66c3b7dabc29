"""The answer to a question, and the reasons for it.

The answer comes from the model of the reader over entries, the same that tests hold equal to the real
server.  Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from kube2etcd.inspect.explain.why import Why
from kube2etcd.inspect.listing import Row
from kube2etcd.sync.publisher import Publisher
from skydns_compat.corefile import Block
from skydns_compat.names import Name, parse_address, reverse_name
from skydns_compat.reader import Answer, Entries
from skydns_compat.reader_served import served_answer

#: Types that are asked for when none is given and the name has no records.
USUAL = ("A",)
#: Types that a name may have records of, in the order in which they are explained.
TYPES = ("A", "AAAA", "SRV", "CNAME", "PTR", "TXT", "NS", "SOA", "MX")
#: Numbers of the types that the server treats each in its own way (RFC 3597: TYPE28 is AAAA).
_NUMBERS = dict(zip(("1", "28", "33", "5", "12", "16", "2", "6", "15"), TYPES, strict=True)) | {
    "43": "DS",
    "255": "ANY",
}
_OTHER = (
    "ANY CAA CDNSKEY CDS CERT CSYNC DNAME DNSKEY DS EUI48 EUI64 HINFO HTTPS LOC NAPTR NSEC NSEC3 NSEC3PARAM"
    " OPENPGPKEY RP RRSIG SMIMEA SPF SSHFP SVCB TLSA URI ZONEMD"
)


#: A server that is asked: (name, type) -> its answer.
Asked: TypeAlias = Callable[[Name, str], Answer]
#: How a server reads keys.
Reads: TypeAlias = Callable[[Mapping[bytes, bytes]], Asked]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is answered to one question, and why."""

    name: str
    rtype: str
    answer: Answer
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.name} {self.rtype}: {meaning(self.answer)}"]
        lines += [f"  {record}" for record in self.answer.answers]
        lines += [f"  with {record}" for record in self.answer.additional]
        lines += [f"why: {reason}" for reason in self.reasons]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, object]:
        """The same for JSON."""
        return {
            "name": self.name,
            "type": self.rtype,
            "rcode": self.answer.rcode,
            "answers": [str(record) for record in self.answer.answers],
            "additional": [str(record) for record in self.answer.additional],
            "reasons": list(self.reasons),
        }


def meaning(answer: Answer) -> str:
    """The outcome in words."""
    if answer.rcode == "NXDOMAIN":
        return "NXDOMAIN (no such name)"
    if answer.rcode == "REFUSED":
        return "not answered from etcd; the upstream is asked, where there is one"
    if answer.rcode != "NOERROR":
        return answer.rcode
    return "NOERROR" if answer.answers else "NODATA (the name exists, without such records)"


def question_name(text: str) -> Name:
    """The name that is asked for; an address stands for its reverse name."""
    try:
        return reverse_name(parse_address(text))
    except ValueError:
        return Name.parse(text)


def question_type(text: str) -> str:
    """The type that is asked for, in capitals; `ValueError` for text that is none."""
    rtype = text.upper()
    number = re.fullmatch(r"TYPE([1-9][0-9]{0,4})", rtype)
    if number and int(number[1]) < 65536:
        return _NUMBERS.get(number[1], rtype)
    if rtype not in _OTHER.split() and rtype not in TYPES:
        raise ValueError(f"{text!r} is no type; write one such as {', '.join(TYPES)}, DS, HTTPS, or TYPE64")
    return rtype


class Explainer:
    """Answers and reasons over what ``publisher`` wants, or over what etcd really holds."""

    def __init__(
        self,
        publisher: Publisher,
        blocks: Sequence[Block],
        existing: Mapping[bytes, bytes] | None = None,
        reads: Reads | None = None,
    ) -> None:
        """``blocks`` are those of CoreDNS, unless ``reads`` says how another server reads keys."""
        self._why = Why(publisher)
        prefix = publisher.layout.prefix

        def served(keys: Mapping[bytes, bytes]) -> Asked:
            entries = Entries(keys, prefix)
            return lambda name, rtype: served_answer(entries, blocks, name, rtype)

        reads = reads or served
        self._wanted = reads(publisher.desired)
        self._existing = None if existing is None else reads(existing)

    def explain(self, name: Name, rtype: str | None = None) -> list[Explanation]:
        """One explanation for each type: the one asked for, else those that the name has."""
        rows = self._why.rows_at(name)
        types = [rtype.upper()] if rtype else self._types(name, rows)
        return [self._explain(name, each, rows) for each in types]

    def _explain(self, name: Name, rtype: str, rows: list[Row]) -> Explanation:
        wanted = self._wanted(name, rtype)
        reasons = list(dict.fromkeys(self._why.reasons(name, rtype, rows, wanted)))
        if any(one.rtype == "HINFO" for one in wanted.answers):
            reasons.insert(0, "ANY has this one answer for every name of the zone (RFC 8482)")
        if self._existing is None:
            return Explanation(f"{name}.", rtype, wanted, tuple(reasons))
        real = self._existing(name, rtype)
        if (real.rcode, set(real.answers)) != (wanted.rcode, set(wanted.answers)):
            reasons.append(
                f"etcd is not equal to the cluster here, which would be {meaning(wanted)}"
                + "".join(f"; {record}" for record in wanted.answers)
                + ": is kube2etcd running, or a plan held? see kube2etcd resync --dry-run"
            )
        return Explanation(f"{name}.", rtype, real, tuple(reasons))

    def _types(self, name: Name, rows: list[Row]) -> list[str]:
        if self._why.is_reverse(name):
            return ["PTR"]
        have = {row.record.rtype for row in rows if row.record.name == name} - {"NODATA"}
        return [rtype for rtype in TYPES if rtype in have] or list(USUAL)
