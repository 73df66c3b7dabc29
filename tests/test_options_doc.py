"""docs/options.md is generated; ``python -m tests.test_options_doc`` writes it."""

from collections.abc import Sequence
from pathlib import Path

import click

from kube2etcd.cli import main
from kube2etcd.settings import SETTINGS, TOPICS, ZONE_FIELDS

FILE = Path(__file__).parents[1] / "docs" / "options.md"


def table(head: str, rows: Sequence[tuple[str, ...]]) -> list[str]:
    titles = head.split(", ")
    lines = [" | ".join(titles), "|".join(["---"] * len(titles))]
    lines += [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    return [f"| {line} |" if number != 1 else f"|{line}|" for number, line in enumerate(lines)] + [""]


def code(*texts: str) -> str:
    return ", ".join(f"`{text}`" for text in texts if text)


def generated() -> str:
    lines = [
        "# Options",
        "",
        "Options take precedence over environment variables, those over the settings file (`--config FILE`).",
        "A key such as `etcd.servers` is `servers` below `etcd:` in that file. This page is generated:",
        "`python -m tests.test_options_doc`.",
        "",
        "Completion in bash: `source <(_KUBE2ETCD_COMPLETE=bash_source kube2etcd)`;",
        "in other shells with `zsh_source` or `fish_source`.",
        "",
    ]
    for topic in TOPICS:
        rows = [
            (
                code(*(f"--{name}" for name in (setting.option, *setting.aliases))),
                code(*setting.variables),
                code(setting.path),
                code(setting.shown_default),
                setting.help,
                ", ".join(setting.commands) or "all",
            )
            for setting in SETTINGS
            if setting.topic == topic
        ]
        lines += [f"## {topic}", ""]
        lines += table("option, environment, settings file, default, meaning, commands", rows)
    lines += [
        "## Zones of Services",
        "",
        "`zones` is a list, in the settings file only; each item has these keys.",
        "",
    ]
    zone = [(code(key), code(one.shown_default), one.help) for key, one in ZONE_FIELDS.items()]
    lines += table("key, default, meaning", zone)
    lines += ["## Options of single commands", ""]
    own: dict[tuple[str, ...], list[str]] = {}
    for name, command in main.commands.items():
        for one in command.params:
            if isinstance(one, click.Option) and not getattr(one, "topic", ""):
                variable = one.envvar if isinstance(one.envvar, str) else ""
                shown = f" [default: {one.default}]" if one.show_default else ""
                row = (code(*one.opts), code(variable), (one.help or "").replace("  [", " [") + shown)
                own.setdefault(row, []).append(name)
    own_rows = [(*row, ", ".join(commands)) for row, commands in sorted(own.items())]
    return "\n".join(lines + table("option, environment, meaning, commands", own_rows))


def test_document_is_up_to_date() -> None:
    assert FILE.read_text("utf-8") == generated()


if __name__ == "__main__":
    FILE.write_text(generated(), "utf-8")
