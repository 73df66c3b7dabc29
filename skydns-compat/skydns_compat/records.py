"""What we promise to DNS: owner name, data, time to live.

Records say nothing about keys or servers; `skydns_compat.layout` finds the keys for them, and
`skydns_compat.reader` says which answers a set of keys gives.
"""

from __future__ import annotations

import msgspec

from skydns_compat.names import Address, Name

#: A port that no SRV shows.
NO_PORT = -1


class Host(msgspec.Struct, frozen=True, gc=False):
    """A or AAAA, by the family of the address.

    ``order`` is the place in the answer, before a server or a resolver shuffles it; None leaves it
    to the text of the address.
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

    ``follow``: whether a server may look up the target by reading all keys below it.  Where those are
    not the target's alone the alias is shown, and leads to no addresses.
    """

    target: Name
    follow: bool = True
    rtype = "CNAME"

    def __str__(self) -> str:
        return f"{self.target}."


class Port(msgspec.Struct, frozen=True, gc=False):
    """SRV (RFC 2782) of priority 0; the weights of one owner are equal, and the server computes them.

    ``via`` is the one address that the port was listed with, where the addresses of the target
    have different ports; else the port is that of every address.  A port without a number, `NO_PORT`,
    is no SRV record: its owner has the addresses all the same, and it counts among the weights, as
    the ``kubernetes`` plugin counts it.
    """

    port: int
    target: Name
    via: Address | None = None

    @property
    def rtype(self) -> str:
        """``SRV``; for a port without a number nothing that can be asked for."""
        return "SRV" if self.port != NO_PORT else "NODATA"

    def __str__(self) -> str:
        return f"0 {self.port} {self.target}." if self.port != NO_PORT else "-"


class Srv(msgspec.Struct, frozen=True, gc=False):
    """SRV (RFC 2782) as somebody else asked for it, with its own priority and weight.

    The server makes shares of a hundred of the weights of one priority: their proportions stay.
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
        # RFC 1035: strings of 255 octets at most (section 3.3); a letter of several may be cut apart.
        octets = self.text.encode("utf-8", "replace")
        pieces = [octets[at : at + 255] for at in range(0, len(octets), 255)] or [b""]
        return " ".join(map(quoted, pieces))


class Exists(msgspec.Struct, frozen=True, gc=False):
    """No data: the name is there, and every type of it is NODATA (RFC 2308 section 2.2).

    ``guarded``: names below it hold data that must not show here, and the question comes to this
    very name.  Else the name stands above whole trees, and the Corefile asks for it elsewhere.
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
