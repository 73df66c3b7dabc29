"""Loads the tree from options, environment and a YAML file, and reports all faults at once."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

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
    vm_zone,
)
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
from skydns_compat.corefile import REVERSE, cluster_parts
from skydns_compat.names import Name, version

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
    given: frozenset[str] = frozenset()
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
    reader = _Collector()
    if config_file is not None:
        reader.file(config_file)
    reader.environment(environ)
    reader.options(options)
    return reader.result()


class _Collector:
    """Collects values and faults, from the weakest source to the strongest."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.origin: dict[str, str] = {}
        self.faults: dict[str, list[str]] = {}
        self.general: list[str] = []
        self.warnings: list[str] = []
        self.remarks: list[str] = []

    def put(self, setting: Setting, where: str, value: Any, convert: Convert | None = None) -> None:
        """Read ``value``, a list if the setting takes many, in place of those of weaker sources."""
        path = setting.path
        faults: list[str] = []
        for stale in (path, f"{path}_in"):
            self.values.pop(stale, None)
        self.faults.pop(path, None)
        self.origin[path] = where
        items, convert = (value, setting.convert) if setting.many else ([value], convert or setting.convert)
        found = _each(items, convert, where, faults, numbered=len(items) > 1)
        if setting.many:
            self.values[path] = found
        elif found:
            self.values[path] = found[0]
        if faults:
            self.faults[path] = faults

    def file(self, file: Path) -> None:
        """The YAML file."""
        try:
            trees = [one for one in read_documents(file.read_bytes()) if one is not None]
        except OSError as error:
            self.general.append(f"--config: {file} cannot be read: {error.strerror or error}")
            return
        except Unreadable as error:
            self.general.append(f"--config: {file} cannot be read as YAML: {error}")
            return
        if len(trees) > 1:
            self.general.append(f"--config: {file} holds {len(trees)} documents; write one")
        if len(trees) != 1:
            return
        [tree] = trees
        if not isinstance(tree, dict):
            self.general.append(f"{file} is {called(tree)}; write settings such as domain: cluster.local")
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
                self.general.append(f"{source}: {keyless(above.rstrip('.'), 'setting')}")
            elif key not in known:
                self.general.append(f"{where} is no setting{_suggestion(str(key), known)}")
            elif path in GROUPS:
                if isinstance(value, Mapping):
                    self._mapping(value, path + ".", source)
                elif value is not None:
                    self.general.append(
                        f"{where} is {called(value)}; write a mapping of {either(_known_keys(path + '.'))}"
                    )
            elif path == "vm.allowed_networks" and isinstance(value, Mapping):
                self._networks(value, path, where)
            elif value is not None:
                setting = BY_PATH[path]
                several = setting.many and not isinstance(value, list)
                self.put(setting, where, _split(value) if several else value)

    def _networks(self, value: Mapping[Any, Any], path: str, where: str) -> None:
        """Networks by namespace; ``*`` stands for all others."""
        found: dict[str, tuple[Network, ...]] = {}
        faults: list[str] = []
        for namespace, items in value.items():
            if namespace is None:
                faults.append(f"{where}: {keyless('', 'namespace')}")
                continue
            try:
                name = namespace if namespace == "*" else to_word(namespace)
            except Fault as fault:
                faults.append(f"{where}: the key {spelled(namespace)} {fault}")
                continue
            several = isinstance(items, list)
            items = items if several else [items]
            found[name] = _each(items, to_network, f"{where}.{name}", faults, numbered=several)
        self.faults[path] = faults
        self.origin[path] = where
        self.values[path] = found.pop("*", ())
        self.values[f"{path}_in"] = found

    def _zones(self, value: Any, where: str) -> None:
        if value is None:
            return
        if not isinstance(value, list):
            self.general.append(f"{where} is {called(value)}; write a list of zones, each with zone: NAME")
            return
        zones: list[ServiceZone] = []
        for number, item in enumerate(value):
            if (zone := self._zone(item, f"{where}[{number}]")) is not None:
                # Faults found later give its place in the file, however many invalid zones are dropped.
                self.origin[f"zones[{len(zones)}].zone"] = f"{where}[{number}].zone"
                zones.append(zone)
        self.values["zones"] = tuple(zones)

    def _zone(self, value: Any, where: str) -> ServiceZone | None:
        if not isinstance(value, Mapping):
            self.general.append(f"{where} is {called(value)}; write a mapping with zone: NAME")
            return None
        found: dict[str, Any] = {}
        before = len(self.general)
        for key, item in value.items():
            if key is None:
                self.general.append(f"{where}: {keyless('', 'setting')}")
                continue
            if key not in ZONE_FIELDS:
                hint = did_you_mean(str(key), tuple(ZONE_FIELDS))
                self.general.append(f"{where}.{spelled(key)} is no setting of a zone{hint}")
                continue
            setting, at = ZONE_FIELDS[key], f"{where}.{key}"
            several = setting.many and isinstance(item, list)
            converted = _each(
                item if several else [item], setting.convert, at, self.general, numbered=several
            )
            if several and not item:
                self.general.append(f"{at} is an empty list; leave it out for the default")
            found[key] = converted if setting.many else next(iter(converted), None)
        if "zone" not in value:
            self.general.append(f"{where} has no name; write zone: NAME")
        return ServiceZone(**found) if len(self.general) == before else None

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
            value = [part for item in items for part in _split(item)]
        self.put(setting, where, value, setting.flag)

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
        faults = [*self.general, *(fault for each in self.faults.values() for fault in each)]
        settings = Settings(**top, **{group: GROUPS[group](**values) for group, values in groups.items()})
        faults += _combination_faults(settings, self.values, self.origin, self.faults)
        if faults:
            raise SettingsError(*faults)
        return Loaded(settings, tuple(self.warnings), tuple(self.remarks), frozenset(self.origin))


def _each(
    items: list[Any], convert: Convert, where: str, faults: list[str], *, numbered: bool
) -> tuple[Any, ...]:
    """The items as converted, each once; adds the faults of the others."""
    found = []
    for number, item in enumerate(items):
        try:
            found.append(convert(item))
        except Fault as fault:
            faults.append(f"{where}[{number}] {fault}" if numbered else f"{where} {fault}")
    return tuple(dict.fromkeys(found))


def _split(value: Any) -> list[Any]:
    if not isinstance(value, str):
        return [value]
    return [part.strip() for part in value.split(",") if part.strip()]


def _suggestion(key: str, known: tuple[str, ...]) -> str:
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


# --- settings in combination


def _combination_faults(
    settings: Settings, values: Container[str], origin: Mapping[str, str], faults: Container[str]
) -> Iterator[str]:
    """Faults of settings in combination.

    ``values``: paths with a value; ``origin``: the source of each path that was set; ``faults``: paths with
    an invalid value.
    """
    etcd = settings.etcd
    for one, other in (
        ("cert", "key"),
        ("key", "cert"),
        ("user", "password_file"),
        ("password_file", "user"),
    ):
        path, partner = f"etcd.{one}", f"etcd.{other}"
        if path in values and partner not in origin:
            yield f"{origin[path]} needs --{BY_PATH[partner].option} as well"
    if "etcd.servers" in origin and "etcd.servers" not in faults:
        where = origin["etcd.servers"]
        if not etcd.servers:
            yield f"{where} names no server; write a URL such as http://127.0.0.1:2379"
        elif len({urlsplit(url).scheme for url in etcd.servers}) > 1:
            yield f"{where} mixes http and https; write all of them alike"
        elif (etcd.cafile or etcd.cert) and urlsplit(etcd.servers[0]).scheme == "http":
            yield f"{where} is plain http, which would ignore the certificate; write https://"
    if settings.leader_elect and etcd.api == "v2":
        yield f"{origin['leader_elect']} needs leases, which the v2 API lacks; write --etcd-api v3"
    if settings.vm.name_server_ip is not None and settings.vm.domain is None and "vm.domain" not in origin:
        yield f"{origin['vm.name_server_ip']} needs --vm-domain as well"
    if "corefile.vm_listen" in values and settings.vm.domain is None and "vm.domain" not in origin:
        yield f"{origin['corefile.vm_listen']} needs --vm-domain as well"
    if settings.dns_endpoints and not settings.domains and "domains" not in faults:
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
        if path not in values:
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
    served, kept = settings.etcd.prefix + "/", webhook.state_prefix + "/"
    if "webhook.state_prefix" in origin and (served.startswith(kept) or kept.startswith(served)):
        yield f"{origin['webhook.state_prefix']} would lie among the keys of {settings.etcd.prefix}"


def zone_faults(settings: Settings, origin: Mapping[str, str]) -> Iterator[str]:
    """Faults of zones that cannot be served together; ``origin`` maps paths to their sources.

    Records of two zones of one name would mix; a zone within the cluster's own names would hide them, since a
    server answers from the closest zone only.
    """
    cluster = [(settings.domain, "domain")] if settings.cluster_zone else []
    named = [] if settings.vm.domain is None else [(vm_zone(settings.vm.domain), "vm.domain")]
    named += [(zone.zone, f"zones[{number}].zone") for number, zone in enumerate(settings.zones)]
    whole = [(domain.name, "domains") for domain in settings.domains if not domain.only_below]
    first: dict[Name, str] = {}
    for name, path in [*cluster, *named, *whole]:
        if name in first:
            both = f"{origin.get(path, path)} and {origin.get(first[name], first[name])}"
            yield f"{both} both are the zone {name}; give each a name of its own"
        first.setdefault(name, path)
    own = cluster_parts(settings.domain) if settings.cluster_zone else ()
    domains = [(domain.name, "domains") for domain in settings.domains]
    for name, path in [*named, *domains]:
        for taken in own:
            if name.below(taken):
                where = origin.get(path, path)
                yield f"{where} is the zone {name}, where {taken} has names of the cluster; take another"
    for name, path in [(settings.domain, "domain"), *named]:
        if any(name.below(reverse) for reverse in REVERSE):
            where = origin.get(path, path)
            yield f"{where} is the zone {name}, which holds the names of addresses; take another"
