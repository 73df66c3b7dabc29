"""What is answered to a question, and why: by a reader of keys, a running bridge, a DNS server.

The JSON form is documented in docs/explain.md.  Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

import dns.rdatatype
import msgspec

from kube2etcd.inspect.readers import Reader
from kube2etcd.inspect.records import Row
from kube2etcd.inspect.why import Why, is_reverse, keys_about, known_names, nearest
from kube2etcd.kube.store import Unit
from kube2etcd.log import printable
from kube2etcd.settings import HostPort
from kube2etcd.sync.plan import diff, prune
from kube2etcd.sync.publisher import Publisher
from kube2etcd.zones.cluster import ClusterZone
from kube2etcd.zones.external import ExternalZone
from skydns_compat.message import owner_of
from skydns_compat.names import InvalidName, Name, parse_address, reverse_name
from skydns_compat.reader import Answer

if TYPE_CHECKING:
    from kube2etcd.inspect.wait import Reply

#: Types that are asked for when none is given and the name has no records.
USUAL = ("A",)
#: Types that a name may have records of, in the order in which they are explained.
TYPES = ("A", "AAAA", "SRV", "CNAME", "PTR", "TXT", "NS", "SOA", "MX")
#: Exit codes of `explain`.
RESOLVES: Final = 0
DOES_NOT: Final = 1
UNKNOWN: Final = 2

#: Why a key that we want is another writer's.
CONTESTED: Final = "another writer keeps it: its owner ID sorts before ours"

#: Foreign keys that one answer names.
MOST_FOREIGN: Final = 10

_T = TypeVar("_T")


class _Keys(Mapping[bytes, bytes]):
    """Keys of etcd, what their ``reader`` answers from them, and which it reads for that."""

    def __init__(self, keys: Mapping[bytes, bytes], reader: Reader) -> None:
        self._keys, self._read = keys, None  # type: Mapping[bytes, bytes], set[bytes] | None
        self.answer = reader(self)

    def read_for(self, name: Name, rtype: str) -> set[bytes]:
        """The keys that a question reads; malformed ones count as empty: it would end at the first."""
        self._read = read = set[bytes]()
        try:
            self.answer(name, rtype)
        finally:
            self._read = None
        return read

    def __getitem__(self, key: bytes) -> bytes:
        value = self._keys[key]
        if self._read is None:
            return value
        self._read.add(key)
        return value if owner_of(value) is not None else b"{}"

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


@dataclass(frozen=True, slots=True)
class Served:
    """What a DNS server really answered."""

    server: str
    """``HOST:PORT``"""
    rcode: str
    """Empty: nothing came."""
    resolves: bool | None = None
    answers: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    """Where it parts from the answer that etcd's keys give, and the likely causes; or why nothing came."""

    def __str__(self) -> str:
        if not self.rcode:
            return printable(f"server: {'; '.join(self.differences)}")
        lines = [f"server {self.server}: {meaning(self.rcode, bool(self.answers), asked=True)}"]
        lines += [f"  {record}" for record in self.answers]
        lines += [f"differs: {one}" for one in self.differences]
        return "\n".join(map(printable, lines))


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is answered to one question, and why.  Records are lines of a zone file."""

    name: str
    type: str
    rcode: str
    answers: tuple[str, ...]
    additional: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    nearest: tuple[str, ...] = ()
    """Names most like one that does not exist, with their final dot."""
    resolves: bool | None = None
    """Whether there are such records, by the server where one was asked; None: it cannot be said."""
    server: Served | None = None

    def __str__(self) -> str:
        lines = [f"{self.name} {self.type}: {meaning(self.rcode, bool(self.answers))}"]
        lines += [f"  {record}" for record in self.answers]
        lines += [f"  with {record}" for record in self.additional]
        lines += [f"why: {reason}" for reason in self.reasons]
        if self.nearest:
            lines.append(f"nearest: {', '.join(self.nearest)}")
        shown = "\n".join(map(printable, lines))
        if self.server is None:
            return shown
        same = bool(self.server.rcode) and not self.server.differences and self.rcode != "REFUSED"
        return f"{shown}\n{self.server}" + ("\n  matches etcd's keys" if same else "")

    def beside(self, server: HostPort, reply: Reply) -> Explanation:
        """With what ``server`` replied to the same question."""
        differences = (reply.trouble,) if reply.trouble else tuple(_differences(self, reply))
        resolves = None if reply.trouble else bool(reply.data)
        served = Served(str(server), reply.rcode, resolves, reply.records, differences)
        return replace(self, resolves=resolves, server=served)


def exit_code(found: Iterable[Explanation]) -> int:
    """`RESOLVES` where any of the types does; else `UNKNOWN` where it cannot be said of one."""
    said = [one.resolves for one in found]
    return RESOLVES if True in said else UNKNOWN if None in said else DOES_NOT


def decoded(body: bytes, name: Name) -> list[Explanation]:
    """What a bridge said of ``name``, from JSON.

    :raises ValueError: it is something else, or of a bridge of another version.
    """
    found = msgspec.json.decode(body, type=list[Explanation])
    if not found or any(one.name != f"{name}." for one in found):
        raise ValueError("no explanation of that name")
    if not all(len(_fields(record)) == 5 for one in found for record in (*one.answers, *one.additional)):
        raise ValueError("not records")
    return found


def meaning(rcode: str, answered: bool, *, asked: bool = False) -> str:
    """The outcome in words; ``asked``: it came from a real server."""
    if rcode == "NXDOMAIN":
        return "NXDOMAIN (no such name)"
    if rcode == "REFUSED" and not asked:
        return "not answered from etcd; the upstream is asked, where there is one"
    if rcode != "NOERROR":
        return rcode
    return "NOERROR" if answered else "NODATA (the name exists, without such records)"


def question_name(text: str) -> Name:
    """The name that is asked for, ``*`` as a label included; an address stands for its reverse name."""
    try:
        return reverse_name(parse_address(text[1:-1] if re.fullmatch(r"\[.*:.*\]", text) else text))
    except ValueError:
        labels = text.split(".")
        plain = Name.parse(".".join("any" if label == "*" else label for label in labels))
        return Name(
            tuple("*" if label == "*" else one for label, one in zip(labels, plain.labels, strict=False))
        )


def question_type(text: str) -> str:
    """The type that is asked for, in capitals; `ValueError` for text that is none."""
    with suppress(ValueError, dns.rdatatype.UnknownRdatatype):
        rtype = dns.rdatatype.from_text(text)
        if rtype == dns.rdatatype.ANY or (rtype and not dns.rdatatype.is_metatype(rtype)):
            return dns.rdatatype.to_text(rtype)
    raise ValueError(f"{text!r} is no type; write one such as {', '.join(TYPES)}, DS, HTTPS, or TYPE64")


class Explainer:
    """Answers and reasons over what ``publisher`` wants, or over what etcd really holds."""

    live: ClassVar = False
    """Whether a running bridge is asked, which says itself why etcd is not equal to the cluster."""

    def __init__(
        self,
        publisher: Publisher,
        reader: Reader,
        existing: Mapping[bytes, bytes] | None = None,
        desired: Mapping[bytes, bytes] | None = None,
    ) -> None:
        """``existing`` are etcd's keys; without them the answers are made of what is wanted there.

        ``desired`` is a copy of what the publisher wants, where one is at hand.
        """
        self._publisher, self._why, self._reader = publisher, Why(publisher), reader
        wanted = dict(publisher.desired.items()) if desired is None else desired
        self._desired = {**reader.settings(existing or {}), **wanted}
        self._wanted = _Keys(self._desired, reader)
        self._existing = self._wanted if existing is None else _Keys(existing, reader)

    def _ask(self, question: Callable[[], _T]) -> _T:
        """The answer to a question that reads the publisher."""
        return question()

    def _conditions(self, keys: Sequence[bytes]) -> list[str]:
        """What is to be said of keys, whatever is asked: who has those that we want and must leave."""
        layout = self._publisher.layout
        return [
            f"another writer ({owner_of(self._existing[key])}) keeps this name:"
            f" its owner ID sorts before ours ({layout.owner})"
            for key in sorted(diff(self._existing, self._desired, layout.owner, keys).contested)
        ]

    def explain(self, name: Name, rtype: str | None = None) -> list[Explanation]:
        """One explanation for each type: the one asked for, else those that the name has."""
        keys = keys_about(self._publisher, self._desired, name)
        rows = self._ask(lambda: self._why.rows_at(name, keys))
        there, name_of = (
            {*keys, *keys_about(self._publisher, self._existing, name)},
            self._publisher.layout.name,
        )
        own = sorted(key for key in there if name_of(key) == name)
        conditions = self._conditions(own)
        types = [rtype.upper()] if rtype else _types(name, rows)
        return [self._explain(name, each, rows, conditions) for each in types]

    def _explain(self, name: Name, rtype: str, rows: list[Row], conditions: list[str]) -> Explanation:
        wanted = self._wanted.answer(name, rtype)
        reasons = self._ask(lambda: self._why.reasons(name, rtype, rows, wanted))
        real = self._existing.answer(name, rtype)
        reasons += self._reader.reasons(name, rtype, rows, wanted)
        if (real.rcode, set(real.answers)) != (wanted.rcode, set(wanted.answers)):
            reasons += self._unlike(name, rtype, wanted)
        near: Sequence[str] = ()
        if real.rcode in ("NXDOMAIN", "REFUSED") and not rows and not is_reverse(name):
            searched = self._searched(name)
            if searched is not None:
                [found] = self.explain(searched, rtype)
                outcome = meaning(found.rcode, bool(found.answers))
                reasons.append(f"a pod's search list turns it into {searched}: {outcome}")
                reasons += found.reasons
                near = found.nearest
            else:
                near = [f"{one}." for one in self._near(name)]
        return Explanation(
            f"{name}.",
            rtype,
            real.rcode,
            tuple(map(str, real.answers)),
            tuple(map(str, real.additional)),
            tuple(dict.fromkeys((*reasons, *conditions))),
            tuple(near),
            _resolves(rtype, real),
        )

    def _unlike(self, name: Name, rtype: str, wanted: Answer) -> Iterator[str]:
        """What makes the answer of etcd's keys another one than the cluster's."""
        layout = self._publisher.layout
        read = self._existing.read_for(name, rtype) | self._wanted.read_for(name, rtype)
        plan = diff(self._existing, self._desired, layout.owner, read)
        foreign = sorted(plan.foreign, key=lambda key: (key not in plan.malformed, key))
        hint = not self.live and (plan.changes or not foreign)
        would_be = meaning(wanted.rcode, bool(wanted.answers))
        ours = [one.name for one in self._publisher.zones if not isinstance(one, ExternalZone)]
        pruned = {one.key for one in prune(foreign, self._existing, layout, ours)}
        if len(foreign) > MOST_FOREIGN:
            yield f"{len(foreign)} keys of other writers are in this answer; the first {MOST_FOREIGN}:"
        for key in foreign[:MOST_FOREIGN]:
            whose = owner_of(self._existing[key])
            owned = f" (owner {whose})" if whose else ""
            harm = "malformed, which breaks all names above it" if whose is None else "in this answer"
            cure = "resync --prune-foreign deletes it" if key in pruned else "delete it in etcd"
            yield f"another writer's key {key.decode(errors='backslashreplace')}{owned} is {harm}: {cure}"
        yield (
            f"etcd does not match the cluster here, which would give {would_be}"
            + "".join(f"; {record}" for record in wanted.answers)
            + (": is kube2etcd running, or a plan held? see kube2etcd resync --dry-run" if hint else "")
        )

    def _searched(self, name: Name) -> Name | None:
        """What the search list of a pod makes of a name outside of our zones: a name in a namespace."""
        publisher, cluster = self._publisher, self._publisher.cluster
        if cluster is None or publisher.zone_of(name) is not None:
            return None
        *_, above, last = ("", *name.labels)
        namespace = above if (below := last in ("svc", "pod")) else last
        if self._ask(lambda: publisher.store.get(Unit("namespaces", "", namespace))) is None:
            return None
        try:
            return cluster.name.child(*name.labels, *(() if below else ("svc",)))
        except InvalidName:
            return None

    def _near(self, name: Name) -> list[str]:
        publisher = self._publisher
        known = known_names(publisher.layout.prefix, self._desired)
        zone = publisher.zone_of(name)
        if zone is None:
            return nearest(str(name), "", known)
        labels = name.relative(zone.name)
        shared = (
            Name((labels[-1], *zone.name.labels))
            if len(labels) > 2 and isinstance(zone, ClusterZone)
            else zone.name
        )
        return nearest(str(name), str(shared), known)


def _resolves(rtype: str, found: Answer) -> bool | None:
    """Whether the answer has the data; None: the upstream knows, to which an alias may lead."""
    if found.rcode == "REFUSED":
        return None
    followed = rtype == "ANY" or any(one.rtype == rtype for one in found.answers)
    return bool(found.answers) if followed or not found.answers else None


def _types(name: Name, rows: list[Row]) -> list[str]:
    if is_reverse(name):
        return ["PTR"]
    have = {row.record.rtype for row in rows} - {"NODATA"}
    return [rtype for rtype in TYPES if rtype in have] or list(USUAL)


def _differences(expected: Explanation, reply: Reply) -> list[str]:
    """Where a reply parts from the answer that etcd's keys give, and what may be the cause."""
    if expected.rcode == "REFUSED":
        return []  # whatever the upstream says
    if reply.rcode == "REFUSED":
        return ["it refuses the question: it serves no such zone (CoreDNS: no server block for it)"]
    if reply.rcode == "SERVFAIL" != expected.rcode:
        return ["it fails (SERVFAIL): it cannot read its etcd, or its upstream is away"]
    ours, theirs = _comparable(expected.answers), _comparable(reply.records)
    if ours and ours.keys() <= theirs.keys():
        # Names outside of etcd's zones are the upstream's.
        known = {name for name, *_ in ours}
        theirs = {key: text for key, text in theirs.items() if key[0] in known}
    found = [f"it lacks {text}" for key, text in ours.items() if key not in theirs]
    found += [f"it has {text}" for key, text in theirs.items() if key not in ours]
    if expected.rcode != reply.rcode:
        found.insert(0, f"it answers {reply.rcode}, where etcd's keys give {expected.rcode}")
    if found:
        ttl = min((int(_fields(one)[1]) for one in reply.records), default=0)
        cached = f"an answer cached for up to {ttl} s more" if ttl else "a cached answer"
        found.append(
            f"the cause may be {cached}, other settings (CoreDNS: kube2etcd check --corefile FILE),"
            " or a pod that is behind (/readyz) or reads another etcd or prefix"
        )
    return found


def _comparable(records: Iterable[str]) -> dict[tuple[str, str, str], str]:
    """Records without what may differ from one answer to the next: TTL, letter case, SOA's serial."""
    found = {}
    for record in records:
        name, _, _, kind, data = _fields(record)
        if kind == "SOA":
            data = " ".join(part for at, part in enumerate(data.split()) if at != 2)
        found[name.lower(), kind, data if kind == "TXT" else data.lower()] = record
    return found


def _fields(record: str) -> list[str]:
    return record.split(" ", 4)
