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


KNOWN: tuple[KnownDifference, ...] = (
    KnownDifference(
        name="several names for one address",
        kinds="reverse of .*",
        types=("PTR",),
        what="lacks PTR",
        reason="The etcd plugin reads exactly one PTR per address; the older object's name is the one given.",
    ),
)


def known(difference: Difference) -> str:
    """The name of the class that covers a difference; empty where none does."""
    return next((one.name for one in KNOWN if one.covers(difference)), "")
