"""Loads the tree from options, environment and a YAML file, and reports all faults at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kube2etcd.documents import Unreadable, read_documents
from kube2etcd.errors import SettingsError
from kube2etcd.settings.model import (
    BY_PATH,
    COMMAND_OPTIONS,
    ENVIRONMENT,
    GROUPS,
    SETTINGS,
    ZONE_FIELDS,
    ServiceZone,
    Setting,
    Settings,
)
from kube2etcd.settings.validation import combination_faults
from kube2etcd.settings.values import (
    Convert,
    Fault,
    Network,
    called,
    did_you_mean,
    either,
    keyless,
    spelled,
    to_network,
    to_word,
)

#: Similarity to a setting's name from which on an unknown variable is warned of; 1: equal.
NEAR: Final = 0.9
# Kubernetes injects these for a Service of our name: KUBE2ETCD_PORT=tcp://10.0.0.1:8081.
_SERVICE_LINK: Final = re.compile(r"(?:tcp|udp|sctp)://")


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and messages to log once logging is set up."""

    settings: Settings
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    said: frozenset[str] = frozenset()
    """Paths that were set, be it to their default."""


def load(options: Mapping[str, Any], environ: Mapping[str, str], config_file: Path | None = None) -> Settings:
    """The settings; `SettingsError` with all faults."""
    return load_all(options, environ, config_file).settings


def load_all(
    options: Mapping[str, Any], environ: Mapping[str, str], config_file: Path | None = None
) -> Loaded:
    """The settings, with warnings and remarks about what was ignored.

    ``options`` holds text by `Setting.parameter`; ``None`` and the empty tuple mean "not given".
    """
    reader = _Reader()
    if config_file is not None:
        reader.file(config_file)
    reader.environment(environ)
    reader.options(options)
    return reader.result()


class _Reader:
    """Collects values and faults, from the weakest source to the strongest."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.said: dict[str, str] = {}
        self.faults: dict[str, list[str]] = {}
        self.loose: list[str] = []
        self.warnings: list[str] = []
        self.remarks: list[str] = []

    def put(self, path: str, where: str, read: Callable[[], Any]) -> None:
        """Set ``path``, replacing value and faults of weaker sources."""
        self.faults.pop(path, None)
        self.values.pop(path, None)
        self.said[path] = where
        try:
            self.values[path] = read()
        except Fault as fault:
            self.faults.setdefault(path, []).append(f"{where} {fault}")

    def put_list(self, path: str, where: str, items: list[Any], convert: Convert) -> None:
        """Set ``path`` to a list; each item may have its own fault."""
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
        known = _known_keys(above)
        for key, value in tree.items():
            path = f"{above}{spelled(key)}"
            where = f"{source}: {path}"
            if path == "zones":
                self._zones(value, where)
            elif key is None:
                self.loose.append(f"{source}: {keyless(above.rstrip('.'), 'setting')}")
            elif key not in known:
                self.loose.append(f"{where} is no setting{_meant(str(key), known)}")
            elif path in GROUPS:
                if isinstance(value, Mapping):
                    self._mapping(value, path + ".", source)
                elif value is not None:
                    self.loose.append(
                        f"{where} is {called(value)}; write a mapping of {either(_known_keys(path + '.'))}"
                    )
            elif path == "vm.allowed_networks" and isinstance(value, Mapping):
                self._networks(value, path, where)
            elif value is not None:
                self._plain(BY_PATH[path], value, where)

    def _plain(self, setting: Setting, value: Any, where: str) -> None:
        if setting.many:
            items = value if isinstance(value, list) else _split(value)
            self.put_list(setting.path, where, items, setting.convert)
        else:
            self.put(setting.path, where, lambda: setting.convert(value))

    def _networks(self, value: Mapping[Any, Any], path: str, where: str) -> None:
        """Networks by namespace; ``*`` stands for all others."""
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
                # Faults found later give its place in the file, however many invalid zones are dropped.
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
            convert, many = ZONE_FIELDS[key].convert, ZONE_FIELDS[key].many
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
        """The environment; variables that Kubernetes injects for a Service of our name are ignored."""
        known = {name for setting in SETTINGS for name in (setting.variable, *setting.variables)}
        known |= {ENVIRONMENT + option.upper().replace("-", "_") for option in COMMAND_OPTIONS}
        for setting in SETTINGS:
            for variable in reversed((setting.variable, *setting.variables)):
                value = environ.get(variable)
                if value is None or (not value.strip() and not setting.empty):
                    continue
                if _SERVICE_LINK.match(value):
                    if not setting.common:
                        # Every pod beside a Service of our name has KUBE2ETCD_PORT: not worth a warning.
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
            if value is None or value == () or (value is False and setting.flag):
                continue
            self._text(setting, value, f"--{setting.option}")

    def _text(self, setting: Setting, value: Any, where: str) -> None:
        if setting.many:
            items = [value] if isinstance(value, str) else list(value)
            parts = [part for item in items for part in _split(item)]
            self.put_list(setting.path, where, parts, setting.convert)
        else:
            self.put(setting.path, where, lambda: (setting.flag or setting.convert)(value))

    def result(self) -> Loaded:
        """The tree; raises `SettingsError`."""
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
        faults += combination_faults(settings, self.values, self.said, self.faults)
        if faults:
            raise SettingsError(*faults)
        return Loaded(settings, tuple(self.warnings), tuple(self.remarks), frozenset(self.said))


def _split(value: Any) -> list[Any]:
    if not isinstance(value, str):
        return [value]
    return [part.strip() for part in value.split(",") if part.strip()]


def _meant(key: str, known: tuple[str, ...]) -> str:
    """A hint for an unknown ``key``: it may be one of the ``known``, an option, or lack its group."""
    places = {name: name for name in known}
    for setting in SETTINGS:
        for name in (setting.option, *setting.aliases, setting.path.replace(".", "-")):
            places.setdefault(name.replace("-", "_"), setting.path)
    for setting in SETTINGS:
        places.setdefault(setting.path.rpartition(".")[2], setting.path)
    return did_you_mean(key, places)


def _known_keys(above: str) -> tuple[str, ...]:
    """The keys of the mapping at ``above``, a prefix of paths."""
    paths = [*BY_PATH, *(("zones",) if not above else ())]
    return tuple(
        dict.fromkeys(path[len(above) :].partition(".")[0] for path in paths if path.startswith(above))
    )
