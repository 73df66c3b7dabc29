"""The documents agree with the code."""

from __future__ import annotations

import re
from pathlib import Path

from kube2etcd.cli import main
from tests.stack.known_differences import KNOWN

ROOT = Path(__file__).parent.parent


def rows() -> list[str]:
    head = ["| difference | types | reason |", "|---|---|---|"]
    return head + [f"| {one.name} | {', '.join(one.types)} | {one.reason} |" for one in KNOWN]


def test_every_difference_from_the_kubernetes_plugin_is_in_the_readme() -> None:
    text = (ROOT / "skydns-compat" / "README.md").read_text()
    wanted = "\n".join(rows())
    assert wanted in text, f"put this table into skydns-compat/README.md:\n{wanted}"


def test_every_guarantee_names_tests_that_exist() -> None:
    text = (ROOT / "skydns-compat" / "README.md").read_text()
    table = [line for line in text[text.index("## What is promised") :].splitlines() if line.startswith("| ")]
    assert {f"G{number}" for number in range(1, 13)} <= {line.split("|")[1].strip() for line in table}
    named = set(re.findall(r"`(test_\w+\.py)`", "\n".join(table)))
    assert len(named) > 12
    assert {name for name in named if not (ROOT / "tests" / "stack" / name).is_file()} == set()
    guarantees = {path.name for path in (ROOT / "tests" / "stack").glob("test_guarantee_*.py")}
    assert guarantees <= named


def test_every_command_in_the_documents_exists_with_its_options() -> None:
    seen = set()
    for document in sorted(ROOT.glob("**/*.md")):
        hidden = any(part.startswith(".") for part in document.relative_to(ROOT).parts)
        if hidden or document.name == "CHANGELOG.md":
            continue
        for name, rest in re.findall(
            r"(?<![\w./-])kube2etcd ([a-z][a-z-]*)([^`|#\n]*)", document.read_text()
        ):
            if not (command := main.commands.get(name)):
                # Prose: "kube2etcd watches …".  A command has an option behind it, or nothing.
                assert " --" not in rest, f"{document}: there is no command {name}"
                continue
            seen.add(name)
            known = {option for one in command.params for option in one.opts}
            asked = set(re.findall(r"(?<=\s)--[a-z][a-z-]*", rest))
            assert asked <= known | {"--help"}, f"{document}: kube2etcd {name}{rest}"
    assert seen == set(main.commands), "a command that no document shows"


def test_the_first_page_is_one_page() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 60
