"""The answer to a DNS question and the reasons for it, computed from keys, or from a running bridge's.

docs/explain.md describes the JSON form.  Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import dns.rdatatype
import msgspec

from kube2etcd.external import plain_name
from kube2etcd.inspect import why
from kube2etcd.inspect.readers import Reader
from kube2etcd.inspect.records import Row
from kube2etcd.inspect.why import is_reverse, keys_about, nearest
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
    from kube2etcd.inspect.wait import ServerReply

#: Record types, in the order in which a name's types are explained; A if it has none of them.
TYPES = ("A", "AAAA", "SRV", "CNAME", "PTR", "TXT", "NS", "SOA", "MX")
#: Exit codes of `explain`.
RESOLVES: Final = 0
DOES_NOT: Final = 1
UNKNOWN: Final = 2
#: Foreign keys listed for one answer.
MOST_FOREIGN: Final = 10


class _Recorder(dict[bytes, bytes]):
    """Keys of etcd that remembers which of them were read.

    A malformed value reads as an empty one: it would end the lookup before the keys behind it are seen.
    """

    def __init__(self, keys: Mapping[bytes, bytes]) -> None:
        super().__init__(keys)
        self.read = set[bytes]()

    def __getitem__(self, key: bytes) -> bytes:
        self.read.add(key)
        value = super().__getitem__(key)
        return value if owner_of(value) is not None else b"{}"


@dataclass(frozen=True, slots=True)
class ServerAnswer:
    """The response of a DNS server to the same question."""

    server: str
    """``HOST:PORT``"""
    rcode: str
    """Empty if there was no response."""
    resolves: bool | None = None
    answers: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    """How it differs from the answer computed from etcd's keys, and likely causes; or why there was none."""

    def __str__(self) -> str:
        if not self.rcode:
            return printable(f"server: {'; '.join(self.differences)}")
        lines = [f"server {self.server}: {outcome(self.rcode, bool(self.answers), asked=True)}"]
        lines += [f"  {record}" for record in self.answers]
        lines += [f"differs: {one}" for one in self.differences]
        return "\n".join(map(printable, lines))


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer to one question, and the reasons for it.  Records are lines of a zone file."""

    name: str
    type: str
    rcode: str
    answers: tuple[str, ...]
    additional: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    nearest: tuple[str, ...] = ()
    """Names similar to one that does not exist, with their final dot."""
    resolves: bool | None = None
    """Whether there are such records (at ``server``, if one was queried); None if unknown."""
    server: ServerAnswer | None = None

    def __str__(self) -> str:
        lines = [f"{self.name} {self.type}: {outcome(self.rcode, bool(self.answers))}"]
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

    def with_server(self, server: HostPort, reply: ServerReply) -> Explanation:
        """The same with ``server``'s reply to the question."""
        differences = (reply.trouble,) if reply.trouble else tuple(_differences(self, reply))
        resolves = None if reply.trouble else bool(reply.data)
        answer = ServerAnswer(str(server), reply.rcode, resolves, reply.records, differences)
        return replace(self, resolves=resolves, server=answer)


def exit_code(found: Iterable[Explanation]) -> int:
    """`RESOLVES` if any type does; else `UNKNOWN` if that is unknown of one; else `DOES_NOT`."""
    said = [one.resolves for one in found]
    return RESOLVES if True in said else UNKNOWN if None in said else DOES_NOT


def decoded(body: bytes, name: Name) -> list[Explanation]:
    """A bridge's explanations of ``name``, from JSON.

    :raises ValueError: it is something else, or from an incompatible version.
    """
    found = msgspec.json.decode(body, type=list[Explanation])
    if not found or any(one.name != f"{name}." for one in found):
        raise ValueError("no explanation of that name")
    if not all(len(_fields(record)) == 5 for one in found for record in (*one.answers, *one.additional)):
        raise ValueError("not records")
    return found


def kept_by(rival: str | None, owner: str) -> str:
    """The reason for a contested key: the owner IDs of its value, and ours."""
    return f"another writer ({rival}) keeps this name: its owner ID sorts before ours ({owner})"


def outcome(rcode: str, answered: bool, *, asked: bool = False) -> str:
    """A response code in words; ``asked``: it is a real server's."""
    if rcode == "NXDOMAIN":
        return "NXDOMAIN (no such name)"
    if rcode == "REFUSED" and not asked:
        return "not served from etcd; forwarded to the upstream, if there is one"
    if rcode != "NOERROR":
        return rcode
    return "NOERROR" if answered else "NODATA (the name exists, without such records)"


def question_name(text: str) -> Name:
    """The queried name, which may have Unicode or ``*`` as a label; for an address, its reverse name."""
    try:
        return reverse_name(parse_address(text[1:-1] if re.fullmatch(r"\[.*:.*\]", text) else text))
    except ValueError:
        labels = f"{plain_name(text)}.".split(".")
        plain = Name.parse(".".join("any" if label == "*" else label for label in labels))
        return Name(
            tuple("*" if label == "*" else one for label, one in zip(labels, plain.labels, strict=False))
        )


def question_type(text: str) -> str:
    """The queried type in capitals.

    :raises ValueError: ``text`` is no type, or one of messages rather than records.
    """
    with suppress(ValueError, dns.rdatatype.UnknownRdatatype):
        rtype = dns.rdatatype.from_text(text)
        if rtype == dns.rdatatype.ANY or (rtype and not dns.rdatatype.is_metatype(rtype)):
            return dns.rdatatype.to_text(rtype)
    raise ValueError(f"{text!r} is not a record type; write one such as {', '.join(TYPES)}, DS or TYPE64")


class Explainer:
    """Explains answers over the keys that ``publisher`` wants, or over those that etcd holds."""

    def __init__(
        self,
        publisher: Publisher,
        reader: Reader,
        existing: Mapping[bytes, bytes] | None = None,
        desired: Mapping[bytes, bytes] | None = None,
        *,
        ask: Callable[[Callable[[], Any]], Any] = lambda question: question(),
        conditions: Callable[[Sequence[bytes]], list[str]] | None = None,
    ) -> None:
        """``existing`` are etcd's keys; without them, answers come from the desired ones.

        ``desired`` is a copy of the publisher's desired keys, if there is one.  ``ask`` calls a function in
        the thread that owns the publisher.  ``conditions``, which only a running bridge has, says why keys
        differ in etcd, for example because their deletion is held.
        """
        self._publisher, self._reader = publisher, reader
        self._ask, self._conditions = ask, conditions
        wanted = dict(publisher.desired.items()) if desired is None else desired
        self._desired = {**reader.settings(existing or {}), **wanted}
        self._existing = self._desired if existing is None else existing
        self._expected = reader(self._desired)
        self._actual = self._expected if existing is None else reader(existing)

    def explain(self, name: Name, rtype: str | None = None) -> list[Explanation]:
        """One explanation per type: the given one, or those that the name has."""
        publisher = self._publisher
        keys = keys_about(publisher, self._desired, name)
        rows = self._ask(lambda: why.rows_at(publisher, name, keys))
        present = {*keys, *keys_about(publisher, self._existing, name)}
        own = sorted(key for key in present if publisher.layout.name(key) == name)
        owner, existing = publisher.layout.owner, self._existing
        contested = sorted(diff(existing, self._desired, owner, own).contested)
        conditions = [kept_by(owner_of(existing[key]), owner) for key in contested]
        if (of_keys := self._conditions) is not None:
            conditions += self._ask(lambda: of_keys(own))
        types = [rtype.upper()] if rtype else _types(name, rows)
        return [self._explain(name, each, rows, conditions) for each in types]

    def _explain(self, name: Name, rtype: str, rows: list[Row], conditions: list[str]) -> Explanation:
        expected, actual = self._expected(name, rtype), self._actual(name, rtype)
        reasons: list[str] = self._ask(lambda: why.reasons(self._publisher, name, rtype, rows, expected))
        if peculiar := self._reader.reason(name, rtype, rows, expected):
            reasons.append(peculiar)
        if (actual.rcode, set(actual.answers)) != (expected.rcode, set(expected.answers)):
            reasons += self._mismatch(name, rtype, expected)
        near: Sequence[str] = ()
        if actual.rcode in ("NXDOMAIN", "REFUSED") and not rows and not is_reverse(name):
            searched = self._search_list_name(name)
            if searched is not None:
                [found] = self.explain(searched, rtype)
                result = outcome(found.rcode, bool(found.answers))
                reasons.append(f"a pod's search list turns it into {searched}: {result}")
                reasons += found.reasons
                near = found.nearest
            else:
                near = [f"{one}." for one in self._near(name)]
        return Explanation(
            f"{name}.",
            rtype,
            actual.rcode,
            tuple(map(str, actual.answers)),
            tuple(map(str, actual.additional)),
            tuple(dict.fromkeys((*reasons, *conditions))),
            tuple(near),
            _resolves(rtype, actual),
        )

    def _mismatch(self, name: Name, rtype: str, expected: Answer) -> Iterator[str]:
        """Why the answer from etcd's keys is not the ``expected`` one, by the keys that both lookups read."""
        layout = self._publisher.layout
        recorders = [_Recorder(self._existing), _Recorder(self._desired)]
        for recorder in recorders:
            self._reader(recorder)(name, rtype)
        read = set[bytes]().union(*(recorder.read for recorder in recorders))
        plan = diff(self._existing, self._desired, layout.owner, read)
        foreign = sorted(plan.foreign, key=lambda key: (key not in plan.malformed, key))
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
        wanted = "; ".join([outcome(expected.rcode, bool(expected.answers)), *map(str, expected.answers)])
        hint = ": is kube2etcd running, or are deletions held? see kube2etcd resync --dry-run"
        if self._conditions is not None or (foreign and not plan.changes):
            hint = ""
        yield f"etcd does not match the cluster here, which would give {wanted}{hint}"

    def _search_list_name(self, name: Name) -> Name | None:
        """What a pod's search list makes of a name outside our zones that ends in a namespace or ``svc``.

        None if there is no such namespace, or the name is too long.
        """
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
        known = (str(found) for key in self._desired if (found := publisher.layout.name(key)) is not None)
        zone = publisher.zone_of(name)
        if zone is None:
            return nearest(str(name), "", known)
        labels, shared = name.relative(zone.name), zone.name
        if len(labels) > 2 and isinstance(zone, ClusterZone):
            shared = Name((labels[-1], *shared.labels))  # unchecked: it may be a wildcard
        return nearest(str(name), str(shared), known)


def _resolves(rtype: str, found: Answer) -> bool | None:
    """Whether the answer has such data; None if only the upstream knows, such as behind an alias."""
    if found.rcode == "REFUSED":
        return None
    followed = rtype == "ANY" or any(one.rtype == rtype for one in found.answers)
    return bool(found.answers) if followed or not found.answers else None


def _types(name: Name, rows: list[Row]) -> list[str]:
    if is_reverse(name):
        return ["PTR"]
    have = {row.record.rtype for row in rows}
    return [rtype for rtype in TYPES if rtype in have] or ["A"]


def _differences(expected: Explanation, reply: ServerReply) -> list[str]:
    """How a reply differs from the answer computed from etcd's keys, and likely causes."""
    if expected.rcode == "REFUSED":
        return []  # the upstream's answer
    if reply.rcode == "REFUSED":
        return ["it refuses the query: it does not serve the zone (CoreDNS: no server block for it)"]
    if reply.rcode == "SERVFAIL" != expected.rcode:
        return ["it fails (SERVFAIL): it cannot read its etcd or reach its upstream"]
    ours, theirs = _comparable(expected.answers), _comparable(reply.records)
    if ours and ours.keys() <= theirs.keys():
        # The rest of an alias chain that leads out of etcd's zones is the upstream's.
        known = {name for name, *_ in ours}
        theirs = {key: text for key, text in theirs.items() if key[0] in known}
    found = [f"it lacks {text}" for key, text in ours.items() if key not in theirs]
    found += [f"it has {text}" for key, text in theirs.items() if key not in ours]
    if expected.rcode != reply.rcode:
        found.insert(0, f"it answers {reply.rcode}, but etcd's keys give {expected.rcode}")
    if found:
        ttl = min((int(_fields(one)[1]) for one in reply.records), default=0)
        cached = f"an answer cached for up to {ttl} s more" if ttl else "a cached answer"
        found.append(
            f"the cause may be {cached}, other settings (CoreDNS: kube2etcd check --corefile FILE),"
            " or a pod that lags behind (/readyz) or reads another etcd or prefix"
        )
    return found


def _comparable(records: Iterable[str]) -> dict[tuple[str, str, str], str]:
    """Records by what all answers have in common: not the TTL, letter case or SOA serial."""
    found = {}
    for record in records:
        name, _, _, kind, data = _fields(record)
        if kind == "SOA":
            data = " ".join(part for at, part in enumerate(data.split()) if at != 2)
        found[name.lower(), kind, data if kind == "TXT" else data.lower()] = record
    return found


def _fields(record: str) -> list[str]:
    return record.split(" ", 4)
