"""`check` of a Corefile against the settings; tests/stack has the checks against servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from kube2etcd.inspect import check


@pytest.mark.parametrize(
    ("content", "verdict", "message"),
    [
        ("a\nb\n", "ok", "matches these settings"),
        ("a\nb", "note", "does not match these settings: the end of its last line"),
        ("a\nc\n", "note", "does not match these settings: -c; +b"),
        ("c\nd\n", "note", "-c; -d; +a; 1 more lines"),
        (b"\xff", "fault", "cannot be read: it is not UTF-8"),
        (None, "fault", "cannot be read: No such file or directory"),
    ],
)
def test_corefile_is_compared_with_the_settings(
    tmp_path: Path, content: str | bytes | None, verdict: str, message: str
) -> None:
    file = tmp_path / "Corefile"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = check.corefile(str(file), "a\nb\n")
    assert (found.what, found.verdict) == ("Corefile", verdict)
    assert str(file) in found.text
    assert message in found.text
