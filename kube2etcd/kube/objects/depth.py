"""Truncates JSON nested deeper than the decoder supports.

The API server accepts ten thousand levels, also in fields that we skip; the decoder rejects the whole answer
after some hundreds, so one object would block all others of its kind.
"""

from __future__ import annotations

import re
from typing import Final

DEEPEST: Final = 100
"""Levels kept; all fields we read lie within twelve."""

# An unterminated string matches to the end of the text: rescanning from each quote in it would be quadratic.
_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[{\]}]', re.DOTALL)


def shallow(text: bytes) -> bytes:
    """``text`` with everything below :data:`DEEPEST` levels replaced by ``null``."""
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
