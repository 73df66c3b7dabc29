"""What the documents say is held to what the code knows."""

from __future__ import annotations

from pathlib import Path

from tests.stack.known_differences import KNOWN

ROOT = Path(__file__).parent.parent


def rows() -> list[str]:
    head = ["| difference | types | reason |", "|---|---|---|"]
    return head + [f"| {one.name} | {', '.join(one.types)} | {one.reason} |" for one in KNOWN]


def test_every_difference_from_the_kubernetes_plugin_is_in_the_readme() -> None:
    text = (ROOT / "skydns-compat" / "README.md").read_text()
    wanted = "\n".join(rows())
    assert wanted in text, f"put this table into skydns-compat/README.md:\n{wanted}"
