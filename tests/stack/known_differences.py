"""Where our answers differ from those of CoreDNS's own kubernetes plugin: every class, with its reason.

The differential test fails for a difference that no line here covers; the README of skydns-compat shows them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.stack.compare import Difference


@dataclass(frozen=True)
class KnownDifference:
    """A class of differences: kind of name and what differs as regular expressions, and the types."""

    name: str
    kinds: str
    types: tuple[str, ...]
    what: str
    reason: str

    def covers(self, difference: Difference) -> bool:
        """Whether the difference is of this class."""
        question = difference.question
        return (
            question.rdtype in self.types
            and re.fullmatch(self.kinds, question.kind) is not None
            and re.fullmatch(self.what, difference.what) is not None
        )


REVERSE = ("PTR",)

KNOWN: tuple[KnownDifference, ...] = (
    KnownDifference(
        name="several names for one address",
        kinds="reverse of .*",
        types=REVERSE,
        what="lacks PTR|lacks PTR, adds PTR",
        reason="The etcd plugin reads exactly one PTR for an address: the older object's. The plugin "
        "gives all.",
    ),
    KnownDifference(
        name="addresses whose name does not exist",
        kinds="reverse of an endpoint",
        types=REVERSE,
        what="NOERROR became NXDOMAIN",
        reason="The plugin also gives PTR for slices of ExternalName Services and of Services that are gone, "
        "to names that it then denies. We point to names that exist.",
    ),
    KnownDifference(
        name="slices that belong to no Service",
        kinds="reverse of an endpoint",
        types=REVERSE,
        what="Timeout became NXDOMAIN",
        reason="For an address in a slice without a Service's label the plugin makes a name with an empty "
        "label, which cannot be sent: the client waits in vain.",
    ),
    KnownDifference(
        name="labels before a reverse name",
        kinds="no such reverse",
        types=REVERSE,
        what="NOERROR became NXDOMAIN",
        reason="The plugin passes over surplus labels before the 32 of an IPv6 address. "
        "No such name is an address.",
    ),
)


def known(difference: Difference) -> str:
    """The name of the class that covers a difference; empty where none does."""
    return next((one.name for one in KNOWN if one.covers(difference)), "")
