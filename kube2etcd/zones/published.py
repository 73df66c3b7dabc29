"""What one unit says in one zone: the common result of all sources.  Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from skydns_compat.names import Name
from skydns_compat.records import Record


class Usual(str):
    """A reason that comes in the ordinary course of things: ``explain`` tells it, no log warns of it."""

    __slots__ = ()


@dataclass(slots=True)
class Published:
    """Records under the unit's names, PTR records, and what was left out and why.

    PTR records are apart because several units may claim one address.  ``steps`` are names on the way
    to the unit's that exist without data, unless another unit has data there.  ``sole`` is a name of the
    records that other units may want as well, and that only one can have, with all below it.
    """

    records: list[Record] = field(default_factory=list)
    pointers: list[Record] = field(default_factory=list)
    steps: list[Record] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    sole: Name | None = None

    def odd(self) -> list[str]:
        """The reasons that somebody should mend something for."""
        return [reason for reason in self.left_out if not isinstance(reason, Usual)]
