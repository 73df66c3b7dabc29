"""From options, environment and a YAML file to the tree, with every fault at once.

Reads no environment by itself and touches no file but the one it is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kube2etcd.documents import Unreadable, read_documents
from kube2etcd.errors import SettingsError
from kube2etcd.settings.keys import known_keys, meant
from kube2etcd.settings.places import to_network
from kube2etcd.settings.setting import ENVIRONMENT, Setting
from kube2etcd.settings.table import BY_PATH, COMMAND_OPTIONS, GROUPS, SETTINGS, ZONE_FIELDS
from kube2etcd.settings.together import together
from kube2etcd.settings.tree import Network, ServiceZone, Settings
from kube2etcd.settings.values import to_word
from kube2etcd.settings.words import Convert, Fault, called, did_you_mean, either, keyless, spelled

#: How like a setting's an unknown variable's name must be to be worth a warning; 1: the same.
NEAR: Final = 0.9
# What Kubernetes puts into the environment of every pod for a Service: KUBE2ETCD_PORT=tcp://10.0.0.1:8081.
_SERVICE_LINK: Final = re.compile(r"(?:tcp|udp|sctp)://")


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and what is worth a line in the log once there is one."""

    settings: Settings
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    said: frozenset[str] = frozenset()
    """Places in the tree that somebody gave a value, be it the default."""


def load(options: Mapping[str, Any], environ: Mapping[str, str], config_file: Path | None = None) -> Settings:
    """The settings; `SettingsError` with every fault at once."""
    return load_all(options, environ, config_file).settings


def load_all(
    options: Mapping[str, Any], environ: Mapping[str, str], config_file: Path | None = None
) -> Loaded:
    """The settings, with warnings and remarks about what was left aside.

    ``options`` holds text by `Setting.parameter`; ``None`` and the empty tuple mean "not given".
    """
    reader = _Reader()
    if config_file is not None:
        reader.file(config_file)
    reader.environment(environ)
    reader.options(options)
    return reader.result()


class _Reader:
    """Collects values and faults from the weakest source to the strongest."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.said: dict[str, str] = {}
        self.faults: dict[str, list[str]] = {}
        self.loose: list[str] = []
        self.warnings: list[str] = []
        self.remarks: list[str] = []

    # One value

    def put(self, path: str, where: str, read: Callable[[], Any]) -> None:
        """Take a value for ``path``; what a weaker source said of it no longer matters."""
        self.faults.pop(path, None)
        self.values.pop(path, None)
        self.said[path] = where
        try:
            self.values[path] = read()
        except Fault as fault:
            self.faults.setdefault(path, []).append(f"{where} {fault}")

    def put_list(self, path: str, where: str, items: list[Any], convert: Convert) -> None:
        """The same for several values, each with its own fault."""
        self.faults.pop(path, None)
        self.values.pop(f"{path}_in", None)
        self.said[path] = where
        found = []
        for number, item in enumerate(items):
            at = f"{where}[{number}]" if len(items) > 1 else where
            try:
                found.append(convert(item))
            except Fault as fault:
                self.faults.setdefault(path, []).append(f"{at} {fault}")
        self.values[path] = tuple(dict.fromkeys(found))

    # Sources

    def file(self, file: Path) -> None:
        """The YAML file."""
        try:
            trees = [one for one in read_documents(file.read_bytes()) if one is not None]
        except OSError as error:
            self.loose.append(f"--config: {file} cannot be read: {error.strerror or error}")
            return
        except Unreadable as error:
            self.loose.append(f"--config: {file} cannot be read as YAML: {error}")
            return
        if len(trees) > 1:
            self.loose.append(f"--config: {file} holds {len(trees)} documents; write one")
        if len(trees) != 1:
            return
        [tree] = trees
        if not isinstance(tree, dict):
            self.loose.append(f"{file} is {called(tree)}; write settings such as domain: cluster.local")
            return
        self._mapping(tree, "", str(file))

    def _mapping(self, tree: Mapping[Any, Any], above: str, source: str) -> None:
        known = known_keys(above)
        for key, value in tree.items():
            path = f"{above}{spelled(key)}"
            where = f"{source}: {path}"
            if path == "zones":
                self._zones(value, where)
            elif key is None:
                self.loose.append(f"{source}: {keyless(above.rstrip('.'), 'setting')}")
            elif key not in known:
                self.loose.append(f"{where} is no setting{meant(str(key), known)}")
            elif path in GROUPS:
                if isinstance(value, Mapping):
                    self._mapping(value, path + ".", source)
                elif value is not None:
                    self.loose.append(
                        f"{where} is {called(value)}; write a mapping of {either(known_keys(path + '.'))}"
                    )
            elif path == "vm.allowed_networks" and isinstance(value, Mapping):
                self._networks(value, path, where)
            elif value is not None:
                self._plain(BY_PATH[path], value, where)

    def _plain(self, setting: Setting, value: Any, where: str) -> None:
        if setting.many:
            items = value if isinstance(value, list) else _split(value) if setting.split else [value]
            self.put_list(setting.path, where, items, setting.convert)
        else:
            self.put(setting.path, where, lambda: setting.convert(value))

    def _networks(self, value: Mapping[Any, Any], path: str, where: str) -> None:
        """Networks for each namespace; ``*`` stands for all others."""
        found: dict[str, tuple[Network, ...]] = {}
        faults = []
        for namespace, items in value.items():
            networks = []
            if namespace is None:
                faults.append(f"{where}: {keyless('', 'namespace')}")
                continue
            try:
                name = namespace if namespace == "*" else to_word(namespace)
            except Fault as fault:
                faults.append(f"{where}: the key {spelled(namespace)} {fault}")
                continue
            several = isinstance(items, list)
            for number, item in enumerate(items if several else [items]):
                try:
                    networks.append(to_network(item))
                except Fault as fault:
                    faults.append(f"{where}.{name}{f'[{number}]' if several else ''} {fault}")
            found[name] = tuple(dict.fromkeys(networks))
        self.faults[path] = faults
        self.said[path] = where
        self.values[path] = found.pop("*", ())
        self.values[f"{path}_in"] = found

    def _zones(self, value: Any, where: str) -> None:
        if value is None:
            return
        if not isinstance(value, list):
            self.loose.append(f"{where} is {called(value)}; write a list of zones, each with zone: NAME")
            return
        zones: list[ServiceZone] = []
        for number, item in enumerate(value):
            if (zone := self._zone(item, f"{where}[{number}]")) is not None:
                # What is wrong with it beside the others is said of where it stands, whichever are left out.
                self.said[f"zones[{len(zones)}].zone"] = f"{where}[{number}].zone"
                zones.append(zone)
        self.values["zones"] = tuple(zones)

    def _zone(self, value: Any, where: str) -> ServiceZone | None:
        if not isinstance(value, Mapping):
            self.loose.append(f"{where} is {called(value)}; write a mapping with zone: NAME")
            return None
        found: dict[str, Any] = {}
        before = len(self.loose)
        for key, item in value.items():
            if key is None:
                self.loose.append(f"{where}: {keyless('', 'setting')}")
                continue
            if key not in ZONE_FIELDS:
                hint = did_you_mean(str(key), tuple(ZONE_FIELDS))
                self.loose.append(f"{where}.{spelled(key)} is no setting of a zone{hint}")
                continue
            convert, many = ZONE_FIELDS[key]
            items = item if many and isinstance(item, list) else [item]
            converted = []
            for number, one in enumerate(items):
                at = f"{where}.{key}[{number}]" if many and isinstance(item, list) else f"{where}.{key}"
                try:
                    converted.append(convert(one))
                except Fault as fault:
                    self.loose.append(f"{at} {fault}")
            if many and not items:
                self.loose.append(f"{where}.{key} is an empty list; leave it out for the default")
            found[key] = tuple(dict.fromkeys(converted)) if many else converted[0] if converted else None
        if "zone" not in value:
            self.loose.append(f"{where} has no name; write zone: NAME")
        return ServiceZone(**found) if len(self.loose) == before else None

    def environment(self, environ: Mapping[str, str]) -> None:
        """The environment twins; what a Service of our name injects is no setting."""
        known = {name for setting in SETTINGS for name in (setting.variable, *setting.variables)}
        known |= {ENVIRONMENT + option.upper().replace("-", "_") for option in COMMAND_OPTIONS}
        for setting in SETTINGS:
            for variable in reversed((setting.variable, *setting.variables)):
                value = environ.get(variable)
                if value is None or (not value.strip() and not setting.empty):
                    continue
                if _SERVICE_LINK.match(value):
                    if not setting.common:
                        # KUBE2ETCD_PORT is in every pod beside a Service of our name.
                        known.discard(variable)
                        continue
                    self.warnings.append(
                        f"{variable} is ignored: its value is the link of a Kubernetes Service, not a setting"
                    )
                    continue
                self._text(setting, value, variable)
        unknown = sorted(name for name in environ if name.startswith(ENVIRONMENT) and name not in known)
        for name in unknown:
            hint = did_you_mean(name, known, NEAR)
            if hint and not _SERVICE_LINK.match(environ[name]):
                self.warnings.append(f"{name} is ignored: it is no setting{hint}")
        if unknown:
            self.remarks.append(
                f"environment variables that are no settings are ignored: {', '.join(unknown)}"
            )

    def options(self, options: Mapping[str, Any]) -> None:
        """The command line."""
        for setting in SETTINGS:
            value = options.get(setting.parameter)
            if value is None or value == () or (value is False and setting.negated):
                continue
            self._text(setting, value, f"--{setting.option}")

    def _text(self, setting: Setting, value: Any, where: str) -> None:
        if setting.many:
            items = [value] if isinstance(value, str) else list(value)
            parts = [part for item in items for part in (_split(item) if setting.split else [item])]
            self.put_list(setting.path, where, parts, setting.convert)
        else:
            self.put(setting.path, where, lambda: (setting.negated or setting.convert)(value))

    # All of it

    def result(self) -> Loaded:
        """The tree, unless anything is wrong."""
        groups: dict[str, dict[str, Any]] = {}
        top: dict[str, Any] = {}
        for path, value in self.values.items():
            group, dot, name = path.partition(".")
            if dot:
                groups.setdefault(group, {})[name] = value
            else:
                top[group] = value
        faults = [*self.loose, *(fault for each in self.faults.values() for fault in each)]
        settings = Settings(**top, **{group: GROUPS[group](**values) for group, values in groups.items()})
        faults += together(settings, self.values, self.said, self.faults)
        if faults:
            raise SettingsError(*faults)
        return Loaded(settings, tuple(self.warnings), tuple(self.remarks), frozenset(self.said))


def _split(value: Any) -> list[Any]:
    if not isinstance(value, str):
        return [value]
    return [part.strip() for part in value.split(",") if part.strip()]
