"""docs/bounds.md states the limits in the code."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parent.parent / "docs" / "bounds.md"
ROWS = re.findall(r"^\| [^|]+ \| ([^|]+) \| [^|]+ \| `([\w.]+)` \|$", DOCUMENT.read_text(), re.MULTILINE)


@pytest.mark.parametrize(("limit", "constant"), ROWS, ids=[constant for _, constant in ROWS])
def test_a_limit_is_the_one_in_the_code(limit: str, constant: str) -> None:
    module, _, name = constant.rpartition(".")
    number = re.search(r"[\d.]+", limit)
    assert number is not None
    assert getattr(importlib.import_module(module), name) == float(number[0])


def test_every_row_is_read() -> None:
    assert len(ROWS) == DOCUMENT.read_text().count("\n| ") - 1
