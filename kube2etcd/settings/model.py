"""The tree of settings: only here has each one its default, reader, help text and option."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from kube2etcd.external import MAX_TTL, Domain
from kube2etcd.settings.setting import flag, group, setting, settings_of
from kube2etcd.settings.values import (
    EVERYTHING,
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

CLUSTER_LOCAL: Final = Name(("cluster", "local"))

# Commands that derive records, write them, read the API server, use the keys, listen, use a Corefile.
PUBLISH: Final = ("run", "resync", "records", "explain")
WRITE: Final = ("run", "resync")
LIST: Final = (*PUBLISH, "check")
CONNECT: Final = (*LIST, "webhook")
STORE: Final = (*LIST, "corefile", "webhook")
LISTEN: Final = ("run", "webhook")
COREFILE: Final = ("corefile", "run", "webhook", "check")
#: Reads a TTL.
SECONDS: Final = to_integer(1, MAX_TTL, "whole seconds")


@dataclass(frozen=True, slots=True)
class Etcd:
    """The connection to etcd."""

    # The default is the etcd in the same pod.
    servers: tuple[str, ...] = setting(
        ("http://127.0.0.1:2379",), to_etcd_url, "etcd server; may be repeated.", "etcd-server", many=True
    )
    cafile: str | None = setting(None, to_file, "CA bundle for etcd's certificate; default: the system's.")
    cert: str | None = setting(None, to_file, "Client certificate for etcd.", needs="etcd.key")
    key: str | None = setting(None, to_file, "Key of --etcd-cert.", needs="etcd.cert")
    user: str | None = setting(None, to_text, "User name for etcd.", needs="etcd.password_file")
    # A file, since command lines are visible to all; read again when etcd refuses the password.
    password_file: str | None = setting(
        None, to_file, "File with the password of --etcd-user.", needs="etcd.user"
    )
    api: str = setting(
        "v3",
        to_one_of("v3", "v2"),
        "etcd's API: v3 for CoreDNS, v2 for SkyDNS.",
        commands=(*LIST, "corefile"),
    )
    prefix: str = setting("/skydns", to_prefix, "Prefix of every key.")


@dataclass(frozen=True, slots=True)
class Cluster:
    """The connection to the API server; by default in-cluster, else from kubectl's kubeconfig."""

    kubeconfig: str | None = setting(
        None, to_file, "kubeconfig; default: in-cluster, else kubectl's.", aliases=("kubecfg-file",)
    )
    context: str | None = setting(None, to_text, "Context of the kubeconfig; default: the current one.")
    kube_master_url: str | None = setting(
        None, to_url("https://10.96.0.1:443"), "API server; overrides the kubeconfig's."
    )


@dataclass(frozen=True, slots=True)
class Vm:
    """The zone of KubeVirt virtual machines; ``domain`` None: no such zone, empty: the zone ``vm``."""

    domain: str | None = setting(
        None,
        to_vm_domain,
        "Serve virtual machines in the zone vm.DOMAIN; empty: vm.",
        commands=STORE,
        empty=True,
    )
    # Without it, the zone cannot be delegated, but queries can be forwarded.
    name_server_ip: Address | None = setting(
        None,
        to_address,
        "Address of ns in the vm zone.",
        "name-server-ip",
        commands=(*PUBLISH, "corefile"),
        needs="vm.domain",
    )
    # Guests choose their own addresses.
    allowed_networks: tuple[Network, ...] | None = setting(
        None,
        to_network,
        "Networks of the addresses that machines may publish; may be repeated; default: all.",
        many=True,
    )
    allowed_networks_in: Mapping[str, tuple[Network, ...]] = field(default_factory=dict)
    """The same by namespace: in the file, ``allowed_networks`` may be a mapping, where ``*`` stands for all
    other namespaces; without ``*`` their machines publish nothing."""
    reverse: tuple[Network, ...] = setting(
        (), to_network, "Networks in which machines get PTR records; may be repeated.", many=True
    )


@dataclass(frozen=True, slots=True)
class ZoneSettings:
    """A zone of selected Services; only in the file."""

    zone: Name = field(metadata={"setting": {"convert": to_name, "help": "Name of the zone; required."}})
    namespaces: tuple[str, ...] = setting((), to_word, "Namespaces to select from; default: all.", many=True)
    selector: Selector = setting(EVERYTHING, to_selector, "Label selector for Services; default: all.")
    namespace_selector: Selector = setting(
        EVERYTHING, to_selector, "Label selector for namespaces; default: all."
    )
    # External addresses first, since the clients are outside the cluster.
    addresses: tuple[str, ...] = setting(
        ("external", "internal"),
        to_one_of("external", "internal"),
        "Addresses to answer with, in order.",
        many=True,
    )
    name: str = setting("{service}.{namespace}", to_template, "Template of the names.")
    ttl: int | None = setting(None, SECONDS, "TTL of the records; default: that of the cluster zone.")
    # Wildcards make CoreDNS read whole subtrees.
    wildcards: bool = setting(False, to_boolean, "Let the labels * and any in a query match any label.")


@dataclass(frozen=True, slots=True)
class Serve:
    """The Corefile: its path, and its contents besides the zones."""

    file: str | None = setting(
        None,
        to_file,
        "Keep this Corefile up to date (check: compare it).",
        "corefile",
        commands=("run", "webhook", "check"),
    )
    imports: str | None = setting(
        None,
        to_glob,
        "Import your own server blocks; empty: /etc/coredns/custom/*.server.",
        "corefile-import",
        empty=True,
    )
    dns_listen: HostPort = setting(HostPort("", 53), parse_host_port, "Address that CoreDNS listens on.")
    vm_listen: HostPort | None = setting(
        None, parse_host_port, "Separate listener for the vm zone.", needs="vm.domain"
    )
    upstream: str = setting("/etc/resolv.conf", to_upstream, "Where to forward other queries; none: nowhere.")
    cache: int = setting(
        30, to_integer(0, MAX_TTL, "whole seconds"), "How long CoreDNS caches answers; 0: not at all."
    )
    # The ports of CoreDNS's own manifests.
    health_listen: HostPort | None = setting(
        HostPort("", 8080), to_listener, "Listener of CoreDNS's health plugin; empty: none.", empty=True
    )
    ready_listen: HostPort | None = setting(
        HostPort("", 8181), to_listener, "Listener of CoreDNS's ready plugin; empty: none.", empty=True
    )
    metrics_listen: HostPort | None = setting(
        HostPort("", 9153), to_listener, "Listener of CoreDNS's prometheus plugin; empty: none.", empty=True
    )


@dataclass(frozen=True, slots=True)
class Skydns:
    """SkyDNS's own settings, which it reads from etcd on start; only with ``etcd.api`` v2."""

    # Off by default, since SkyDNS prefers them to its own flags.
    config: bool = setting(False, to_boolean, "Write SkyDNS's settings (v2 only).")
    dns_addr: HostPort | None = setting(
        None, parse_host_port, "Address that SkyDNS listens on; default: 127.0.0.1:53, its own."
    )
    nameservers: tuple[HostPort, ...] = setting(
        (),
        to_resolver,
        "Where SkyDNS forwards other queries; may be repeated.",
        "skydns-nameserver",
        many=True,
    )
    min_ttl: int | None = setting(None, SECONDS, "TTL of SkyDNS's negative answers; default: the records'.")


@dataclass(frozen=True, slots=True)
class Client:
    """Clients' resolvers, as configured by ``docker-flags``."""

    namespace: str = setting("default", to_word, "Namespace whose Services resolve by their bare names.")
    ndots: int | None = setting(
        None,
        to_integer(0, 15, "a whole number", "NUMBER"),
        "Names with this many dots are tried as is first; default: the resolver's 1.",
    )


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """The webhook provider for ExternalDNS, and where it publishes names."""

    cluster_ip: tuple[Address, ...] = setting(
        (),
        to_address,
        "Address for names that point to themselves; one per family.",
        commands=(*PUBLISH, "webhook"),
        common=True,
        many=True,
    )
    # The port of Desktop Kubernetes' server, which the webhook replaces.
    port: int = setting(5000, to_integer(0, 65535, "a port", "PORT"), "Port of the webhook for ExternalDNS.")
    # Loopback, since the webhook has no authentication.
    bind: str = setting("127.0.0.1", to_bind, "Address the webhook listens on.")
    allow: tuple[Network, ...] = setting(
        (), to_network, "Networks that may call the webhook; may be repeated; default: all.", many=True
    )
    alone: bool = False
    """Not a setting: whether this is the command ``webhook``, a bridge without reflectors."""
    inside: bool = flag(
        False,
        "Serve the webhook for ExternalDNS in this process, and publish its names.",
        "webhook",
        commands=LIST,
        common=True,
    )
    # Every bridge with --dns-endpoints can then read the state.
    state_objects: str | None = setting(
        None, to_word, "Keep the webhook's state as DNSEndpoint objects in this namespace.", commands=CONNECT
    )
    hosts_file: str | None = setting(None, to_file, "Publish names as a block of this hosts file.")
    # Outside the served keys.
    state_prefix: str = setting(
        "/kube2etcd/webhook", to_state_prefix, "Key prefix of the webhook's state in etcd.", commands=CONNECT
    )
    state_file: str = setting(
        "/var/lib/kube2etcd/webhook.json",
        to_file,
        "File of the webhook's state if it does not use etcd.",
        commands=("webhook",),
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings."""

    domain: Name = setting(CLUSTER_LOCAL, to_name, "Zone of the cluster.", more_variables=("DNS_DOMAIN",))
    # Without the zone, objects that only it needs are not read either.
    cluster_zone: bool = flag(
        True, "Publish only the other zones.", "no-cluster-zone", commands=(*LIST, "corefile")
    )
    # kube2sky's TTL.
    ttl: int = setting(30, SECONDS, "TTL of the records.", commands=(*PUBLISH, "corefile", "webhook"))
    owner_id: str = setting(
        "kube2etcd", to_owner, "Owner of our keys: each writer to one etcd needs its own.", commands=CONNECT
    )
    # Nearly every cluster runs insecure; verified costs a watch on all pods.
    pods: str = setting(
        "insecure",
        to_one_of("disabled", "insecure", "verified"),
        "Names such as 10-1-2-3.NAMESPACE.pod: none, any address, or those of pods.",
        commands=(*LIST, "corefile"),
    )
    # headless is what the Kubernetes DNS specification says.
    endpoint_names: str = setting(
        "headless", to_one_of("headless", "all"), "Services whose endpoints get names.", commands=PUBLISH
    )
    tenant_cluster_ip: bool = flag(
        True, "Ignore the annotation with a tenant's ClusterIP.", "no-tenant-cluster-ip", commands=PUBLISH
    )
    dns_server_ip: tuple[Address, ...] = setting(
        (),
        to_address,
        "Address of the DNS Service, for ns.dns.DOMAIN; may be repeated.",
        commands=(*PUBLISH, "docker-flags"),
        many=True,
    )
    etcd: Etcd = group(Etcd, "etcd", STORE)
    cluster: Cluster = group(Cluster, "API server", CONNECT, bare=True)
    vm: Vm = group(Vm, "Other zones", PUBLISH)
    zones: tuple[ZoneSettings, ...] = ()
    domains: tuple[Domain, ...] = setting(
        (),
        to_domain,
        "Domains of external names, separated by commas.",
        topic="Other zones",
        commands=STORE,
        many=True,
    )
    # Off by default: ExternalDNS may read the objects for another DNS server.
    dns_endpoints: bool = flag(False, "Publish the names of DNSEndpoint objects in --domains.", commands=LIST)
    webhook: WebhookSettings = group(WebhookSettings, "ExternalDNS", LISTEN, bare=True, common=False)
    corefile: Serve = group(Serve, "Corefile", COREFILE, bare=True, common=False)
    skydns: Skydns = group(Skydns, "SkyDNS", WRITE)
    client: Client = group(Client, "Resolvers", ("docker-flags",), bare=True, common=False)
    # kube2sky's port.
    listen: HostPort = setting(
        HostPort("", 8081),
        parse_host_port,
        "Listener of probes and metrics.",
        topic="Process",
        commands=LISTEN,
    )
    # On loopback unless a host is given, since the page lists every name.
    listen_page: HostPort | None = setting(
        None,
        to_listener,
        "Status page with all records and problems; :PORT is on loopback.",
        commands=("run",),
    )
    events: bool = flag(
        False,
        "Post Events on objects whose records are left out.",
        commands=("run",),
        common=False,
    )
    # Each process draws its own, up to a tenth longer or shorter, so that bridges do not list in step.
    resync_period: float = setting(
        300.0, to_duration(1, 86400), "Time between full resyncs.", commands=LISTEN
    )
    # Off by default: an etcd in the same pod has one writer, and the election key needs etcd permissions too.
    leader_elect: bool = flag(
        False,
        "Write only while elected; others with the same owner stand by.",
        commands=("run", "check"),
        common=False,
    )
    log_format: str = setting("text", to_one_of("text", "json"), "Format of the log.")
    log_level: str = setting("info", to_one_of("debug", "info", "warning", "error"), "Lowest level to log.")


def vm_zone(domain: str) -> Name:
    """The zone of virtual machines for ``Vm.domain``."""
    return Name.parse(domain).child("vm") if domain else Name(("vm",))


#: Every setting, in the order of the tree.
SETTINGS: Final = tuple(settings_of(Settings, "", "", {"topic": "Records"}))
BY_PATH: Final = {setting.path: setting for setting in SETTINGS}
GROUPS: Final[Mapping[str, Any]] = {
    one.name: one.metadata["group"] for one in fields(Settings) if "group" in one.metadata
}
ZONE_FIELDS: Final = {setting.path: setting for setting in settings_of(ZoneSettings, "", "", {"topic": ""})}
TOPICS: Final = tuple(dict.fromkeys(setting.topic for setting in SETTINGS))
