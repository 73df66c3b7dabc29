"""Compares two servers' answers to a question and classifies their difference."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from tests.stack.questions import Question


class Record(NamedTuple):
    """A record without its TTL, and in lower case."""

    name: str
    rdtype: str
    data: str


@dataclass(frozen=True)
class Answer:
    """An answer without order, TTLs and letter case, but for the question's case."""

    rcode: str
    answer: frozenset[Record] = frozenset()
    additional: frozenset[Record] = frozenset()
    authority: frozenset[Record] = frozenset()
    flags: str = ""
    question: str = ""
    edns: bool = False

    @property
    def truncated(self) -> bool:
        return "TC" in self.flags.split()


def normalise(message: dns.message.Message) -> Answer:
    """The message as a comparable value."""
    return Answer(
        rcode=dns.rcode.to_text(message.rcode()),
        answer=_records(message.answer),
        additional=_records(message.additional),
        authority=_records(message.authority),
        flags=dns.flags.to_text(message.flags),
        question=" ".join(rrset.to_text() for rrset in message.question),
        edns=message.edns >= 0,
    )


def _records(section: Iterable[dns.rrset.RRset]) -> frozenset[Record]:
    return frozenset(
        Record(
            rrset.name.to_text().lower(), dns.rdatatype.to_text(rrset.rdtype), _data(rrset, item.to_text())
        )
        for rrset in section
        for item in rrset
    )


def _data(rrset: dns.rrset.RRset, text: str) -> str:
    if rrset.rdtype == dns.rdatatype.TXT:
        return text
    if rrset.rdtype == dns.rdatatype.SOA:  # without the serial, a timestamp
        parts = text.lower().split()
        return " ".join(parts[:2] + parts[3:])
    return text.lower()


def differences(theirs: Answer, ours: Answer) -> list[str]:
    """The classes of difference between the answers; empty if they are equal to a client.

    Additional records are optional: ours may lack addresses of the second family, but never have others.
    """
    if theirs.rcode != ours.rcode:
        return [f"{theirs.rcode} became {ours.rcode}" + (" with records" if ours.answer else "")]
    found = []
    if theirs.answer != ours.answer:
        found.append(_answer_class(theirs.answer, ours.answer))
    if not ours.additional <= theirs.additional:
        found.append("more beside the answer")
    if _of_type(ours.additional, "A") != _of_type(theirs.additional, "A"):
        found.append("other IPv4 addresses beside the answer")
    if theirs.truncated != ours.truncated:
        found.append("truncation")
    return found


def _answer_class(theirs: frozenset[Record], ours: frozenset[Record]) -> str:
    lacks, adds = theirs - ours, ours - theirs
    if {_without_weight(record) for record in theirs} == {_without_weight(record) for record in ours}:
        return "other weights"
    words = []
    for word, records in (("lacks", lacks), ("adds", adds)):
        if records:
            words.append(f"{word} {'+'.join(sorted({record.rdtype for record in records}))}")
    if not theirs or not ours:
        words.append("instead of no records" if not theirs else "and has no records")
    return ", ".join(words)


def _without_weight(record: Record) -> Record:
    if record.rdtype != "SRV":
        return record
    priority, _, port, target = record.data.split()
    return record._replace(data=f"{priority} {port} {target}")


def _of_type(records: Iterable[Record], rdtype: str) -> frozenset[Record]:
    return frozenset(record for record in records if record.rdtype == rdtype)


@dataclass(frozen=True)
class Difference:
    question: Question
    what: str
    theirs: Answer
    ours: Answer

    @property
    def name(self) -> str:
        return f"{self.question.kind}, {self.question.rdtype}: {self.what}"


@dataclass
class Report:
    """The differences of many answers, as ``differences`` describes two of them."""

    differences: Callable[[Answer, Answer], list[str]] = differences
    asked: int = 0
    answered: int = 0  # questions that theirs answers with records
    found: list[Difference] = field(default_factory=list)

    def add(self, question: Question, theirs: Answer, ours: Answer) -> None:
        self.asked += 1
        self.answered += bool(theirs.answer)
        words = self.differences(theirs, ours)
        if words:
            self.found.append(Difference(question, "; ".join(words), theirs, ours))

    @property
    def identical(self) -> float:
        """The share of questions with the same answer."""
        return 1.0 - len(self.found) / self.asked if self.asked else 1.0

    def table(self, title: str, names: Sequence[str] = ()) -> str:
        """Classes with counts and an example; ``names`` are the known class of each difference."""
        same = self.asked - len(self.found)
        with_records = sum(1 for one in self.found if one.theirs.answer)
        lines = [
            f"{title}: {same} of {self.asked} answers identical ({self.identical:.3%}); "
            f"of {self.answered} with records {self.answered - with_records}"
        ]
        classes: dict[tuple[str, str, str], list[Difference]] = {}
        for number, one in enumerate(self.found):
            label = f"[{names[number] or 'NOT LISTED'}] " if names else ""
            classes.setdefault((label, one.question.kind, one.what), []).append(one)
        for (label, kind, what), members in sorted(
            classes.items(), key=lambda item: (-len(item[1]), item[0])
        ):
            first, types = members[0], " ".join(dict.fromkeys(one.question.rdtype for one in members))
            lines.append(f"  {len(members):5}  {label}{kind}: {what} ({types})")
            lines.append(f"           {first.question.name} {first.question.rdtype}")
            lines.append(f"           theirs: {show(first.theirs)}")
            lines.append(f"           ours:   {show(first.ours)}")
        return "\n".join(lines)


def show(answer: Answer, most: int = 8) -> str:
    parts = [answer.rcode]
    for mark, records in (("", answer.answer), ("+", answer.additional)):
        ordered = sorted(records)
        parts += [f"{mark}{record.name} {record.rdtype} {record.data}" for record in ordered[:most]]
        if len(ordered) > most:
            parts.append(f"{mark}… {len(ordered)} in all")
    return " | ".join(parts)
