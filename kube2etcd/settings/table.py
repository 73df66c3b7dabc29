"""What can be set: the one list that the command line, the environment and the file follow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kube2etcd.settings.places import parse_host_port, to_address, to_door, to_etcd_url, to_network, to_url
from kube2etcd.settings.setting import DOOR, LIST, PUBLISH, SECONDS, STORE, Setting
from kube2etcd.settings.table_beside import BESIDE
from kube2etcd.settings.tree import Client, Cluster, Etcd, Serve, Skydns, Vm, Webhook
from kube2etcd.settings.values import (
    to_boolean,
    to_domain,
    to_duration,
    to_file,
    to_name,
    to_not,
    to_one_of,
    to_owner,
    to_prefix,
    to_selector,
    to_template,
    to_text,
    to_vm_domain,
    to_word,
)
from kube2etcd.settings.words import Convert

#: Environment twins of what is no setting but an option of one command.
COMMAND_OPTIONS: Final = frozenset(
    {"config", "dry-run", "force", "output", "objects", "zone", "type", "object", "format", "merge"}
    | {"cleanup", "prune-foreign"}
)

SETTINGS: Final[tuple[Setting, ...]] = (
    Setting("domain", "domain", to_name, "Zone of the cluster.", "NAME", variables=("DNS_DOMAIN",)),
    Setting(
        "etcd.servers",
        "etcd-server",
        to_etcd_url,
        "etcd; may be repeated.",
        "URL",
        many=True,
        split=True,
        commands=STORE,
    ),
    Setting(
        "etcd.cafile", "etcd-cafile", to_file, "Authorities for etcd's certificate.", "FILE", commands=STORE
    ),
    Setting("etcd.cert", "etcd-cert", to_file, "Our certificate for etcd.", "FILE", commands=STORE),
    Setting("etcd.key", "etcd-key", to_file, "The key of --etcd-cert.", "FILE", commands=STORE),
    Setting("etcd.user", "etcd-user", to_text, "User name for etcd.", "NAME", commands=STORE),
    Setting(
        "etcd.password_file",
        "etcd-password-file",
        to_file,
        "File with the password of --etcd-user.",
        "FILE",
        commands=STORE,
    ),
    Setting(
        "etcd.api",
        "etcd-api",
        to_one_of("v3", "v2"),
        "etcd's API: v3 (CoreDNS) or v2.",
        "v3|v2",
        commands=(*LIST, "corefile"),
    ),
    Setting("etcd.prefix", "etcd-prefix", to_prefix, "What every key begins with.", "PATH", commands=STORE),
    Setting(
        "cluster.kubeconfig",
        "kubeconfig",
        to_file,
        "kubeconfig; default: in-cluster, else kubectl's.",
        "FILE",
        aliases=("kubecfg-file",),
        commands=(*LIST, "webhook"),
    ),
    Setting(
        "cluster.context",
        "context",
        to_text,
        "Context of the kubeconfig.",
        "NAME",
        commands=(*LIST, "webhook"),
    ),
    Setting(
        "cluster.kube_master_url",
        "kube-master-url",
        to_url("https://10.96.0.1:443"),
        "The API server; beats the kubeconfig's.",
        "URL",
        commands=(*LIST, "webhook"),
    ),
    Setting(
        "owner_id",
        "owner-id",
        to_owner,
        "Mark of our keys: each writer on one etcd needs its own.",
        "NAME",
        commands=(*LIST, "webhook"),
    ),
    Setting(
        "ttl", "ttl", SECONDS, "TTL of the records.", "SECONDS", commands=(*PUBLISH, "corefile", "webhook")
    ),
    Setting(
        "dns_server_ip",
        "dns-server-ip",
        to_address,
        "Address of the DNS Service; may be repeated.",
        "IP",
        many=True,
        split=True,
        commands=(*PUBLISH, "docker-flags"),
    ),
    Setting(
        "pods",
        "pods",
        to_one_of("disabled", "insecure", "verified"),
        "Names made from pod addresses.",
        "disabled|insecure|verified",
        commands=(*LIST, "corefile"),
    ),
    Setting(
        "endpoint_names",
        "endpoint-names",
        to_one_of("headless", "all"),
        "Whose endpoints have names.",
        "headless|all",
        commands=PUBLISH,
    ),
    Setting(
        "cluster_zone",
        "no-cluster-zone",
        to_boolean,
        "Publish the other zones only.",
        "",
        negated=to_not,
        commands=(*LIST, "corefile"),
    ),
    Setting(
        "tenant_cluster_ip",
        "no-tenant-cluster-ip",
        to_boolean,
        "Ignore the annotation with a tenant's ClusterIP.",
        "",
        negated=to_not,
        commands=PUBLISH,
    ),
    Setting(
        "vm.domain",
        "vm-domain",
        to_vm_domain,
        "Zone of virtual machines: vm.DOMAIN.",
        "DOMAIN",
        empty=True,
        commands=STORE,
    ),
    Setting(
        "vm.name_server_ip",
        "name-server-ip",
        to_address,
        "Address of ns in the vm zone.",
        "IP",
        commands=(*PUBLISH, "corefile"),
    ),
    Setting(
        "vm.allowed_networks",
        "vm-allowed-networks",
        to_network,
        "Networks that machines may name; may be repeated.",
        "CIDR",
        many=True,
        split=True,
        commands=PUBLISH,
    ),
    Setting(
        "vm.reverse",
        "vm-reverse",
        to_network,
        "Networks with PTR of machines; may be repeated.",
        "CIDR",
        many=True,
        split=True,
        commands=PUBLISH,
    ),
    Setting(
        "domains",
        "domains",
        to_domain,
        "External domains, with commas.",
        "A,B",
        many=True,
        split=True,
        commands=STORE,
    ),
    Setting(
        "dns_endpoints",
        "dns-endpoints",
        to_boolean,
        "Publish the names of DNSEndpoint objects in --domains.",
        "",
        negated=to_boolean,
        commands=LIST,
    ),
    Setting("listen", "listen", parse_host_port, "Door for probes and metrics.", "HOST:PORT", commands=DOOR),
    Setting(
        "listen_page",
        "listen-page",
        to_door,
        "Status page with all records and problems; :PORT is on loopback.",
        "HOST:PORT",
        commands=("run",),
    ),
    Setting(
        "resync_period",
        "resync-period",
        to_duration(1, 86400),
        "Time between full passes.",
        "SECONDS",
        commands=DOOR,
    ),
    Setting(
        "leader_elect",
        "leader-elect",
        to_boolean,
        "Write only while elected; others with the same owner stand by.",
        "",
        negated=to_boolean,
        commands=("run", "check"),
        common=False,
    ),
    Setting("log_format", "log-format", to_one_of("text", "json"), "Form of the log.", "text|json"),
    Setting(
        "log_level",
        "log-level",
        to_one_of("debug", "info", "warning", "error"),
        "What is logged.",
        "debug|info|warning|error",
    ),
    *BESIDE,
)

BY_PATH: Final = {setting.path: setting for setting in SETTINGS}
GROUPS: Final = {
    "etcd": Etcd,
    "cluster": Cluster,
    "vm": Vm,
    "corefile": Serve,
    "skydns": Skydns,
    "client": Client,
    "webhook": Webhook,
}

ZONE_FIELDS: Final[Mapping[str, tuple[Convert, bool]]] = {
    "zone": (to_name, False),
    "namespaces": (to_word, True),
    "selector": (to_selector, False),
    "namespace_selector": (to_selector, False),
    "addresses": (to_one_of("external", "internal"), True),
    "name": (to_template, False),
    "ttl": (SECONDS, False),
    "wildcards": (to_boolean, False),
}
