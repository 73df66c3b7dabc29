"""Loads the tree from options, environment and a YAML file, and reports all faults at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from kube2etcd.errors import SettingsError
from kube2etcd.settings.model import (
    BY_PATH,
    GROUPS,
    SETTINGS,
    ZONE_FIELDS,
    Settings,
    ZoneSettings,
    vm_zone,
)
from kube2etcd.settings.setting import ENVIRONMENT, Setting
from kube2etcd.settings.values import (
    Convert,
    Fault,
    Network,
    called,
    did_you_mean,
    either,
    spelled,
    to_word,
)
from skydns_compat.corefile import cluster_parts
from skydns_compat.names import MAX_NAME, REVERSE, Name, version

#: Similarity to a setting's name, at most 1, from which an unknown variable is reported as a likely typo.
NEAR: Final = 0.9
# Kubernetes injects these for a Service of our name: KUBE2ETCD_PORT=tcp://10.0.0.1:8081.
_SERVICE_LINK: Final = re.compile(r"(?:tcp|udp|sctp)://")
_NETWORKS: Final = "vm.allowed_networks"


class Loaded(msgspec.Struct, frozen=True):
    """Settings, where they came from, and messages to log once logging is set up."""

    settings: Settings
    warnings: tuple[str, ...]
    remarks: tuple[str, ...]
    given: frozenset[str]
    """Paths that were set explicitly, even to their default."""
    config: Path | None
    """The settings file."""
    again: Callable[[], Settings]
    """Reads the same sources again; raises `SettingsError`."""


class _Given(NamedTuple):
    """A value as written, and its source."""

    value: Any
    where: str
    convert: Convert


def load(options: Mapping[str, Any], environ: Mapping[str, str], config: Path | None = None) -> Settings:
    """The settings; raises `SettingsError` with all faults."""
    return load_all(options, environ, config).settings


def load_all(
    options: Mapping[str, Any],
    environ: Mapping[str, str],
    config: Path | None = None,
    others: Collection[str] = (),
) -> Loaded:
    """The settings, with warnings and remarks about what was ignored.

    ``options`` holds text by `Setting.parameter`; ``None`` and the empty tuple mean "not given".  ``others``:
    environment variables of ours that are not settings.
    """
    sources = _Sources()
    # In order of increasing precedence.
    if config is not None:
        sources.file(config)
    sources.environment(environ, others)
    sources.options(options)
    settings = sources.settings()
    if sources.faults:
        raise SettingsError(*sources.faults)
    return Loaded(
        settings,
        tuple(sources.warnings),
        tuple(sources.remarks),
        frozenset(sources.given),
        config,
        partial(load, options, environ, config),
    )


class _Sources:
    """Collects values from the sources; the last one to set a path wins, and only its value is checked."""

    def __init__(self) -> None:
        self.given: dict[str, _Given] = {}
        self.zones: tuple[ZoneSettings, ...] = ()
        self.zone_names: dict[str, str] = {}
        """Where each zone's name was written, by its path in the tree."""
        self.faults: list[str] = []
        self.warnings: list[str] = []
        self.remarks: list[str] = []

    def file(self, file: Path) -> None:
        """The YAML file."""
        # Imported only here, so that a start without a file does not need PyYAML.
        from kube2etcd.documents import Unreadable, read_documents

        trees, wrong = [], ""
        try:
            trees = [one for one in read_documents(file.read_bytes()) if one is not None]
        except OSError as error:
            wrong = f"cannot be read: {error.strerror or error}"
        except Unreadable as error:
            wrong = f"cannot be read as YAML: {error}"
        if len(trees) > 1:
            wrong = f"holds {len(trees)} documents; write one"
        elif trees and not isinstance(trees[0], dict):
            wrong = f"is {called(trees[0])}; write settings such as domain: cluster.local"
        if wrong:
            self.faults.append(f"--config: {file} {wrong}")
        elif trees:
            self.given.update(self._mapping(trees[0], BY_PATH, "", f"{file}: "))

    def _mapping(
        self, tree: Mapping[Any, Any], known: Mapping[str, Setting], above: str, source: str
    ) -> Iterator[tuple[str, _Given]]:
        """The values in a mapping of the file, by path: those of ``known`` settings whose path begins with
        ``above``."""
        keys = _keys(known, above)
        for key, value in tree.items():
            path, where = f"{above}{key}", f"{source}{spelled(key)}"
            if key is None:
                self.faults.append(_keyless(source, "setting"))
            elif key not in keys:
                hint = did_you_mean(str(key), keys if known is ZONE_FIELDS else _places(keys))
                if path in known:
                    group, _, name = path.rpartition(".")
                    hint = f"; write {name}: below {group}:"
                self.faults.append(f"{where} is not a setting{hint}")
            # In a zone, a null (often from a template) is a fault, since selectors default to everything.
            elif value is None and known is not ZONE_FIELDS:
                continue
            elif path in known:
                yield path, _Given(value, where, known[path].convert)
            elif path == "zones":
                self._zones(value, where)
            elif isinstance(value, Mapping):
                yield from self._mapping(value, known, f"{path}.", f"{where}.")
            else:
                within = either(_keys(known, f"{path}."))
                self.faults.append(f"{where} is {called(value)}; write a mapping of {within}")

    def _zones(self, value: Any, where: str) -> None:
        """Add the zones of Services that have no fault."""
        if not isinstance(value, list):
            self.faults.append(f"{where} is {called(value)}; write a list of zones, each with zone: NAME")
            return
        for at, item in ((f"{where}[{number}]", item) for number, item in enumerate(value)):
            if not isinstance(item, Mapping):
                self.faults.append(f"{at} is {called(item)}; write a mapping with zone: NAME")
                continue
            before, found = len(self.faults), {}
            for key, given in self._mapping(item, ZONE_FIELDS, "", f"{at}."):
                found[key] = self._read(ZONE_FIELDS[key], given)
                if ZONE_FIELDS[key].many and not _parts(given.value):
                    self.faults.append(
                        f"{given.where} is empty; leave it out for the default, or write a list"
                    )
            if "zone" not in item:
                self.faults.append(f"{at} has no name; write zone: NAME")
            if len(self.faults) == before:
                self.zone_names[f"zones[{len(self.zones)}].zone"] = f"{at}.zone"
                self.zones = (*self.zones, ZoneSettings(**found))

    def environment(self, environ: Mapping[str, str], others: Collection[str]) -> None:
        """The environment; variables that Kubernetes injects for a Service of our name are ignored."""
        known = {*others}
        for setting in SETTINGS:
            known |= {*setting.variables}
            for variable in reversed(setting.variables):
                value = environ.get(variable, "")
                if _SERVICE_LINK.match(value):
                    # Every pod in the namespace of a Service of our name has KUBE2ETCD_PORT: no warning.
                    (self.warnings if setting.common else self.remarks).append(
                        f"{variable} is ignored: its value is the link of a Kubernetes Service, not a setting"
                    )
                elif value.strip() or (setting.empty and variable in environ):
                    self._text(setting, value, variable)
        unknown = sorted(name for name in environ if name.startswith(ENVIRONMENT) and name not in known)
        for name in unknown:
            hint = did_you_mean(name, known, NEAR)
            if hint and not _SERVICE_LINK.match(environ[name]):
                self.warnings.append(f"{name} is ignored: it is not a setting{hint}")
        if unknown:
            self.remarks.append(
                f"environment variables that are not settings are ignored: {', '.join(unknown)}"
            )

    def options(self, options: Mapping[str, Any]) -> None:
        """The command line."""
        for setting in SETTINGS:
            value = options.get(setting.parameter)
            if value is not None and value != () and not (value is False and setting.flag):
                self._text(setting, value, f"--{setting.option}")

    def _text(self, setting: Setting, value: Any, where: str) -> None:
        def turned_over(text: Any) -> bool:
            return bool(setting.convert(text) != setting.default)

        self.given[setting.path] = _Given(value, where, turned_over if setting.flag else setting.convert)

    def settings(self) -> Settings:
        """The tree; `faults` collects faults of single values and of combinations."""
        values: dict[str, Any] = {"zones": self.zones}
        bad = set()
        for path, given in self.given.items():
            before = len(self.faults)
            if path == _NETWORKS and isinstance(given.value, Mapping):
                by_namespace = self._networks(given)
                values[path], values[f"{path}_in"] = by_namespace.pop("*", ()), by_namespace
            else:
                values[path] = self._read(BY_PATH[path], given)
            if len(self.faults) > before:
                bad.add(path)
        groups: dict[str, dict[str, Any]] = {group: {} for group in GROUPS}
        for path in [path for path in values if "." in path]:
            group, _, name = path.partition(".")
            groups[group][name] = values.pop(path)
        settings = Settings(**values, **{group: GROUPS[group](**found) for group, found in groups.items()})
        origin = {path: given.where for path, given in self.given.items()}
        self.faults += _combination_faults(settings, origin | self.zone_names, bad)
        return settings

    def _read(self, setting: Setting, given: _Given) -> Any:
        """The converted value; if it is invalid, adds a fault and returns the default."""
        value, where, convert = given
        items = [(where, value)]
        if setting.many and isinstance(value, list):
            items = [(f"{where}[{number}]", item) for number, item in enumerate(value)]
        elif setting.many:
            items = [(where, part) for part in _parts(value)]
        found = []
        for at, item in items:
            try:
                found.append(convert(item))
            except Fault as fault:
                self.faults.append(f"{at} {fault}")
        if setting.many:
            return tuple(dict.fromkeys(found))
        return found[0] if found else setting.default

    def _networks(self, given: _Given) -> dict[str, tuple[Network, ...]]:
        """Networks by namespace; ``*`` stands for all others."""
        found = {}
        for namespace, items in given.value.items():
            try:
                name = namespace if namespace == "*" else to_word(namespace)
            except Fault as fault:
                wrong = f"{given.where}: the key {spelled(namespace)} {fault}"
                self.faults.append(_keyless(given.where, "namespace") if namespace is None else wrong)
                continue
            where = f"{given.where}.{name}"
            if isinstance(items, str) and not _parts(items):  # from a template whose value is missing
                self.faults.append(f"{where} is empty; write networks, or [] for none")
            else:
                found[name] = self._read(BY_PATH[_NETWORKS], given._replace(value=items, where=where))
        return found


def _parts(value: Any) -> list[Any]:
    """The comma-separated parts of a text, or of each of several; a list is returned as it is."""
    if isinstance(value, tuple):
        return [part for text in value for part in _parts(text)]
    if isinstance(value, list):
        return value
    if not isinstance(value, str):
        return [value]
    return [part.strip() for part in value.split(",") if part.strip()]


def _keys(known: Iterable[str], above: str) -> tuple[str, ...]:
    """The valid keys of the mapping at ``above``, a prefix of paths; at the top ``zones`` too."""
    paths = [*known, "zones"] if known is BY_PATH else known
    return tuple(
        dict.fromkeys(path.removeprefix(above).partition(".")[0] for path in paths if path.startswith(above))
    )


def _places(keys: tuple[str, ...]) -> dict[str, str]:
    """Suggestions for a key that is not in ``keys``: it may be an option's name, or lack its group."""
    places = {key: key for key in keys}
    for setting in SETTINGS:
        path = setting.path
        for name in (setting.option, *setting.aliases, path.replace(".", "-"), path.rpartition(".")[2]):
            places.setdefault(name.replace("-", "_"), path)
    return places


def _keyless(where: str, what: str) -> str:
    """The fault for a null key, usually a template variable that expanded to nothing."""
    return f"{where.rstrip('.: ')}: a value has no key (null); write the name of a {what} before its colon"


# --- settings in combination


def _combination_faults(settings: Settings, origin: Mapping[str, str], bad: Container[str]) -> Iterator[str]:
    """Faults across several settings.

    ``origin``: where each path was set; ``bad``: paths with an invalid value.
    """
    etcd = settings.etcd
    for setting in SETTINGS:
        path, partner = setting.path, setting.needs
        if partner and path in origin and path not in bad and partner not in origin:
            yield f"{origin[path]} needs --{BY_PATH[partner].option} as well"
    if "etcd.servers" in origin and "etcd.servers" not in bad:
        where = origin["etcd.servers"]
        if not etcd.servers:
            yield f"{where} names no server; write a URL such as http://127.0.0.1:2379"
        elif len({urlsplit(url).scheme for url in etcd.servers}) > 1:
            yield f"{where} mixes http and https; write all of them alike"
        elif (etcd.cafile or etcd.cert) and urlsplit(etcd.servers[0]).scheme == "http":
            yield f"{where} is plain http, which would ignore the certificate; write https://"
    if settings.leader_elect and etcd.api == "v2":
        yield f"{origin['leader_elect']} needs leases, which the v2 API lacks; write --etcd-api v3"
    if settings.dns_endpoints and not settings.domains and "domains" not in bad:
        yield f"{origin['dns_endpoints']} needs --domains as well, the domains to publish"
    if not settings.cluster_zone:
        if etcd.api == "v2":
            yield f"{origin['cluster_zone']} leaves SkyDNS nothing: it serves only that zone; omit it"
        elif not (settings.zones or settings.domains or settings.vm.domain is not None):
            yield f"{origin['cluster_zone']} leaves nothing to publish; name --vm-domain, --domains or zones"
    yield from _webhook(settings, origin)
    if etcd.api == "v2" and settings.domains:
        yield f"{origin['domains']} needs CoreDNS: SkyDNS serves one domain; write --etcd-api v3"
    for path in ("skydns.config", "skydns.dns_addr", "skydns.nameservers", "skydns.min_ttl"):
        if path not in origin or path in bad:
            continue
        if etcd.api != "v2":
            yield f"{origin[path]} is for SkyDNS; write --etcd-api v2 as well"
        elif not settings.skydns.config:
            yield f"{origin[path]} is written only with --skydns-config true"
    yield from zone_faults(settings, origin)


def _webhook(settings: Settings, origin: Mapping[str, str]) -> Iterator[str]:
    webhook = settings.webhook
    if webhook.inside and webhook.state_objects is not None and not settings.dns_endpoints:
        yield f"{origin['webhook.state_objects']} needs --dns-endpoints beside --webhook, to read them"
    if webhook.inside and settings.etcd.api == "v2":
        yield f"{origin['webhook.inside']} needs CoreDNS and the v3 API; write --etcd-api v3"
    if len(set(map(version, webhook.cluster_ip))) < len(webhook.cluster_ip):
        yield f"{origin['webhook.cluster_ip']} has two addresses of one family; write one IPv4 and one IPv6"
    given = origin.get("webhook.state_prefix", "")
    if (webhook.inside or given) and (fault := state_prefix_fault(settings, given)):
        yield fault


def state_prefix_fault(settings: Settings, given: str = "") -> str:
    """Why the webhook's state cannot be stored under its prefix; empty: it can.  ``given``: its source."""
    served, kept = settings.etcd.prefix, settings.webhook.state_prefix
    if f"{served}/".startswith(f"{kept}/") or f"{kept}/".startswith(f"{served}/"):
        return f"{given or f'--state-prefix {kept}'} would lie among the keys of {served}"
    return ""


def zone_faults(settings: Settings, origin: Mapping[str, str]) -> Iterator[str]:
    """Faults of zones that cannot be served together; ``origin`` maps paths to their sources.

    Records of two zones with the same name would mix; a zone inside another's reserved names would hide them,
    since a server answers only from the closest zone, or appear in their answers.
    """

    def where(path: str) -> str:
        return origin.get(path) or (f"--{BY_PATH[path].option}" if path in BY_PATH else path)

    cluster = [(settings.domain, "domain")] if settings.cluster_zone else []
    named = [] if settings.vm.domain is None else [(vm_zone(settings.vm.domain), "vm.domain")]
    named += [(zone.zone, f"zones[{number}].zone") for number, zone in enumerate(settings.zones)]
    # Both a.b and .a.b may be given, which are one zone.
    domains = [(name, "domains") for name in dict.fromkeys(domain.name for domain in settings.domains)]
    first: dict[Name, str] = {}
    for name, path in [*cluster, *named, *domains]:
        if name in first:
            yield f"{where(path)} and {where(first[name])} are both the zone {name}; give each its own name"
        first.setdefault(name, path)
    reserved = dict.fromkeys(
        cluster_parts(settings.domain) if settings.cluster_zone else (), "names of the cluster"
    )
    # The server reads a zone's name servers and apex there.
    reserved |= {Name(("dns", *name.labels)): f"the apex and name servers of {name}" for name, _ in named}
    if settings.vm.domain is not None and settings.vm.name_server_ip is not None:
        machines = vm_zone(settings.vm.domain)
        reserved[Name(("ns", *machines.labels))] = f"the name server of {machines}"
    for name, path in [*cluster, *named, *domains]:
        for taken, what in reserved.items():
            if name.below(taken):
                yield f"{where(path)}: the zone {name} would hide {what} at {taken}; choose another name"
    # The server reads all keys below an object's name, whichever zone they are of.
    depths = {zone.zone: zone.name.count(".") + 1 for zone in settings.zones}
    depths |= {name: 2 for name, path in named if path == "vm.domain"}
    for name, path in [*named, *domains]:
        above = (Name(name.labels[cut:]) for cut in range(1, len(name.labels)))
        outer = next((one for one in above if one in first), name)
        if len(name.labels) - len(outer.labels) > depths.get(outer, MAX_NAME):
            yield f"{where(path)}: the zone {name} is below the names of objects in {outer}; choose another"
    for name, path in [(settings.domain, "domain"), *named]:
        if any(name.below(reverse) for reverse in REVERSE):
            yield f"{where(path)}: the zone {name} is for PTR records; choose another name"
