"""What a question reads: the entries of a subtree or of one key, decoded, filtered, grouped.

The lower half of the model of CoreDNS's ``etcd`` plugin; `skydns_compat.reader` makes records of
what is found here.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from posixpath import normpath

from skydns_compat.message import Message, decode
from skydns_compat.names import Address, InvalidAddress, parse_address

#: Priority of a message that has none, or 0.
DEFAULT_PRIORITY = 10
#: Seconds of a message that has none, or 0.
DEFAULT_TTL = 300
#: Labels that stand for any label, wherever they are in a question.
WILDCARDS = frozenset({"*", "any"})

_LABEL = re.compile(r"(?:[^.\\]|\\.)+", re.DOTALL)
_TO_ESCAPE = re.compile(r"""(\\.)|([ '@;()"])""", re.DOTALL)


class NoSuchKey(LookupError):
    """Nothing is stored where the question points: NXDOMAIN."""


@dataclass(frozen=True, slots=True)
class Found:
    """One entry that was found: a message, and what its host is."""

    key: str
    message: Message
    address: Address | None

    @property
    def kind(self) -> str:
        """A, AAAA or, for a host that is no address, CNAME; TXT where such an entry has a text."""
        if self.address is None:
            return "TXT" if self.message.text else "CNAME"
        return "AAAA" if ":" in self.address else "A"

    @property
    def ttl(self) -> int:
        """Seconds; every entry has its own."""
        return self.message.ttl or DEFAULT_TTL

    @property
    def priority(self) -> int:
        """Not yet cut to its 16 bits."""
        return self.message.priority or DEFAULT_PRIORITY

    @property
    def depth(self) -> int:
        """How deep the key lies."""
        return self.key.count("/")

    def target(self) -> str:
        """Where SRV, MX and NS point: the host, or the key's name for an address; ``targetstrip`` cuts it."""
        name = absolute(self.message.host) if self.address is None else self.name()
        labels = split(name)
        strip = self.message.targetstrip
        return absolute(".".join(labels[strip:])) if 0 < strip < len(labels) else name

    def name(self) -> str:
        """The DNS name of the key, less the first segment (the prefix) and a slash at the end."""
        segments = self.key.removesuffix("/").split("/")[2:]
        return absolute(".".join(reversed(segments)))


class Entries:
    """Entries in key order, as etcd holds them; ``prefix`` is the plugin's ``path``, of one segment."""

    def __init__(self, entries: Mapping[bytes, bytes], prefix: str = "/skydns") -> None:
        self._keys = sorted(entries)
        self._values = entries
        self._prefix = "/" + prefix.strip("/")

    def read(self, name: str, *, exact: bool = False, texts: bool = False) -> list[Found]:
        """The group that the question ``name`` finds: its subtree, or its key where that is empty.

        ``exact`` reads the key alone.  Entries without a host are left out, unless they have a
        text and ``texts`` are asked for.  `NoSuchKey` or `MalformedMessage` when it fails.
        """
        labels = split(name.lower())[::-1]
        wild = next((at for at, label in enumerate(labels) if label in WILDCARDS), None)
        keys = self._range(self._key(labels[:wild]), exact)
        if wild is not None:
            pattern = self._key(labels).split("/")
            keys = [key for key in keys if _fits(_text(key), pattern)]
        found = [self._found(key) for key in keys]
        return one_group([each for each in found if each.message.host or (texts and each.message.text)])

    def _key(self, labels: Sequence[str]) -> str:
        return normpath("/".join([self._prefix, *labels]))

    def _range(self, key: str, exact: bool) -> list[bytes]:
        name = key.encode("utf-8", "surrogateescape")
        if not exact:
            # "0" is the character after "/": the range of everything that starts with the key and a slash.
            first, end = bisect_left(self._keys, name + b"/"), bisect_left(self._keys, name + b"0")
            if first < end:
                return self._keys[first:end]
        if name not in self._values:
            raise NoSuchKey(key)
        return [name]

    def _found(self, key: bytes) -> Found:
        message = decode(self._values[key])
        try:
            address = parse_address(message.host)
        except InvalidAddress:
            address = None
        return Found(_text(key), message, address)


def one_group(found: list[Found]) -> list[Found]:
    """Only the entries of the group that the shortest key names, and those without a group.

    Everything, where the shortest key has no group, or where two of the shortest disagree.  The
    search for the shortest ends at a key that is shorter than all before it and has no group;
    what comes after that key is not heard when the shortest are compared.
    """
    if not found:
        return found
    group, shortest, heard = found[0].message.group, found[0].depth, len(found)
    for at, each in enumerate(found):
        if each.depth < shortest:
            if not each.message.group:
                heard = at
                break
            group, shortest = each.message.group, each.depth
    if not group:
        return found
    for each in found[:heard]:
        if each.depth == shortest and each.message.group not in ("", group):
            return found
    return [each for each in found if each.message.group in ("", group)]


def split(name: str) -> list[str]:
    """The labels of a name as a zone file writes it: ``a\\.b.c`` has two."""
    return _LABEL.findall(name)


def absolute(name: str) -> str:
    """The name with its final dot."""
    return name if name.endswith(".") else f"{name}."


def printed(name: str) -> str:
    """The absolute name with the characters escaped that a zone file cannot hold plainly."""
    return _TO_ESCAPE.sub(lambda match: match[1] or f"\\{match[2]}", absolute(name))


def below(name: str, parent: str) -> bool:
    """Whether ``name`` is under ``parent``, or is it; in any letter case."""
    upper = split(parent.lower())
    labels = split(name.lower())
    return len(labels) >= len(upper) and labels[len(labels) - len(upper) :] == upper


def _fits(key: str, pattern: Sequence[str]) -> bool:
    segments = key.split("/")
    return len(segments) >= len(pattern) and all(
        wanted in WILDCARDS or wanted == segment for wanted, segment in zip(pattern, segments, strict=False)
    )


def _text(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")
