"""The tree of settings: each field states its default, reader, option and help; `SETTINGS` is derived."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Final, TypeVar

from kube2etcd.external import MAX_TTL, Domain
from kube2etcd.settings.values import (
    EVERYTHING,
    SECONDS,
    Convert,
    HostPort,
    Network,
    Selector,
    parse_host_port,
    to_address,
    to_bind,
    to_boolean,
    to_domain,
    to_duration,
    to_etcd_url,
    to_file,
    to_glob,
    to_integer,
    to_listener,
    to_name,
    to_network,
    to_not,
    to_one_of,
    to_owner,
    to_prefix,
    to_resolver,
    to_selector,
    to_state_prefix,
    to_template,
    to_text,
    to_upstream,
    to_url,
    to_vm_domain,
    to_word,
)
from skydns_compat.names import Address, Name

_T = TypeVar("_T")

#: Prefix of our environment variables.
ENVIRONMENT: Final = "KUBE2ETCD_"
#: Options of single commands that have an environment variable but are no settings.
COMMAND_OPTIONS: Final = frozenset(
    {"config", "dry-run", "force", "output", "objects", "zone", "type", "object", "format", "merge"}
    | {"cleanup", "prune-foreign", "keys", "checksum", "server", "bridge", "for", "timeout", "watch"}
)
CLUSTER_LOCAL: Final = Name(("cluster", "local"))

# Commands that make records, write them, read the API server, know the keys, listen, use a Corefile.
PUBLISH: Final = ("run", "resync", "records", "explain")
WRITE: Final = ("run", "resync")
LIST: Final = (*PUBLISH, "check")
CONNECT: Final = (*LIST, "webhook")
STORE: Final = (*LIST, "corefile", "webhook")
LISTEN: Final = ("run", "webhook")
COREFILE: Final = ("corefile", "run", "webhook", "check")


@dataclass(frozen=True, slots=True)
class Setting:
    """How one field of the tree is set."""

    convert: Convert
    """Reads one value of text or YAML; raises `Fault`."""
    help: str
    """One line for ``--help`` and docs/options.md."""
    option: str = ""
    """Name without ``--``.  Default: the path with hyphens, or without its group if the group is ``bare``."""
    topic: str = ""
    """Heading in ``--help``.  Default: the group's."""
    commands: tuple[str, ...] = ()
    """Commands that use it and show it in ``--help``; empty: all.  Default: the group's."""
    common: bool = True
    """Whether the other commands accept and ignore it, so that one command line serves them all.
    Default: the group's."""
    many: bool = False
    """A repeatable option, whose value may hold commas; a list in the file."""
    empty: bool = False
    """Whether an empty environment variable is a value."""
    aliases: tuple[str, ...] = ()
    """Other names of the option."""
    variables: tuple[str, ...] = ()
    """Other environment variables, strongest first."""
    flag: Convert | None = None
    """For an option without a value: the reader of its environment variable."""
    path: str = ""
    """Place in the tree and in the file, such as ``etcd.servers``; filled in from the field."""
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
    def variable(self) -> str:
        """The environment variable."""
        return ENVIRONMENT + self.option.upper().replace("-", "_")

    @property
    def parameter(self) -> str:
        """The key in the mapping of options."""
        return self.option.replace("-", "_")

    @property
    def shown_default(self) -> str:
        """The default as one would write it; empty if there is none."""
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
        """Whether it has an effect on ``command``."""
        return not self.commands or command in self.commands


def _set(default: _T, convert: Convert, help: str, option: str = "", **others: Any) -> _T:
    """A field with a default and what its `Setting` is made of."""
    given = {"convert": convert, "help": help, **({"option": option} if option else {}), **others}
    return field(default=default, metadata={"setting": given})


def _flag(default: bool, help: str, option: str = "", **others: Any) -> bool:
    """A field whose option takes no value and turns the default over."""
    flag = to_not if default else to_boolean
    return _set(default, to_boolean, help, option, flag=flag, **others)


def _group(
    cls: type[_T], topic: str, commands: tuple[str, ...], *, bare: bool = False, common: bool = True
) -> _T:
    """A field for a group, with what its settings have in common."""
    shared = {"topic": topic, "commands": commands, "common": common}
    return field(default_factory=cls, metadata={"group": cls, "bare": bare, "shared": shared})


@dataclass(frozen=True, slots=True)
class Etcd:
    """The connection to etcd."""

    # By default the etcd in the same pod.
    servers: tuple[str, ...] = _set(
        ("http://127.0.0.1:2379",), to_etcd_url, "etcd server; may be repeated.", "etcd-server", many=True
    )
    cafile: str | None = _set(None, to_file, "CA bundle for etcd's certificate; default: the system's.")
    cert: str | None = _set(None, to_file, "Client certificate for etcd.")
    key: str | None = _set(None, to_file, "Key of --etcd-cert.")
    user: str | None = _set(None, to_text, "User name for etcd.")
    # A file, since command lines are public; read again when etcd refuses the password.
    password_file: str | None = _set(None, to_file, "File with the password of --etcd-user.")
    api: str = _set(
        "v3",
        to_one_of("v3", "v2"),
        "etcd's API: v3 for CoreDNS, v2 for SkyDNS.",
        commands=(*LIST, "corefile"),
    )
    prefix: str = _set("/skydns", to_prefix, "Prefix of every key.")


@dataclass(frozen=True, slots=True)
class Cluster:
    """The connection to the API server.  By default in-cluster, else by kubectl's kubeconfig."""

    kubeconfig: str | None = _set(
        None, to_file, "kubeconfig; default: in-cluster, else kubectl's.", aliases=("kubecfg-file",)
    )
    context: str | None = _set(None, to_text, "Context of the kubeconfig; default: the current one.")
    kube_master_url: str | None = _set(
        None, to_url("https://10.96.0.1:443"), "API server; overrides the kubeconfig's."
    )


@dataclass(frozen=True, slots=True)
class Vm:
    """The zone of KubeVirt virtual machines; ``domain`` None: no such zone, empty: the zone ``vm``."""

    domain: str | None = _set(
        None,
        to_vm_domain,
        "Serve virtual machines in the zone vm.DOMAIN; empty: vm.",
        commands=STORE,
        empty=True,
    )
    # Without it, the zone cannot be delegated, only forwarded to.
    name_server_ip: Address | None = _set(
        None, to_address, "Address of ns in the vm zone.", "name-server-ip", commands=(*PUBLISH, "corefile")
    )
    # Guests choose their addresses.
    allowed_networks: tuple[Network, ...] | None = _set(
        None,
        to_network,
        "Networks of the addresses that machines may publish; may be repeated; default: all.",
        many=True,
    )
    allowed_networks_in: Mapping[str, tuple[Network, ...]] = field(default_factory=dict)
    """The same by namespace: in the file ``allowed_networks`` may be a mapping, in which ``*`` stands for all
    other namespaces; without it their machines publish nothing."""
    reverse: tuple[Network, ...] = _set(
        (), to_network, "Networks in which machines get PTR records; may be repeated.", many=True
    )


@dataclass(frozen=True, slots=True)
class ServiceZone:
    """Selected Services under a zone of their own; in the file only."""

    zone: Name = field(metadata={"setting": {"convert": to_name, "help": "Name of the zone; required."}})
    namespaces: tuple[str, ...] = _set((), to_word, "Namespaces to select from; default: all.", many=True)
    selector: Selector = _set(EVERYTHING, to_selector, "Label selector for Services; default: all.")
    namespace_selector: Selector = _set(
        EVERYTHING, to_selector, "Label selector for namespaces; default: all."
    )
    # External addresses first, since clients outside of the cluster ask here.
    addresses: tuple[str, ...] = _set(
        ("external", "internal"),
        to_one_of("external", "internal"),
        "Addresses to answer with, in order.",
        many=True,
    )
    name: str = _set("{service}.{namespace}", to_template, "Template of the names.")
    ttl: int | None = _set(None, SECONDS, "TTL of the records; default: that of the cluster zone.")
    # They make CoreDNS read whole subtrees.
    wildcards: bool = _set(False, to_boolean, "Whether the labels * and any in a question match any label.")


@dataclass(frozen=True, slots=True)
class Serve:
    """The Corefile: its place, and its contents beside the zones."""

    file: str | None = _set(
        None,
        to_file,
        "Keep this Corefile up to date (check: compare it).",
        "corefile",
        commands=("run", "webhook", "check"),
    )
    imports: str | None = _set(
        None,
        to_glob,
        "Import your own server blocks; empty: /etc/coredns/custom/*.server.",
        "corefile-import",
        empty=True,
    )
    dns_listen: HostPort = _set(HostPort("", 53), parse_host_port, "Where CoreDNS answers.")
    vm_listen: HostPort | None = _set(None, parse_host_port, "Separate listener for the vm zone.")
    upstream: str = _set("/etc/resolv.conf", to_upstream, "Where to forward other questions; none: nowhere.")
    cache: int = _set(
        30, to_integer(0, MAX_TTL, "whole seconds"), "How long CoreDNS caches answers; 0: not at all."
    )
    # The ports of CoreDNS's own manifests.
    health_listen: HostPort | None = _set(
        HostPort("", 8080), to_listener, "Listener of CoreDNS's health plugin; empty: none.", empty=True
    )
    ready_listen: HostPort | None = _set(
        HostPort("", 8181), to_listener, "Listener of CoreDNS's ready plugin; empty: none.", empty=True
    )
    metrics_listen: HostPort | None = _set(
        HostPort("", 9153), to_listener, "Listener of CoreDNS's prometheus plugin; empty: none.", empty=True
    )


@dataclass(frozen=True, slots=True)
class Skydns:
    """SkyDNS's own settings, which it reads from etcd when it starts; only with ``etcd.api`` v2."""

    # Off by default, since SkyDNS prefers them to its own flags.
    config: bool = _set(False, to_boolean, "Write SkyDNS's settings (v2 only).")
    dns_addr: HostPort | None = _set(
        None, parse_host_port, "Where SkyDNS answers; default: 127.0.0.1:53, its own."
    )
    nameservers: tuple[HostPort, ...] = _set(
        (),
        to_resolver,
        "Where SkyDNS forwards other questions; may be repeated.",
        "skydns-nameserver",
        many=True,
    )
    min_ttl: int | None = _set(None, SECONDS, "TTL of SkyDNS's negative answers; default: the records'.")


@dataclass(frozen=True, slots=True)
class Client:
    """Resolvers of clients, as ``docker-flags`` sets them up."""

    namespace: str = _set("default", to_word, "Namespace whose Services have bare names.")
    ndots: int | None = _set(
        None,
        to_integer(0, 15, "a whole number", "NUMBER"),
        "Dots that make a name be tried as is first; default: the resolver's 1.",
    )


@dataclass(frozen=True, slots=True)
class Webhook:
    """The webhook provider for ExternalDNS, and where its names go."""

    cluster_ip: tuple[Address, ...] = _set(
        (),
        to_address,
        "Address for names that point to themselves; one per family.",
        commands=(*PUBLISH, "webhook"),
        common=True,
        many=True,
    )
    # The port of Desktop Kubernetes' server, which this one replaces.
    port: int = _set(5000, to_integer(0, 65535, "a port", "PORT"), "Port of the webhook for ExternalDNS.")
    # Loopback, since the webhook has no authentication.
    bind: str = _set("127.0.0.1", to_bind, "Address the webhook listens on.")
    allow: tuple[Network, ...] = _set(
        (), to_network, "Networks that may call the webhook; may be repeated; default: all.", many=True
    )
    inside: bool = _flag(
        False,
        "Serve the webhook for ExternalDNS in this process, and publish its names.",
        "webhook",
        commands=LIST,
        common=True,
    )
    # The state is then visible to every bridge with --dns-endpoints.
    state_objects: str | None = _set(
        None, to_word, "Keep the webhook's state as DNSEndpoint objects in this namespace.", commands=CONNECT
    )
    hosts_file: str | None = _set(None, to_file, "Publish names as a block of this hosts file.")
    # Outside of the keys that are served.
    state_prefix: str = _set(
        "/kube2etcd/webhook", to_state_prefix, "Key prefix of the webhook's state in etcd.", commands=CONNECT
    )
    state_file: str = _set(
        "/var/lib/kube2etcd/webhook.json",
        to_file,
        "File of the webhook's state without etcd.",
        commands=("webhook",),
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings."""

    domain: Name = _set(CLUSTER_LOCAL, to_name, "Zone of the cluster.", variables=("DNS_DOMAIN",))
    # Without it, objects that only this zone needs are not read either.
    cluster_zone: bool = _flag(
        True, "Publish only the other zones.", "no-cluster-zone", commands=(*LIST, "corefile")
    )
    # kube2sky's TTL.
    ttl: int = _set(30, SECONDS, "TTL of the records.", commands=(*PUBLISH, "corefile", "webhook"))
    owner_id: str = _set(
        "kube2etcd", to_owner, "Owner of our keys: each writer to one etcd needs its own.", commands=CONNECT
    )
    # insecure is what nearly every cluster runs; verified costs a watch on all pods.
    pods: str = _set(
        "insecure",
        to_one_of("disabled", "insecure", "verified"),
        "Names such as 10-1-2-3.NAMESPACE.pod: none, any address, or those of pods.",
        commands=(*LIST, "corefile"),
    )
    # headless is what the specification of Kubernetes DNS has.
    endpoint_names: str = _set(
        "headless", to_one_of("headless", "all"), "Services whose endpoints have names.", commands=PUBLISH
    )
    tenant_cluster_ip: bool = _flag(
        True, "Ignore the annotation with a tenant's ClusterIP.", "no-tenant-cluster-ip", commands=PUBLISH
    )
    dns_server_ip: tuple[Address, ...] = _set(
        (),
        to_address,
        "Address of the DNS Service, for ns.dns.DOMAIN; may be repeated.",
        commands=(*PUBLISH, "docker-flags"),
        many=True,
    )
    etcd: Etcd = _group(Etcd, "etcd", STORE)
    cluster: Cluster = _group(Cluster, "API server", CONNECT, bare=True)
    vm: Vm = _group(Vm, "Other zones", PUBLISH)
    zones: tuple[ServiceZone, ...] = ()
    domains: tuple[Domain, ...] = _set(
        (),
        to_domain,
        "Domains of external names, with commas.",
        topic="Other zones",
        commands=STORE,
        many=True,
    )
    # Off by default: ExternalDNS may read the objects for another DNS server.
    dns_endpoints: bool = _flag(
        False, "Publish the names of DNSEndpoint objects in --domains.", topic="Other zones", commands=LIST
    )
    webhook: Webhook = _group(Webhook, "ExternalDNS", LISTEN, bare=True, common=False)
    corefile: Serve = _group(Serve, "Corefile", COREFILE, bare=True, common=False)
    skydns: Skydns = _group(Skydns, "SkyDNS", WRITE)
    client: Client = _group(Client, "Resolvers", ("docker-flags",), bare=True, common=False)
    # kube2sky's port.
    listen: HostPort = _set(
        HostPort("", 8081),
        parse_host_port,
        "Listener of probes and metrics.",
        topic="Process",
        commands=LISTEN,
    )
    # On loopback unless a host is given, since the page lists every name.
    listen_page: HostPort | None = _set(
        None,
        to_listener,
        "Status page with all records and problems; :PORT is on loopback.",
        topic="Process",
        commands=("run",),
    )
    events: bool = _flag(
        False,
        "Post Events on objects whose records are left out.",
        topic="Process",
        commands=("run",),
        common=False,
    )
    # Each period is up to a tenth shorter or longer, so that many bridges do not list at once.
    resync_period: float = _set(
        300.0, to_duration(1, 86400), "Time between full passes.", topic="Process", commands=LISTEN
    )
    # Off by default: an etcd in the same pod has one writer.  The election key needs permissions in etcd too.
    leader_elect: bool = _flag(
        False,
        "Write only while elected; others with the same owner stand by.",
        topic="Process",
        commands=("run", "check"),
        common=False,
    )
    log_format: str = _set("text", to_one_of("text", "json"), "Format of the log.", topic="Process")
    log_level: str = _set(
        "info", to_one_of("debug", "info", "warning", "error"), "Least severity to log.", topic="Process"
    )


def vm_zone(domain: str) -> Name:
    """The zone of virtual machines for ``Vm.domain``."""
    return Name.parse(domain).child("vm") if domain else Name(("vm",))


def _settings(cls: Any, above: str, option: str, shared: Mapping[str, Any]) -> Iterator[Setting]:
    """The settings of ``cls``; ``above`` begins their paths, ``option`` their default options."""
    for one in fields(cls):
        data = one.metadata
        if "group" in data:
            prefix = "" if data["bare"] else f"{one.name}-"
            yield from _settings(data["group"], f"{one.name}.", prefix, data["shared"])
        elif "setting" in data:
            given = {"option": option + one.name.replace("_", "-"), **shared, **data["setting"]}
            yield Setting(**given, path=above + one.name, default=one.default)


#: Every setting, in the order of the tree.
SETTINGS: Final = tuple(_settings(Settings, "", "", {"topic": "Records"}))
BY_PATH: Final = {setting.path: setting for setting in SETTINGS}
GROUPS: Final[Mapping[str, Any]] = {
    one.name: one.metadata["group"] for one in fields(Settings) if "group" in one.metadata
}
ZONE_FIELDS: Final[Mapping[str, Setting]] = {
    one.name: Setting(**one.metadata["setting"], path=one.name, default=one.default)
    for one in fields(ServiceZone)
}
TOPICS: Final = tuple(dict.fromkeys(setting.topic for setting in SETTINGS))
