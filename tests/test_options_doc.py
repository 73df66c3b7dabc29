"""docs/options.md is made of the settings' own texts; ``python -m tests.test_options_doc`` writes it."""

from __future__ import annotations

from pathlib import Path

import click

from kube2etcd.cli import main
from kube2etcd.settings import SETTINGS

FILE = Path(__file__).parents[1] / "docs" / "options.md"


def generated() -> str:
    """The whole document."""
    lines = [
        "# Options",
        "",
        "Options beat environment variables, and those beat the settings file (`--config FILE`). A key such",
        "as `etcd.servers` is `servers` below `etcd:` in that file. This table is generated:",
        "`python -m tests.test_options_doc`.",
        "",
        "| option | environment | settings file | meaning | commands |",
        "|---|---|---|---|---|",
    ]
    helps = {
        option: one.help or ""
        for command in main.commands.values()
        for one in command.params
        if isinstance(one, click.Option)
        for option in one.opts
    }
    for setting in SETTINGS:
        option = " or ".join(f"`--{name}`" for name in (setting.option, *setting.aliases))
        variables = ", ".join(f"`{name}`" for name in (setting.variable, *setting.variables))
        meaning = helps[f"--{setting.option}"].replace("|", "\\|").replace("  [", " [")
        commands = ", ".join(setting.commands) or "all"
        lines.append(f"| {option} | {variables} | `{setting.path}` | {meaning} | {commands} |")
    return "\n".join([*lines, ""])


def test_the_document_is_true() -> None:
    assert FILE.read_text("utf-8") == generated()


if __name__ == "__main__":
    FILE.write_text(generated(), "utf-8")
