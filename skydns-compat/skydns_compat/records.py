"""DNS records: owner name, data, TTL.

`skydns_compat.layout` turns them into keys; `skydns_compat.reader` says what a set of keys answers.
"""

from __future__ import annotations

import msgspec

from skydns_compat.names import Address, Name

#: Port of an entry that appears in no SRV answer.
NO_PORT = -1


class Host(msgspec.Struct, frozen=True, gc=False):
    """A or AAAA, by the family of the address.

    ``order`` is the position in the answer, before a server or resolver shuffles it; None: by the address's
    text.
    """

    address: Address
    order: int | None = None

    @property
    def rtype(self) -> str:
        """``A`` or ``AAAA``."""
        return "AAAA" if ":" in self.address else "A"

    def __str__(self) -> str:
        return self.address


class Alias(msgspec.Struct, frozen=True, gc=False):
    """CNAME.

    ``follow``: whether a server may follow the alias by reading all keys below the target.  False if some of
    them are not the target's own: then CNAME is answered, and A and AAAA are NODATA.
    """

    target: Name
    follow: bool = True
    rtype = "CNAME"

    def __str__(self) -> str:
        return f"{self.target}."


class Port(msgspec.Struct, frozen=True, gc=False):
    """SRV (RFC 2782) of priority 0, with equal weights, which the server computes.

    ``via`` is the address that has the port, where the target's addresses have different ports; None: all
    have it.  A port without a number, `NO_PORT`, makes no SRV record: its owner still has the addresses, and
    it counts among the weights, as in the ``kubernetes`` plugin.
    """

    port: int
    target: Name
    via: Address | None = None

    @property
    def rtype(self) -> str:
        """``SRV``; ``NODATA`` without a number."""
        return "SRV" if self.port != NO_PORT else "NODATA"

    def __str__(self) -> str:
        return f"0 {self.port} {self.target}." if self.port != NO_PORT else "-"


class Srv(msgspec.Struct, frozen=True, gc=False):
    """SRV (RFC 2782) with a given priority and weight.

    The server turns the weights of one priority into shares of a hundred; their proportions stay.
    """

    priority: int
    weight: int
    port: int
    target: Name
    rtype = "SRV"

    def __str__(self) -> str:
        return f"{self.priority} {self.weight} {self.port} {self.target}."


class Mail(msgspec.Struct, frozen=True, gc=False):
    """MX."""

    preference: int
    target: Name
    rtype = "MX"

    def __str__(self) -> str:
        return f"{self.preference} {self.target}."


class Pointer(msgspec.Struct, frozen=True, gc=False):
    """PTR."""

    target: Name
    rtype = "PTR"

    def __str__(self) -> str:
        return f"{self.target}."


def quoted(octets: bytes) -> str:
    """A character string as a zone file writes it (RFC 1035 section 5.1)."""
    return f'"{"".join(map(_octet, octets))}"'


def _octet(octet: int) -> str:
    if octet in b'"\\':
        return f"\\{chr(octet)}"
    return chr(octet) if 0x20 <= octet < 0x7F else f"\\{octet:03d}"


class Text(msgspec.Struct, frozen=True, gc=False):
    """TXT."""

    text: str
    rtype = "TXT"

    def __str__(self) -> str:
        # RFC 1035 section 3.3: strings of at most 255 octets; that may split a multi-octet character.
        octets = self.text.encode("utf-8", "replace")
        pieces = [octets[at : at + 255] for at in range(0, len(octets), 255)] or [b""]
        return " ".join(map(quoted, pieces))


class Exists(msgspec.Struct, frozen=True, gc=False):
    """The name exists without data: NODATA for every type (RFC 2308 section 2.2).

    ``guarded``: the question reads this name, and must not return the data of names below it.  Otherwise the
    Corefile rewrites the question, since it would read all names below.
    """

    guarded: bool = False
    rtype = "NODATA"

    def __str__(self) -> str:
        return "-"


#: `Srv` and `Mail` are for external domains (`skydns_compat.layout_external`), `Port` is for a cluster.
Data = Host | Alias | Port | Pointer | Text | Exists | Srv | Mail


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record; ``ttl`` in seconds."""

    name: Name
    data: Data
    ttl: int

    @property
    def rtype(self) -> str:
        """The record type as a zone file writes it."""
        return self.data.rtype

    def __str__(self) -> str:
        return f"{self.name}. {self.ttl} IN {self.rtype} {self.data}"
