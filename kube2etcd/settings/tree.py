"""The tree of settings: typed values with their defaults, in the shape of what people write."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from kube2etcd.external import Domain
from skydns_compat.names import Address, Name

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

CLUSTER_LOCAL: Final = Name(("cluster", "local"))


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
    """The Corefile: what it needs to know beside the zones, and where it is written."""

    file: str | None = None
    """File that ``run`` and ``webhook`` keep equal to what ``corefile`` prints.  Default: none is written."""
    imports: str | None = None
    """Glob of files with server blocks of your own, which the Corefile imports; empty:
    ``/etc/coredns/custom/*.server``, where managed clusters have them.  Default: nothing is imported."""

    dns_listen: HostPort = HostPort("", 53)
    """Where CoreDNS answers.  Default: the port of DNS."""
    vm_listen: HostPort | None = None
    """Where the vm zone is answered by itself.  Default: with the others."""
    upstream: str = "/etc/resolv.conf"
    """Where other questions go: a resolv.conf or addresses.  Default: the node's resolvers."""
    cache: int = 30
    """Seconds that CoreDNS keeps answers; 0: none.  Default: no longer than the records' own TTL."""
    health_listen: HostPort | None = HostPort("", 8080)
    """CoreDNS's ``health``; empty: no such door.  These three default to what its manifests use."""
    ready_listen: HostPort | None = HostPort("", 8181)
    """CoreDNS's ``ready``; empty: no such door."""
    metrics_listen: HostPort | None = HostPort("", 9153)
    """CoreDNS's ``prometheus``; empty: no such door."""


@dataclass(frozen=True, slots=True)
class Skydns:
    """SkyDNS's own settings, as it reads them from etcd when it starts; only with ``etcd.api`` v2."""

    config: bool = False
    """Whether they are written at all.  Default: no; SkyDNS believes them before its own flags."""
    dns_addr: HostPort | None = None
    """Where it listens.  Default: its own, 127.0.0.1:53."""
    nameservers: tuple[HostPort, ...] = ()
    """Where it sends other questions.  Default: the servers of its /etc/resolv.conf."""
    min_ttl: int | None = None
    """Seconds of a negative answer.  Default: those of the records."""


@dataclass(frozen=True, slots=True)
class Client:
    """How those who ask are set up; only ``docker-flags`` uses it."""

    namespace: str = "default"
    """Whose Services are found by their bare name.  Default: that of objects that name none."""
    ndots: int | None = None
    """From how many dots on a name is tried as it is first.  Default: the resolver's own, which is 1."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """The door for ExternalDNS, and where its names go beside etcd."""

    cluster_ip: tuple[Address, ...] = ()
    """At most one address of each family, for names that lead to themselves.  Default: none."""
    port: int = 5000
    """Port of the door.  Default: that of Desktop Kubernetes' server, which this one replaces."""
    bind: str = "127.0.0.1"
    """Where the door listens.  Default: loopback, since it knows no password."""
    allow: tuple[Network, ...] = ()
    """Networks from which the door may be used.  Default: all, as far as ``bind`` lets them come."""
    inside: bool = False
    """Whether ``run`` opens the door in its own process.  Default: no."""
    state_objects: str | None = None
    """Namespace in which the state is kept as DNSEndpoint objects of the API server, so that every bridge
    with ``dns_endpoints`` publishes it.  Default: none; the state is kept in etcd or in a file."""
    hosts_file: str | None = None
    """Hosts file that gets a block of the names.  Default: no file is touched."""
    state_prefix: str = "/kube2etcd/webhook"
    """Where the state is kept in etcd: outside of the keys that are served."""
    state_file: str = "/var/lib/kube2etcd/webhook.json"
    """Where the state is kept without etcd.  Default: the place for what a service must not lose."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set."""

    domain: Name = CLUSTER_LOCAL
    """Zone of the cluster.  Default: that of nearly every cluster."""
    cluster_zone: bool = True
    """Whether that zone is published.  Default: yes; without it only the other zones are, and what they do
    not need of the API server is not read."""
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
    listen_page: HostPort | None = None
    """Where ``run`` serves the status page; without a host on loopback, since it lists every name.  Default:
    nowhere."""
    resync_period: float = 300.0
    """Seconds between full passes, each up to a tenth shorter or longer so that many bridges do not
    list at once.  Default: what was lost without a sign is back in minutes, at a price nobody notices."""
    leader_elect: bool = False
    """Whether bridges that share an etcd and an owner id elect one that writes; etcd's user then needs
    rights on the key of the election too.  Default: no; the etcd in the same pod has one writer."""
    log_format: str = "text"
    """``text`` or ``json``.  Default: people read it first."""
    log_level: str = "info"
    """``debug``, ``info``, ``warning`` or ``error``.  Default: one line per change."""
    vm: Vm = field(default_factory=Vm)
    """The zone of virtual machines."""
    zones: tuple[ServiceZone, ...] = ()
    """Zones with selections of Services; from the file only.  Default: none."""
    domains: tuple[Domain, ...] = ()
    """External domains, whose names come through the webhook or from DNSEndpoint objects.  Default: none."""
    dns_endpoints: bool = False
    """Whether DNSEndpoint objects are read.  Default: no; ExternalDNS may read them for another server."""
    corefile: Serve = field(default_factory=Serve)
    """The Corefile."""
    skydns: Skydns = field(default_factory=Skydns)
    """SkyDNS's own settings."""
    client: Client = field(default_factory=Client)
    """What only ``docker-flags`` uses."""
    webhook: Webhook = field(default_factory=Webhook)
    """The door for ExternalDNS."""


def vm_zone(domain: str) -> Name:
    """The zone of virtual machines for ``Vm.domain``."""
    return Name.parse(domain).child("vm") if domain else Name(("vm",))
