"""Settings: one typed tree from options, environment and a YAML file.

Options beat the environment, the environment beats the file.  Every fault is reported at once, with
where it stands and what to write instead.  `SETTINGS` is the one list of what can be set; the
command line makes its options from it.  Reads no environment by itself and touches no file but the
one it is given.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml

from kube2etcd.errors import SettingsError
from kube2etcd.selectors import InvalidSelector, Selector
from skydns_compat.names import Address, InvalidAddress, InvalidName, Name, parse_address

#: What every environment variable of ours begins with.
ENVIRONMENT: Final = "KUBE2ETCD_"
#: The largest TTL that DNS knows (RFC 2181 section 8).
MAX_TTL: Final = 2**31 - 1

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

CLUSTER_LOCAL: Final = Name(("cluster", "local"))

#: Environment twins of what is no setting but an option of one command.
COMMAND_OPTIONS: Final = frozenset(
    {"config", "dry-run", "force", "output", "objects", "zone", "type", "object"}
)

# What Kubernetes puts into the environment of every pod for a Service: KUBE2ETCD_PORT=tcp://10.0.0.1:8081.
_SERVICE_LINK: Final = re.compile(r"(?:tcp|udp|sctp)://")


# --- The tree ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HostPort:
    """Where to listen; an empty host means every address, of both families."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Etcd:
    """How etcd is reached."""

    servers: tuple[str, ...] = ("http://127.0.0.1:2379",)
    """URLs, tried in turn.  Default: the etcd in the same pod, which nobody else can reach."""
    cafile: str | None = None
    """File with the authorities that etcd's certificate is checked against.  Default: the system's."""
    cert: str | None = None
    """File with our certificate; goes with ``key``."""
    key: str | None = None
    """File with the key of our certificate; goes with ``cert``."""
    user: str | None = None
    """User name; goes with ``password_file``."""
    password_file: str | None = None
    """File with the password, read again when etcd refuses it.  A file, since options are public."""
    api: str = "v3"
    """``v3`` for CoreDNS, ``v2`` for classic SkyDNS.  Default: what today's etcd speaks."""
    prefix: str = "/skydns"
    """What every key begins with.  Default: the default of CoreDNS and SkyDNS."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """How the API server is reached.  Nothing given: in-cluster, else the default kubeconfig."""

    kubeconfig: str | None = None
    """kubeconfig file."""
    context: str | None = None
    """Context of the kubeconfig.  Default: its current one."""
    kube_master_url: str | None = None
    """URL of the API server; beats the kubeconfig's."""


@dataclass(frozen=True, slots=True)
class Vm:
    """The zone of virtual machines."""

    domain: str | None = None
    """``None``: no such zone (the default); empty: the zone ``vm``; a domain: ``vm.<domain>``."""
    name_server_ip: Address | None = None
    """Address of ``ns.<zone>``.  Default: none, so the zone cannot be delegated, only forwarded to."""
    allowed_networks: tuple[Network, ...] | None = None
    """Networks whose addresses machines may name; guests choose their addresses.  Default: all."""
    allowed_networks_in: Mapping[str, tuple[Network, ...]] = field(default_factory=dict)
    """The same for single namespaces: ``allowed_networks`` in the file may be a mapping, in which
    ``*`` stands for all other namespaces; without it machines elsewhere name nothing."""
    reverse: tuple[Network, ...] = ()
    """Networks whose addresses get PTR records of machines.  Default: none."""


@dataclass(frozen=True, slots=True)
class ServiceZone:
    """A selection of Services under a zone of their own."""

    zone: Name
    """The zone's name."""
    namespaces: tuple[str, ...] = ()
    """Only these namespaces.  Default: all."""
    selector: str = ""
    """Label selector for Services.  Default: all."""
    namespace_selector: str = ""
    """Label selector for namespaces.  Default: all."""
    addresses: tuple[str, ...] = ("external", "internal")
    """Which addresses, in the order of the answer.  Default: external first, since others ask here."""
    name: str = "{service}.{namespace}"
    """Template of the names.  Default: unique, and as in the cluster zone."""
    ttl: int | None = None
    """Seconds.  Default: that of the cluster zone."""
    wildcards: bool = False
    """Whether ``*`` and ``any`` in a question stand for any label.  Default: no; they read subtrees."""


@dataclass(frozen=True, slots=True)
class Serve:
    """What the Corefile needs to know beside the zones; only ``corefile`` uses it."""

    dns_listen: HostPort = HostPort("", 53)
    """Where CoreDNS answers.  Default: the port of DNS."""
    vm_listen: HostPort | None = None
    """Where the vm zone is answered by itself.  Default: with the others."""
    upstream: str = "/etc/resolv.conf"
    """Where other questions go: a resolv.conf or addresses.  Default: the node's resolvers."""
    cache: int = 30
    """Seconds that CoreDNS keeps answers; 0: none.  Default: no longer than the records' own TTL."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set."""

    domain: Name = CLUSTER_LOCAL
    """Zone of the cluster.  Default: that of nearly every cluster."""
    ttl: int = 30
    """Seconds of the records.  Default: kube2sky's; an address that moved is found soon."""
    owner_id: str = "kube2etcd"
    """Mark in every value of ours.  Give each bridge its own where two share an etcd."""
    pods: str = "insecure"
    """Names such as ``10-1-2-3.ns.pod``: ``disabled``, ``insecure`` (whatever is asked), ``verified``
    (only of pods that exist; costs a watch on all pods).  Default: as CoreDNS is deployed everywhere."""
    endpoint_names: str = "headless"
    """Whose endpoints have names: ``headless`` or ``all`` Services.  Default: the specification's."""
    tenant_cluster_ip: bool = True
    """Whether the annotation with a tenant's real ClusterIP is honoured.  Default: yes; others lack it."""
    dns_server_ip: tuple[Address, ...] = ()
    """Addresses of the cluster's DNS Service, for ``ns.dns.<domain>``.  Default: none."""
    etcd: Etcd = field(default_factory=Etcd)
    """How etcd is reached."""
    cluster: Cluster = field(default_factory=Cluster)
    """How the API server is reached."""
    listen: HostPort = HostPort("", 8081)
    """The HTTP door of ``run``.  Default: kube2sky's port."""
    resync_period: float = 300.0
    """Seconds between full passes, each up to a tenth shorter or longer so that many bridges do not
    list at once.  Default: what was lost without a sign is back in minutes, at a price nobody notices."""
    log_format: str = "text"
    """``text`` or ``json``.  Default: people read it first."""
    log_level: str = "info"
    """``debug``, ``info``, ``warning`` or ``error``.  Default: one line per change."""
    vm: Vm = field(default_factory=Vm)
    """The zone of virtual machines."""
    zones: tuple[ServiceZone, ...] = ()
    """Zones with selections of Services; from the file only.  Default: none."""
    domains: tuple[Name, ...] = ()
    """External domains, whose names come through the webhook.  Default: none."""
    corefile: Serve = field(default_factory=Serve)
    """What only ``corefile`` uses."""


# --- How a value is read ---------------------------------------------------------------------------


class _Fault(ValueError):
    """A value that cannot be used; the message says what to write instead."""


Convert = Callable[[Any], Any]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Fault(f"is {_called(value)}; write text" + (" in quotes" if _scalar(value) else ""))
    return value


def _file(value: Any) -> str:
    text = _text(value)
    if not text or "\0" in text:
        raise _Fault("is no file name; write a path")
    return text


def _scalar(value: Any) -> bool:
    return isinstance(value, bool | int | float)


def _called(value: Any) -> str:
    """What a YAML value is, in words."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return f"{str(value).lower()} (yes or no)"
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, list) else repr(value)


def _one_of(*words: str) -> Convert:
    def convert(value: Any) -> str:
        text = str(value).lower() if not isinstance(value, bool) else ""
        if text not in words:
            raise _Fault(f"is {_called(value)}; write {_either(words)}{_did_you_mean(text, words)}")
        return text

    return convert


def _either(words: tuple[str, ...]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " or " + words[-1]


def _integer(low: int, high: int, what: str) -> Convert:
    def convert(value: Any) -> int:
        text = str(value).strip()
        number = int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else low - 1
        if isinstance(value, bool) or not low <= number <= high:
            raise _Fault(f"is {_called(value)}; write {what} from {low} to {high}")
        return number

    return convert


_UNITS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def _duration(low: float, high: float) -> Convert:
    def convert(value: Any) -> float:
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smh]?)", str(value).strip())
        seconds = float(match[1]) * _UNITS[match[2]] if match else -1.0
        if isinstance(value, bool) or not low <= seconds <= high:
            raise _Fault(
                f"is {_called(value)}; write seconds from {low:g} to {high:g}, or a duration such as 5m"
            )
        return seconds

    return convert


def _boolean(value: Any) -> bool:
    text = str(value).strip().lower()
    if text in ("true", "yes", "on", "1"):
        return True
    if text in ("false", "no", "off", "0"):
        return False
    raise _Fault(f"is {_called(value)}; write true or false")


def _not(value: Any) -> bool:
    return not _boolean(value)


def _name(value: Any) -> Name:
    try:
        return Name.parse(_text(value).strip())
    except InvalidName as error:
        raise _Fault(
            f"is {value!r}, which is no DNS name ({error}); write one such as cluster.local"
        ) from None


def _vm_domain(value: Any) -> str:
    if value == "":
        return ""
    name = _name(value)
    try:
        name.child("vm")
    except InvalidName as error:
        raise _Fault(f"is too long to have vm. in front of it ({error})") from None
    return str(name)


def _address(value: Any) -> Address:
    try:
        return parse_address(_text(value).strip())
    except InvalidAddress:
        raise _Fault(f"is {value!r}; write one IP address such as 10.96.0.10 or fd00::10") from None


def _network(value: Any) -> Network:
    try:
        return ipaddress.ip_network(_text(value).strip())
    except ValueError:
        raise _Fault(f"is {value!r}; write one network such as 10.10.0.0/16 or fd00:5::/64") from None


def parse_host_port(value: Any) -> HostPort:
    """``HOST:PORT``, ``:PORT``, ``[::]:PORT`` or a port alone; ``ValueError`` says what to write."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else _text(value).strip()
    match = re.fullmatch(r"(?:\[(?P<six>[^\]]*)\]:|(?P<host>[^:\[\]\s/]*):)?(?P<port>[0-9]{1,5})", text)
    if match is None or int(match["port"]) > 65535:
        hint = f"; write [{text}]:8081 for an IPv6 address" if _is_v6(text) else ""
        raise _Fault(f"is {value!r}; write HOST:PORT, :PORT or [IPV6]:PORT with a port up to 65535{hint}")
    if match["six"] is not None and not _is_v6(match["six"]):
        raise _Fault(f"is {value!r}; only an IPv6 address stands in brackets, such as [::1]:8081")
    return HostPort(match["six"] or match["host"] or "", int(match["port"]))


def _is_v6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _url(example: str) -> Convert:
    def convert(value: Any) -> str:
        text = _text(value).strip()
        try:
            parts = urlsplit(text)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname)
            _ = parts.port
        except ValueError:
            usable = False
        if not usable:
            raise _Fault(f"is {_hidden(text)}; write a URL such as {example}")
        if parts.username is not None or parts.password is not None:
            raise _Fault("holds a user name or password; give them by options or files of their own")
        return text.rstrip("/")

    return convert


def _hidden(text: str) -> str:
    """The text as typed, less what may be a password."""
    return repr(re.sub(r"//[^/@]*@", "//***@", text))


def _etcd_url(value: Any) -> str:
    url: str = _url("http://127.0.0.1:2379")(value)
    if urlsplit(url).path:
        raise _Fault(f"is {url!r}; write it without a path, such as http://127.0.0.1:2379")
    return url


def _prefix(value: Any) -> str:
    text = _text(value)
    if not re.fullmatch(r"/[A-Za-z0-9._-]+/?", text):
        # The servers make the targets of SRV from keys, and take exactly one part for the prefix.
        raise _Fault(f"is {text!r}; write a path of one part, such as /skydns")
    return text.rstrip("/")


def _owner(value: Any) -> str:
    text = _text(value)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}", text):
        raise _Fault(f"is {text!r}; write up to 63 letters, digits, dots, hyphens or slashes")
    return text


def _upstream(value: Any) -> str:
    text = _text(value).strip()
    if not text or re.search(r"[{}\"#\n]", text):
        raise _Fault(
            f"is {text!r}; write a resolv.conf file, or addresses such as 192.0.2.53 with blanks between"
        )
    return text


def _template(value: Any) -> str:
    text = _text(value)
    try:
        fields = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
    except ValueError as error:
        raise _Fault(f"is {text!r}, which is no template ({error}); write one such as {{service}}") from None
    if "service" not in fields or fields - {"service", "namespace"}:
        raise _Fault(
            f"is {text!r}; write a template of {{service}} and {{namespace}}, with {{service}} in it"
        )
    return text


def _word(value: Any) -> str:
    text = _text(value)
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", text) or len(text) > 63:
        raise _Fault(f"is {text!r}, which cannot be the name of a namespace")
    return text


def _selector(value: Any) -> str:
    text = _text(value).strip()
    if not text:
        raise _Fault("is empty; leave it out to select everything, or write one such as tier=web")
    try:
        Selector.parse(text)
    except InvalidSelector as error:
        raise _Fault(f"cannot be used: {error}") from None
    return text


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing that can be set: where it is in the tree, how it is called, how it is read."""

    path: str
    """Place in the tree and in the file: ``etcd.servers``."""
    option: str
    """Name of the option, without the hyphens in front; its environment twin follows from it."""
    convert: Convert
    """One value of text or YAML to what the tree holds; `_Fault` says what to write instead."""
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
    """For a flag that switches off: how the option's value becomes the tree's."""
    command: str = ""
    """The one command that takes it; empty: all."""

    @property
    def variable(self) -> str:
        """The environment twin."""
        return ENVIRONMENT + self.option.upper().replace("-", "_")

    @property
    def parameter(self) -> str:
        """The key in the mapping of options."""
        return self.option.replace("-", "_")


_seconds = _integer(1, MAX_TTL, "whole seconds")

SETTINGS: Final[tuple[Setting, ...]] = (
    Setting("domain", "domain", _name, "Zone of the cluster.", "NAME", variables=("DNS_DOMAIN",)),
    Setting("etcd.servers", "etcd-server", _etcd_url, "etcd; may be repeated.", "URL", many=True, split=True),
    Setting("etcd.cafile", "etcd-cafile", _file, "Authorities for etcd's certificate.", "FILE"),
    Setting("etcd.cert", "etcd-cert", _file, "Our certificate for etcd.", "FILE"),
    Setting("etcd.key", "etcd-key", _file, "The key of --etcd-cert.", "FILE"),
    Setting("etcd.user", "etcd-user", _text, "User name for etcd.", "NAME"),
    Setting(
        "etcd.password_file", "etcd-password-file", _file, "File with the password of --etcd-user.", "FILE"
    ),
    Setting("etcd.api", "etcd-api", _one_of("v3", "v2"), "etcd's API: v3 (CoreDNS) or v2.", "v3|v2"),
    Setting("etcd.prefix", "etcd-prefix", _prefix, "What every key begins with.", "PATH"),
    Setting(
        "cluster.kubeconfig",
        "kubeconfig",
        _file,
        "kubeconfig; default: in-cluster, else kubectl's.",
        "FILE",
        aliases=("kubecfg-file",),
    ),
    Setting("cluster.context", "context", _text, "Context of the kubeconfig.", "NAME"),
    Setting(
        "cluster.kube_master_url",
        "kube-master-url",
        _url("https://10.96.0.1:443"),
        "The API server; beats the kubeconfig's.",
        "URL",
    ),
    Setting("owner_id", "owner-id", _owner, "Mark in our values.", "NAME"),
    Setting("ttl", "ttl", _seconds, "TTL of the records.", "SECONDS"),
    Setting(
        "dns_server_ip",
        "dns-server-ip",
        _address,
        "Address of the DNS Service; may be repeated.",
        "IP",
        many=True,
        split=True,
    ),
    Setting(
        "pods",
        "pods",
        _one_of("disabled", "insecure", "verified"),
        "Names made from pod addresses.",
        "disabled|insecure|verified",
    ),
    Setting(
        "endpoint_names",
        "endpoint-names",
        _one_of("headless", "all"),
        "Whose endpoints have names.",
        "headless|all",
    ),
    Setting(
        "tenant_cluster_ip",
        "no-tenant-cluster-ip",
        _boolean,
        "Ignore the annotation with a tenant's ClusterIP.",
        "",
        negated=_not,
    ),
    Setting(
        "vm.domain", "vm-domain", _vm_domain, "Zone of virtual machines: vm.DOMAIN.", "DOMAIN", empty=True
    ),
    Setting("vm.name_server_ip", "name-server-ip", _address, "Address of ns in the vm zone.", "IP"),
    Setting(
        "vm.allowed_networks",
        "vm-allowed-networks",
        _network,
        "Networks that machines may name; may be repeated.",
        "CIDR",
        many=True,
        split=True,
    ),
    Setting(
        "vm.reverse",
        "vm-reverse",
        _network,
        "Networks with PTR of machines; may be repeated.",
        "CIDR",
        many=True,
        split=True,
    ),
    Setting("domains", "domains", _name, "External domains, with commas.", "A,B", many=True, split=True),
    Setting("listen", "listen", parse_host_port, "Door for probes and metrics.", "HOST:PORT"),
    Setting("resync_period", "resync-period", _duration(1, 86400), "Time between full passes.", "SECONDS"),
    Setting("log_format", "log-format", _one_of("text", "json"), "Form of the log.", "text|json"),
    Setting(
        "log_level",
        "log-level",
        _one_of("debug", "info", "warning", "error"),
        "What is logged.",
        "debug|info|warning|error",
    ),
    Setting(
        "corefile.dns_listen",
        "dns-listen",
        parse_host_port,
        "Where CoreDNS answers.",
        "HOST:PORT",
        command="corefile",
    ),
    Setting(
        "corefile.vm_listen",
        "vm-listen",
        parse_host_port,
        "Where the vm zone is answered by itself.",
        "HOST:PORT",
        command="corefile",
    ),
    Setting(
        "corefile.upstream",
        "upstream",
        _upstream,
        "Where other questions go.",
        "FILE|IP…",
        command="corefile",
    ),
    Setting(
        "corefile.cache",
        "cache",
        _integer(0, MAX_TTL, "whole seconds"),
        "How long CoreDNS keeps answers; 0: not.",
        "SECONDS",
        command="corefile",
    ),
)

_BY_PATH: Final = {setting.path: setting for setting in SETTINGS}
_GROUPS: Final = {"etcd": Etcd, "cluster": Cluster, "vm": Vm, "corefile": Serve}

_ZONE_FIELDS: Final[Mapping[str, tuple[Convert, bool]]] = {
    "zone": (_name, False),
    "namespaces": (_word, True),
    "selector": (_selector, False),
    "namespace_selector": (_selector, False),
    "addresses": (_one_of("external", "internal"), True),
    "name": (_template, False),
    "ttl": (_seconds, False),
    "wildcards": (_boolean, False),
}


# --- Loading -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and what is worth a line in the log once there is one."""

    settings: Settings
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


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
        except _Fault as fault:
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
            except _Fault as fault:
                self.faults.setdefault(path, []).append(f"{at} {fault}")
        self.values[path] = tuple(dict.fromkeys(found))

    # Sources

    def file(self, file: Path) -> None:
        """The YAML file."""
        try:
            tree = yaml.safe_load(file.read_text(encoding="utf-8"))
        except OSError as error:
            self.loose.append(f"--config: {file} cannot be read: {error.strerror or error}")
            return
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            self.loose.append(f"--config: {file} is not YAML: {' '.join(str(error).split())}")
            return
        if tree is None:
            return
        if not isinstance(tree, dict):
            self.loose.append(f"{file} is {_called(tree)}; write settings such as domain: cluster.local")
            return
        self._mapping(tree, "", str(file))

    def _mapping(self, tree: Mapping[Any, Any], above: str, source: str) -> None:
        known = _known(above)
        for key, value in tree.items():
            path = f"{above}{key}"
            where = f"{source}: {path}"
            if path == "zones":
                self._zones(value, where)
            elif key not in known:
                self.loose.append(f"{where} is no setting{_did_you_mean(str(key), known)}")
            elif path in _GROUPS:
                if isinstance(value, Mapping):
                    self._mapping(value, path + ".", source)
                elif value is not None:
                    self.loose.append(
                        f"{where} is {_called(value)}; write a mapping of {_either(_known(path + '.'))}"
                    )
            elif path == "vm.allowed_networks" and isinstance(value, Mapping):
                self._networks(value, path, where)
            elif value is not None:
                self._plain(_BY_PATH[path], value, where)

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
            try:
                name = namespace if namespace == "*" else _word(namespace)
            except _Fault as fault:
                faults.append(f"{where}: {namespace} {fault}")
                continue
            several = isinstance(items, list)
            for number, item in enumerate(items if several else [items]):
                try:
                    networks.append(_network(item))
                except _Fault as fault:
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
            self.loose.append(f"{where} is {_called(value)}; write a list of zones, each with zone: NAME")
            return
        zones = [self._zone(item, f"{where}[{number}]") for number, item in enumerate(value)]
        self.values["zones"] = tuple(zone for zone in zones if zone is not None)

    def _zone(self, value: Any, where: str) -> ServiceZone | None:
        if not isinstance(value, Mapping):
            self.loose.append(f"{where} is {_called(value)}; write a mapping with zone: NAME")
            return None
        found: dict[str, Any] = {}
        before = len(self.loose)
        for key, item in value.items():
            if key not in _ZONE_FIELDS:
                self.loose.append(
                    f"{where}.{key} is no setting of a zone{_did_you_mean(str(key), tuple(_ZONE_FIELDS))}"
                )
                continue
            convert, many = _ZONE_FIELDS[key]
            items = item if many and isinstance(item, list) else [item]
            converted = []
            for number, one in enumerate(items):
                at = f"{where}.{key}[{number}]" if many and isinstance(item, list) else f"{where}.{key}"
                try:
                    converted.append(convert(one))
                except _Fault as fault:
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
                    self.warnings.append(
                        f"{variable} is ignored: its value is the link of a Kubernetes Service, not a setting"
                    )
                    continue
                self._text(setting, value, variable)
        unknown = sorted(name for name in environ if name.startswith(ENVIRONMENT) and name not in known)
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
        settings = Settings(**top, **{group: _GROUPS[group](**values) for group, values in groups.items()})
        faults += self._together(settings)
        if faults:
            raise SettingsError(*faults)
        return Loaded(settings, tuple(self.warnings), tuple(self.remarks))

    def _together(self, settings: Settings) -> Iterator[str]:
        """Faults of settings that go with each other."""
        etcd = settings.etcd
        for one, other in (
            ("cert", "key"),
            ("key", "cert"),
            ("user", "password_file"),
            ("password_file", "user"),
        ):
            path, partner = f"etcd.{one}", f"etcd.{other}"
            if path in self.values and partner not in self.said:
                yield f"{self.said[path]} needs --{_BY_PATH[partner].option} beside it"
        if "etcd.servers" in self.said and "etcd.servers" not in self.faults:
            where = self.said["etcd.servers"]
            if not etcd.servers:
                yield f"{where} names no server; write a URL such as http://127.0.0.1:2379"
            elif len({urlsplit(url).scheme for url in etcd.servers}) > 1:
                yield f"{where} mixes http and https; write all of them alike"
            elif (etcd.cafile or etcd.cert) and urlsplit(etcd.servers[0]).scheme == "http":
                yield f"{where} is plain http, so a certificate would not be used; write https://"
        if (
            settings.vm.name_server_ip is not None
            and settings.vm.domain is None
            and "vm.domain" not in self.said
        ):
            yield f"{self.said['vm.name_server_ip']} needs --vm-domain beside it"
        yield from _zone_clashes(settings)


def _zone_clashes(settings: Settings) -> Iterator[str]:
    """Zones of one name: their records would mix."""
    named = [(settings.domain, "domain")]
    if settings.vm.domain is not None:
        named.append((vm_zone(settings.vm.domain), "vm.domain"))
    named += [(zone.zone, f"zones[{number}].zone") for number, zone in enumerate(settings.zones)]
    named += [(name, "domains") for name in settings.domains]
    first: dict[Name, str] = {}
    for name, path in named:
        if name in first:
            yield f"{path} and {first[name]} both are the zone {name}; give each a name of its own"
        first.setdefault(name, path)


def vm_zone(domain: str) -> Name:
    """The zone of virtual machines for ``Vm.domain``."""
    return Name.parse(domain).child("vm") if domain else Name(("vm",))


def _split(value: Any) -> list[Any]:
    if not isinstance(value, str):
        return [value]
    return [part.strip() for part in value.split(",") if part.strip()]


def _known(above: str) -> tuple[str, ...]:
    """Keys that a mapping of the file may have."""
    paths = [*_BY_PATH, *(("zones",) if not above else ())]
    return tuple(
        dict.fromkeys(path[len(above) :].partition(".")[0] for path in paths if path.startswith(above))
    )


def _did_you_mean(text: str, known: tuple[str, ...]) -> str:
    flat = text.replace("-", "_").lower()
    close = difflib.get_close_matches(flat, known, 1, 0.6)
    return f"; did you mean {close[0]}?" if close else ""
