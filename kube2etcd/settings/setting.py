"""A setting: how a field of the tree is parsed, named and shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, field, fields
from typing import Any, Final, TypeVar

import msgspec

from kube2etcd.settings.values import EVERYTHING, Convert, to_boolean

_T = TypeVar("_T")

#: Prefix of our environment variables.
ENVIRONMENT: Final = "KUBE2ETCD_"


class Setting(msgspec.Struct, frozen=True):
    """How to set one field of the tree."""

    convert: Convert
    """Converts one value from text or YAML; raises `Fault`."""
    help: str
    """One line for ``--help`` and docs/options.md."""
    option: str = ""
    """Name without ``--``.  Default: the path with hyphens, or without its group if the group is ``bare``."""
    topic: str = ""
    """Heading in ``--help``.  Default: the group's, else that of the setting before it."""
    commands: tuple[str, ...] = ()
    """Commands that use it and show it in ``--help``; empty: all.  Default: the group's."""
    common: bool = True
    """Whether the other commands accept and ignore it, so that the same options work for all.
    Default: the group's."""
    many: bool = False
    """Whether the option may be repeated or hold commas; in the file it is a list."""
    empty: bool = False
    """Whether an empty environment variable counts as a value."""
    needs: str = ""
    """Path of a setting that this one requires."""
    aliases: tuple[str, ...] = ()
    """Other names of the option."""
    more_variables: tuple[str, ...] = ()
    """Other environment variables, strongest first."""
    flag: bool = False
    """Whether the option takes no value and inverts the default, as does a true environment variable."""
    path: str = ""
    """Path in the tree and the file, such as ``etcd.servers``; filled in from the field."""
    default: Any = None
    """Default of the field; filled in."""

    @property
    def metavar(self) -> str:
        """Placeholder of the value in ``--help``."""
        return str(getattr(self.convert, "metavar", "TEXT"))

    @property
    def form(self) -> dict[str, Any]:
        """JSON Schema of the value in the Helm chart, stricter about types than the file."""
        item = getattr(self.convert, "form", {"type": "string"})
        return {"anyOf": [item, {"type": "array", "items": item}]} if self.many else dict(item)

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables, strongest first."""
        return (ENVIRONMENT + self.option.upper().replace("-", "_"), *self.more_variables)

    @property
    def parameter(self) -> str:
        """The key in the mapping of options."""
        return self.option.replace("-", "_")

    @property
    def shown_default(self) -> str:
        """The default as a user would write it; empty if there is none."""
        value = self.default
        if value in (None, MISSING, (), "", EVERYTHING):
            return ""
        if isinstance(value, tuple):
            return ",".join(map(str, value))
        if isinstance(value, bool):
            return str(value).lower()
        return f"{value:g}" if isinstance(value, float) else str(value)

    def is_taken_by(self, command: str) -> bool:
        """Whether ``command`` accepts it."""
        return self.common or self.is_used_by(command)

    def is_used_by(self, command: str) -> bool:
        """Whether ``command`` uses it."""
        return not self.commands or command in self.commands


def setting(default: _T, convert: Convert, help: str, option: str = "", **others: Any) -> _T:
    """A field with a default and the arguments of its `Setting`."""
    given = {"convert": convert, "help": help, **({"option": option} if option else {}), **others}
    return field(default=default, metadata={"setting": given})


def flag(default: bool, help: str, option: str = "", **others: Any) -> bool:
    """A field whose option takes no value and inverts the default."""
    return setting(default, to_boolean, help, option, flag=True, **others)


def group(
    cls: type[_T], topic: str, commands: tuple[str, ...], *, bare: bool = False, common: bool = True
) -> _T:
    """A field for a group, with the attributes that its settings share."""
    shared = {"topic": topic, "commands": commands, "common": common}
    return field(default_factory=cls, metadata={"group": cls, "bare": bare, "shared": shared})


def settings_of(cls: Any, above: str, option: str, shared: Mapping[str, Any]) -> Iterator[Setting]:
    """The settings of ``cls``; ``above`` is the prefix of their paths, ``option`` that of their options."""
    for one in fields(cls):
        data = one.metadata
        if "group" in data:
            prefix = "" if data["bare"] else f"{one.name}-"
            yield from settings_of(data["group"], f"{one.name}.", prefix, data["shared"])
        elif "setting" in data:
            shared = {**shared, "topic": data["setting"].get("topic", shared["topic"])}
            given = {"option": option + one.name.replace("_", "-"), **shared, **data["setting"]}
            yield Setting(**given, path=above + one.name, default=one.default)
