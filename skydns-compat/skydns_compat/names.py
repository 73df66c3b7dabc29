"""DNS names as validated labels, and the reverse names of addresses.

A `Name` is always lower case (questions are compared without regard to case, RFC 4343, and the
readers fold the question before they look for its key) and never empty of meaning: what cannot be
a name is `InvalidName` at the moment it is built.  Knows nothing of keys or of Kubernetes.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import NewType

import msgspec

#: RFC 1035 section 2.3.4, in octets; a label of text is at most 63.
MAX_LABEL = 63
#: The same section's 255 octets on the wire, less the root label and the first length octet.
MAX_NAME = 253

# Letters, digits, hyphen and underscore (RFC 8552): what Kubernetes can make and resolvers ask for.
# A dot, slash or asterisk in a label would change the key's path or mean a wildcard to the readers.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9])?\Z")

#: Stands for every label in a question to CoreDNS's etcd plugin and to SkyDNS, as ``*`` does.
WILDCARD = "any"

#: The canonical text of an IP address (RFC 5952), as `parse_address` gives it: a text hashes, compares and
#: is written several times faster than the objects of ipaddress.
Address = NewType("Address", str)


class InvalidName(ValueError):
    """The text cannot be a DNS name; the message says which part and why."""


class InvalidAddress(ValueError):
    """The text is not one plain IP address."""


class Name(msgspec.Struct, frozen=True, order=True, gc=False):
    """An absolute DNS name: its labels, leftmost first, in lower case, without the root."""

    labels: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join(self.labels)

    def child(self, *labels: str) -> Name:
        """The name with ``labels`` put in front; `InvalidName` for what cannot be one or be served."""
        return servable(_checked((*map(check_label, labels), *self.labels)))

    def below(self, other: Name) -> bool:
        """Whether this name is under ``other``, or is it."""
        count = len(other.labels)
        return count == 0 or self.labels[-count:] == other.labels

    def relative(self, zone: Name) -> tuple[str, ...]:
        """The labels in front of ``zone``; ``ValueError`` when the name is not below it."""
        if not self.below(zone):
            raise ValueError(f"{self} is not below {zone}")
        return self.labels[: len(self.labels) - len(zone.labels)]

    @classmethod
    def parse(cls, text: str) -> Name:
        """The name for ``text``, with or without the final dot, in any letter case."""
        plain = text.removesuffix(".")
        if not plain:
            raise InvalidName("the name is empty")
        return _checked(tuple(check_label(label) for label in plain.split(".")))


@lru_cache(maxsize=65536)
def check_label(label: str) -> str:
    """``label`` in lower case, or `InvalidName` (RFC 1035 length, RFC 1123 letters, RFC 8552 underscore)."""
    folded = label.lower()
    if len(folded) > MAX_LABEL:
        raise InvalidName(f"label {label[:20]!r}... has {len(label)} characters, {MAX_LABEL} are allowed")
    if not label.isascii() or not _LABEL.match(folded):
        raise InvalidName(f"{label!r} cannot be a DNS label")
    return folded


def servable(name: Name) -> Name:
    """``name``, or `InvalidName` where the readers would take one of its labels for a wildcard."""
    if WILDCARD in name.labels:
        raise InvalidName(f"the label {WILDCARD!r} is a wildcard to the DNS server and cannot be served")
    return name


def _checked(labels: tuple[str, ...]) -> Name:
    length = len(".".join(labels))
    if length > MAX_NAME:
        raise InvalidName(f"a name of {length} characters; {MAX_NAME} are allowed")
    return Name(labels)


def parse_address(text: str) -> Address:
    """The one plain address that ``text`` is, else `InvalidAddress`.

    Strict, since a reader takes what it cannot parse for a *name* and answers a CNAME: no zone
    (``fe80::1%eth0``), no prefix length, no leading zeros, no blanks.  An IPv4-mapped IPv6
    address is the IPv4 address that it maps, as the readers answer it.
    """
    # The C library's parser is several times as fast as that of ipaddress, and as strict.
    try:
        if ":" not in text:
            inet_pton(AF_INET, text)
            return Address(text)
        plain = inet_ntop(AF_INET6, inet_pton(AF_INET6, text))
        if "." not in plain:
            return Address(plain)
    except (OSError, ValueError):
        pass
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        raise InvalidAddress(f"{text!r} is not an IP address") from None
    if address.scope_id is not None:
        raise InvalidAddress(f"{text!r} carries a zone, which no DNS answer can hold")
    return Address(str(address.ipv4_mapped or address))


def version(address: Address) -> int:
    """4 or 6."""
    return 6 if ":" in address else 4


def reverse_name(address: Address) -> Name:
    """Where the PTR record of ``address`` lives (RFC 1035 section 3.5, RFC 3596 section 2.5)."""
    if ":" not in address:
        return Name((*address.split(".")[::-1], "in-addr", "arpa"))
    return Name(tuple(ipaddress.IPv6Address(address).reverse_pointer.split(".")))


def address_of(name: Name) -> Address | None:
    """The address whose reverse name this is; None for any other name."""
    labels = name.labels[:-2][::-1]
    try:
        if name.labels[-2:] == ("in-addr", "arpa") and len(labels) == 4:
            return Address(str(ipaddress.IPv4Address(".".join(labels))))
        if name.labels[-2:] == ("ip6", "arpa") and len(labels) == 32:
            digits = "".join(labels)
            groups = ":".join(digits[at : at + 4] for at in range(0, 32, 4))
            return Address(str(ipaddress.IPv6Address(groups)))
    except ValueError:
        pass
    return None
