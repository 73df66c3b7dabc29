"""How a value that cannot be used is spoken of.

May know YAML's kinds of values; must never know a setting, or decide what can be used.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping
from typing import Any


class Fault(ValueError):
    """A value that cannot be used; the message says what to write instead."""


Convert = Callable[[Any], Any]


def is_scalar(value: Any) -> bool:
    """Whether YAML read this as something that quotes would make text."""
    return isinstance(value, bool | int | float)


def called(value: Any) -> str:
    """What a YAML value is, in words."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return f"{str(value).lower()} (yes or no)"
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, list) else repr(value)


def either(words: tuple[str, ...]) -> str:
    """The words as a choice in a sentence."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " or " + words[-1]


def did_you_mean(text: str, known: Collection[str], near: float = 0.6) -> str:
    """The closest of the ``known`` words as the end of a sentence; empty where none is close.

    Where they are keys of a mapping, what stands there is said.  ``near``: how close, up to 1.
    """
    flat = text.replace("-", "_")
    close = difflib.get_close_matches(flat, known, 1, near)
    close = close or difflib.get_close_matches(flat.lower(), known, 1, near)
    if not close:
        return ""
    return f"; did you mean {known[close[0]] if isinstance(known, Mapping) else close[0]}?"


def spelled(key: Any) -> str:
    """A key as it may have been typed, on one line."""
    text = str(key).lower() if isinstance(key, bool) else str(key)
    return text if text.isprintable() else repr(text)


def keyless(above: str, what: str) -> str:
    """That a key is null: mostly something that was to fill it in and is empty."""
    within = f"under {above} " if above else ""
    return f"{within}a value stands without a key (null); write the name of a {what} before its colon"
