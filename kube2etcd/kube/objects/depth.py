"""JSON that is nested deeper than a decoder follows, cut where nobody reads.

The API server takes ten thousand levels, also in fields that we skip, and a decoder gives up on the whole
answer after some hundreds: one object would take all others of its kind with it.  What it may know: where
strings and brackets of JSON begin and end.  What it must never do: know what a field means.
"""

from __future__ import annotations

import re
from typing import Final

DEEPEST: Final = 100
"""Levels that are left; what is read of any object lies within twelve."""

# A string without an end ends with the text: searched for anew behind each quote in it, it would cost hours.
_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[{\]}]', re.DOTALL)


def shallow(text: bytes) -> bytes:
    """The same JSON with ``null`` in the place of whatever lies deeper than :data:`DEEPEST` levels."""
    parts: list[bytes] = []
    depth = kept = 0
    for token in _TOKEN.finditer(text):
        bracket = text[token.start()]
        if bracket in b"[{":
            depth += 1
            if depth == DEEPEST + 1:
                parts.append(text[kept : token.start()])
        elif bracket in b"]}":
            if depth == DEEPEST + 1:
                parts.append(b"null")
                kept = token.end()
            depth -= 1
    parts.append(text[kept:])
    return b"".join(parts)
