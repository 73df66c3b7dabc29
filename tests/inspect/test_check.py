"""A Corefile beside the one that the settings make; tests/stack has the checks that ask servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from kube2etcd.inspect import check


@pytest.mark.parametrize(
    ("written", "verdict", "said"),
    [
        ("a\nb\n", "ok", "matches these settings"),
        ("a\nb", "note", "does not match these settings: the end of its last line"),
        ("a\nc\n", "note", "does not match these settings: -c; +b"),
        ("c\nd\n", "note", "-c; -d; +a; 1 more lines"),
        (b"\xff", "fault", "cannot be read: 'utf-8' codec"),
        (None, "fault", "cannot be read: [Errno 2]"),
    ],
)
def test_a_corefile_is_compared(tmp_path: Path, written: str | bytes | None, verdict: str, said: str) -> None:
    file = tmp_path / "Corefile"
    if written is not None:
        file.write_bytes(written if isinstance(written, bytes) else written.encode())
    found = check.corefile(str(file), "a\nb\n")
    assert (found.what, found.verdict) == ("Corefile", verdict)
    assert str(file) in found.text
    assert said in found.text
