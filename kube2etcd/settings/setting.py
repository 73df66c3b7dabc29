"""What one setting is, and which commands there are to use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kube2etcd.settings.values import MAX_TTL, to_integer
from kube2etcd.settings.words import Convert

#: What every environment variable of ours begins with.
ENVIRONMENT: Final = "KUBE2ETCD_"


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing that can be set: where it is in the tree, how it is called, how it is read."""

    path: str
    """Place in the tree and in the file: ``etcd.servers``."""
    option: str
    """Name of the option, without the hyphens in front; its environment twin follows from it."""
    convert: Convert
    """One value of text or YAML to what the tree holds; `Fault` says what to write instead."""
    help: str
    """One line for ``--help``."""
    metavar: str = "TEXT"
    """What stands for the value in ``--help``."""
    many: bool = False
    """Repeatable, a list in the file, separated by commas in the environment."""
    split: bool = False
    """Whether one value of the option may hold several, separated by commas."""
    empty: bool = False
    """Whether an empty value of the environment means something."""
    aliases: tuple[str, ...] = ()
    """Other names of the option."""
    variables: tuple[str, ...] = ()
    """Other environment variables, each weaker than the one before."""
    negated: Convert | None = None
    """For a flag: how the option's value becomes the tree's."""
    commands: tuple[str, ...] = ()
    """The commands that use it, and so show it in ``--help``; empty: all."""
    common: bool = True
    """Whether other commands take it as well, without a word, so that one list of options does for all."""

    @property
    def variable(self) -> str:
        """The environment twin."""
        return ENVIRONMENT + self.option.upper().replace("-", "_")

    @property
    def parameter(self) -> str:
        """The key in the mapping of options."""
        return self.option.replace("-", "_")

    def is_taken_by(self, command: str) -> bool:
        """Whether it is an option of ``command``."""
        return self.common or self.is_used_by(command)

    def is_used_by(self, command: str) -> bool:
        """Whether it means anything to ``command``."""
        return not self.commands or command in self.commands


#: Commands by what they do: make records, write them, read the API server, know where the keys are.
PUBLISH: Final = ("run", "resync", "records", "explain")
WRITE: Final = ("run", "resync")
LIST: Final = (*PUBLISH, "check")
STORE: Final = (*LIST, "corefile", "webhook")
#: Both ways to have the door for ExternalDNS.
DOOR: Final = ("run", "webhook")

#: Reads what is a TTL.
SECONDS: Final = to_integer(1, MAX_TTL, "whole seconds")
