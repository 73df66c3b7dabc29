"""Random questions about a cluster: nearly existing names, special bytes and labels, UDP, TCP and EDNS.

`ask` keeps all that a resolver sees of an answer: flags, sections, and the question.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rrset

from tests.stack.compare import Answer, normalise
from tests.stack.harness import LOOPBACK

#: Labels with a meaning to the key layout, the plugin, etcd or a rewrite.
LABELS = (
    *("nt_", "nt_web", "own_", "own_web", "tgt_", "tgt_web", "apex", "any", "any_", "_any", "*", "M", "m"),
    *("svc", "pod", "dns", "ns", "dns-version", "_tcp", "_udp", "_http", "_", "-", "arpa", "in-addr"),
    *("local", "cluster", "skydns", "kube2etcd", "a0", "x1", "endpoint", "10-0-0-1", "1-2-3-4", "fd00--1"),
    *("0", "__"),
)
#: Bytes with a meaning to a parser on the way.
SPECIAL_BYTES = (*(bytes([byte]) for byte in b'./\\"\x00 *%{$(\xff'), b"\xc3\xbc", b"\n", b"@")
TYPES = (
    *("A", "AAAA", "SRV", "TXT", "CNAME", "PTR", "NS", "SOA", "MX", "DS", "DNSKEY", "HTTPS", "SVCB", "NAPTR"),
    *("CAA", "ANY", "TYPE65280"),
)
#: Bytes in a label.
MAX_LABEL = 63


@dataclass(frozen=True)
class RandomQuestion:
    """A question and its transport; ``payload`` is None without EDNS."""

    name: dns.name.Name
    rdtype: str
    tcp: bool
    payload: int | None

    @property
    def transport(self) -> str:
        edns = "no EDNS" if self.payload is None else f"EDNS {self.payload}"
        return f"{'TCP' if self.tcp else 'UDP'}, {edns}"


def random_questions(known: Sequence[str], count: int, rng: random.Random) -> Iterator[RandomQuestion]:
    """``count`` random questions, made from the existing names ``known``."""
    parsed = [dns.name.from_text(name) for name in known]
    made = 0
    while made < count:
        try:
            name = _name(rng.choice(parsed), parsed, rng)
        except dns.exception.DNSException:
            continue  # too long
        made += 1
        payload = rng.choice((None, None, 512, 1232, 4096))
        yield RandomQuestion(name, rng.choice(TYPES), rng.random() < 0.2, payload)


def _name(name: dns.name.Name, known: Sequence[dns.name.Name], rng: random.Random) -> dns.name.Name:
    labels = list(name.labels[:-1])
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        at = rng.randrange(len(labels) + 1) if labels else 0
        change = rng.randrange(7)
        if change == 0:
            labels.insert(at, rng.choice(LABELS).encode())
        elif change == 1:
            labels[at : at + 1] = [rng.choice(LABELS).encode()]
        elif change == 2:
            del labels[at : at + 1]
        elif change == 3 and at < len(labels):
            cut = rng.randrange(len(labels[at]) + 1)
            labels[at] = (labels[at][:cut] + rng.choice(SPECIAL_BYTES) + labels[at][cut:])[:MAX_LABEL]
        elif change == 4:
            labels.insert(at, bytes(rng.randrange(256) for _ in range(rng.randint(1, MAX_LABEL))))
        elif change == 5 and at < len(labels):
            labels[at] = _random_case(labels[at], rng)
        else:
            labels[:at] = rng.choice(known).labels[: rng.randint(0, 3)]
    return dns.name.Name([label for label in labels if label] + [b""])


def _random_case(label: bytes, rng: random.Random) -> bytes:
    return bytes(byte ^ 0x20 if chr(byte).isalpha() and rng.random() < 0.5 else byte for byte in label)


def ask(port: int, asked: RandomQuestion, number: int) -> Answer:
    """Ask one server; the rcode of a failed query is the name of the error."""
    edns = {} if asked.payload is None else {"use_edns": 0, "payload": asked.payload}
    question = dns.message.make_query(asked.name, asked.rdtype, id=number & 0xFFFF, **edns)  # type: ignore[arg-type]
    query = dns.query.tcp if asked.tcp else dns.query.udp
    try:
        return normalise(query(question, LOOPBACK, timeout=5, port=port))
    except (TimeoutError, dns.exception.DNSException, OSError) as error:
        return Answer(type(error).__name__)


def response_differences(theirs: Answer, ours: Answer) -> list[str]:
    if theirs.rcode != ours.rcode:
        return [f"{theirs.rcode} became {ours.rcode}"]
    words = []
    if theirs.answer != ours.answer and not (theirs.truncated or ours.truncated):
        words.append(
            "answer" if theirs.answer and ours.answer else "no answer" if theirs.answer else "an answer"
        )
    if theirs.flags != ours.flags:
        words.append(f"flags {theirs.flags} became {ours.flags}")
    if theirs.question != ours.question:
        words.append("the question is not echoed as it was asked")
    if theirs.edns != ours.edns:
        words.append(f"{'OPT' if theirs.edns else 'no OPT'} became {'OPT' if ours.edns else 'no OPT'}")
    if theirs.authority != ours.authority:
        words.append("authority")
    return words
