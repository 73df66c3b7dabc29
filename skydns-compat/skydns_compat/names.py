"""DNS names as validated labels, and the reverse names of addresses.

A `Name` is in lower case, since names compare case-insensitively (RFC 4343) and the servers lower-case a
question before they look up its key.
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
#: The same section's 255 octets, less the root label and the first length octet.
MAX_NAME = 253

# Letters, digits, hyphen and underscore (RFC 8552): what Kubernetes allows and resolvers ask for.
# A dot, slash or asterisk in a label would change the key's path, or be a wildcard to the servers.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9])?\Z")

#: A wildcard in a question to CoreDNS's etcd plugin and to SkyDNS, like ``*``.
WILDCARD = "any"

#: The canonical text of an IP address (RFC 5952), from `parse_address`: several times faster to hash, compare
#: and print than `ipaddress` objects.
Address = NewType("Address", str)


class InvalidName(ValueError):
    """The text cannot be a DNS name; the message says which part and why."""


class InvalidAddress(ValueError):
    """The text is not one IP address."""


class Name(msgspec.Struct, frozen=True, order=True, gc=False):
    """An absolute DNS name: its labels, leftmost first, in lower case, without the root."""

    labels: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join(self.labels)

    def child(self, *labels: str) -> Name:
        """The name with ``labels`` in front; `InvalidName` if it is not valid or cannot be served."""
        whole = (*map(check_label, labels), *self.labels)
        if WILDCARD in whole or len(".".join(whole)) > MAX_NAME:
            servable(_checked(whole))  # raises
        return Name(whole)

    def below(self, other: Name) -> bool:
        """Whether this name is ``other`` or under it."""
        count = len(other.labels)
        return count == 0 or self.labels[-count:] == other.labels

    def relative(self, zone: Name) -> tuple[str, ...]:
        """The labels in front of ``zone``; ValueError if the name is not below it."""
        if not self.below(zone):
            raise ValueError(f"{self} is not below {zone}")
        return self.labels[: len(self.labels) - len(zone.labels)]

    @classmethod
    def parse(cls, text: str) -> Name:
        """The name ``text``, with or without the final dot, in any letter case."""
        plain = text.removesuffix(".")
        if not plain:
            raise InvalidName("the name is empty")
        return _checked(tuple(check_label(label) for label in plain.split(".")))


@lru_cache(maxsize=4096)  # labels repeat at once, or never
def check_label(label: str) -> str:
    """``label`` in lower case, or `InvalidName` (RFC 1035 length, RFC 1123 letters, RFC 8552 underscore)."""
    folded = label.lower()
    if len(folded) > MAX_LABEL:
        raise InvalidName(f"label {label[:20]!r}... has {len(label)} characters, {MAX_LABEL} are allowed")
    if not label.isascii() or not _LABEL.match(folded):
        raise InvalidName(f"{label!r} cannot be a DNS label")
    return folded


def servable(name: Name) -> Name:
    """``name``, or `InvalidName` if a label is a wildcard to the servers."""
    if WILDCARD in name.labels:
        raise InvalidName(f"the label {WILDCARD!r} is a wildcard to the DNS server and cannot be served")
    return name


def _checked(labels: tuple[str, ...]) -> Name:
    length = len(".".join(labels))
    if length > MAX_NAME:
        raise InvalidName(f"a name of {length} characters; {MAX_NAME} are allowed")
    return Name(labels)


def parse_address(text: str) -> Address:
    """The address ``text``, else `InvalidAddress`.

    Strict, since the servers take what they cannot parse for a *name* and answer with a CNAME: no scope id
    (``fe80::1%eth0``), no prefix length, leading zeros or blanks.  An IPv4-mapped IPv6 address becomes
    the IPv4 address, as in the servers' answers.
    """
    # Several times as fast as ipaddress, and as strict.
    try:
        if ":" not in text:
            inet_pton(AF_INET, text)
            return Address(text)
        packed = inet_pton(AF_INET6, text)
    except (OSError, ValueError):
        zoned = ":" in text and "%" in text
        why = "carries a zone, which no DNS answer can hold" if zoned else "is not an IP address"
        raise InvalidAddress(f"{text!r} {why}") from None
    plain = inet_ntop(AF_INET6, packed)
    if "." in plain:
        address = ipaddress.IPv6Address(packed)
        plain = str(address.ipv4_mapped or address)
    return Address(plain)


def version(address: Address) -> int:
    """4 or 6."""
    return 6 if ":" in address else 4


#: The zones of reverse names (RFC 1035 section 3.5, RFC 3596 section 2.5).
REVERSE = (Name(("in-addr", "arpa")), Name(("ip6", "arpa")))


def reverse_name(address: Address) -> Name:
    """The name of the PTR record of ``address`` (RFC 1035 section 3.5, RFC 3596 section 2.5)."""
    if ":" not in address:
        return Name((*address.split(".")[::-1], "in-addr", "arpa"))
    return Name(tuple(ipaddress.IPv6Address(address).reverse_pointer.split(".")))


def address_of(name: Name) -> Address | None:
    """The address whose reverse name this is; None for other names."""
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
