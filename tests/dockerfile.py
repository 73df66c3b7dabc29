"""A Dockerfile as stages of instructions, and which files .dockerignore admits to the build.

Supports only what our own files use; an unknown instruction is an error, so that the
tests never ignore it.
"""

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCKERFILE = ROOT / "Dockerfile"
DOCKERIGNORE = ROOT / ".dockerignore"

KNOWN = {"ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "LABEL", "USER", "EXPOSE", "ENTRYPOINT"}


@dataclass(frozen=True)
class Instruction:
    """One instruction; ``flags`` are its ``--name=value`` words."""

    keyword: str
    value: str
    flags: Mapping[str, str] = field(default_factory=dict)

    @property
    def words(self) -> list[str]:
        """The value as words, without quotes."""
        return shlex.split(self.value)

    def pairs(self) -> dict[str, str]:
        """The variables of ARG, ENV or LABEL; empty for a name without ``=``."""
        return {name: value for name, _, value in (word.partition("=") for word in self.words)}


@dataclass(frozen=True)
class Stage:
    base: str
    name: str
    instructions: tuple[Instruction, ...]

    def of(self, keyword: str) -> list[Instruction]:
        return [one for one in self.instructions if one.keyword == keyword]


def instructions(text: str) -> list[Instruction]:
    """The instructions in their order; comments and continued lines resolved."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    found = []
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        if not line.strip():
            continue
        keyword, _, rest = line.strip().partition(" ")
        assert keyword in KNOWN, f"tests/dockerfile.py does not know {keyword}"
        flags = {}
        while (match := re.match(r"--([a-z]+)=(\S+)\s+", rest)) and keyword in ("COPY", "FROM"):
            flags[match[1]] = match[2]
            rest = rest[match.end() :]
        found.append(Instruction(keyword, rest, flags))
    return found


def stages(text: str) -> tuple[dict[str, str], list[Stage]]:
    """The arguments before the first FROM with their defaults, and the stages."""
    arguments: dict[str, str] = {}
    found: list[tuple[str, str, list[Instruction]]] = []
    for one in instructions(text):
        if one.keyword == "FROM":
            base, *named = one.words
            found.append((base, named[1] if named else "", []))
        elif found:
            found[-1][2].append(one)
        else:
            arguments.update(one.pairs())
    return arguments, [Stage(base, name, tuple(items)) for base, name, items in found]


def ignored(path: str, patterns: Iterable[str]) -> bool:
    """Whether .dockerignore excludes this file: the last pattern that matches decides.

    A pattern that matches a folder also matches the files in it.
    """
    parts = path.split("/")
    above = ["/".join(parts[: count + 1]) for count in range(len(parts))]
    out = False
    for pattern in patterns:
        plain = pattern.removeprefix("!")
        if plain.startswith("**/"):
            matches = plain.removeprefix("**/") in parts
        else:
            matches = any(fnmatchcase(one, plain) and one.count("/") == plain.count("/") for one in above)
        if matches:
            out = not pattern.startswith("!")
    return out


def patterns() -> list[str]:
    """The patterns in our .dockerignore."""
    return [line for line in DOCKERIGNORE.read_text().splitlines() if line and not line.startswith("#")]
