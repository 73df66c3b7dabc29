"""Every console block of the guides shows the real output of its command."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from kube2etcd.cli import main

ROOT = Path(__file__).parent.parent


def examples() -> list[tuple[str, str, str]]:
    """Guide, command and the output below it."""
    return [
        (guide.name, command, output)
        for guide in sorted((ROOT / "docs").glob("*.md"))
        for block in re.findall(r"```console\n(.*?)```", guide.read_text(), re.DOTALL)
        for command, output in re.findall(r"^\$ kube2etcd (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
    ]


@pytest.mark.parametrize(("guide", "command", "output"), examples())
def test_the_output_is_the_one_shown(
    guide: str, command: str, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert CliRunner().invoke(main, shlex.split(command)).output == output, (
        f"docs/{guide}: kube2etcd {command}"
    )


def test_every_guide_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    guides = {guide.name for guide in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert guides <= set(re.findall(r"\((\w[\w.-]*\.md)\)", index))
