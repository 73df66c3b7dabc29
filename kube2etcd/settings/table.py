"""What can be set: the one list that the command line, the environment and the file follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from kube2etcd.settings.tree import Client, Cluster, Etcd, Serve, Skydns, Vm, Webhook
from kube2etcd.settings.values import (
    MAX_TTL,
    Convert,
    parse_host_port,
    to_address,
    to_bind,
    to_boolean,
    to_domain,
    to_door,
    to_duration,
    to_etcd_url,
    to_file,
    to_integer,
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

#: What every environment variable of ours begins with.
ENVIRONMENT: Final = "KUBE2ETCD_"
#: Environment twins of what is no setting but an option of one command.
COMMAND_OPTIONS: Final = frozenset(
    {"config", "dry-run", "force", "output", "objects", "zone", "type", "object", "format", "merge"}
    | {"cleanup", "prune-foreign"}
)


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing that can be set: where it is in the tree, how it is called, how it is read."""

    path: str
    """Place in the tree and in the file: ``etcd.servers``."""
    option: str
    """Name of the option, without the hyphens in front; its environment twin follows from it."""
    convert: Convert
    """One value of text or YAML to what the tree holds; `Fault` says what to write instead."""
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
    """For a flag: how the option's value becomes the tree's."""
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


SECONDS = to_integer(1, MAX_TTL, "whole seconds")

SETTINGS: Final[tuple[Setting, ...]] = (
    Setting("domain", "domain", to_name, "Zone of the cluster.", "NAME", variables=("DNS_DOMAIN",)),
    Setting(
        "etcd.servers", "etcd-server", to_etcd_url, "etcd; may be repeated.", "URL", many=True, split=True
    ),
    Setting("etcd.cafile", "etcd-cafile", to_file, "Authorities for etcd's certificate.", "FILE"),
    Setting("etcd.cert", "etcd-cert", to_file, "Our certificate for etcd.", "FILE"),
    Setting("etcd.key", "etcd-key", to_file, "The key of --etcd-cert.", "FILE"),
    Setting("etcd.user", "etcd-user", to_text, "User name for etcd.", "NAME"),
    Setting(
        "etcd.password_file", "etcd-password-file", to_file, "File with the password of --etcd-user.", "FILE"
    ),
    Setting("etcd.api", "etcd-api", to_one_of("v3", "v2"), "etcd's API: v3 (CoreDNS) or v2.", "v3|v2"),
    Setting("etcd.prefix", "etcd-prefix", to_prefix, "What every key begins with.", "PATH"),
    Setting(
        "cluster.kubeconfig",
        "kubeconfig",
        to_file,
        "kubeconfig; default: in-cluster, else kubectl's.",
        "FILE",
        aliases=("kubecfg-file",),
    ),
    Setting("cluster.context", "context", to_text, "Context of the kubeconfig.", "NAME"),
    Setting(
        "cluster.kube_master_url",
        "kube-master-url",
        to_url("https://10.96.0.1:443"),
        "The API server; beats the kubeconfig's.",
        "URL",
    ),
    Setting("owner_id", "owner-id", to_owner, "Mark in our values.", "NAME"),
    Setting("ttl", "ttl", SECONDS, "TTL of the records.", "SECONDS"),
    Setting(
        "dns_server_ip",
        "dns-server-ip",
        to_address,
        "Address of the DNS Service; may be repeated.",
        "IP",
        many=True,
        split=True,
    ),
    Setting(
        "pods",
        "pods",
        to_one_of("disabled", "insecure", "verified"),
        "Names made from pod addresses.",
        "disabled|insecure|verified",
    ),
    Setting(
        "endpoint_names",
        "endpoint-names",
        to_one_of("headless", "all"),
        "Whose endpoints have names.",
        "headless|all",
    ),
    Setting(
        "tenant_cluster_ip",
        "no-tenant-cluster-ip",
        to_boolean,
        "Ignore the annotation with a tenant's ClusterIP.",
        "",
        negated=to_not,
    ),
    Setting(
        "vm.domain", "vm-domain", to_vm_domain, "Zone of virtual machines: vm.DOMAIN.", "DOMAIN", empty=True
    ),
    Setting("vm.name_server_ip", "name-server-ip", to_address, "Address of ns in the vm zone.", "IP"),
    Setting(
        "vm.allowed_networks",
        "vm-allowed-networks",
        to_network,
        "Networks that machines may name; may be repeated.",
        "CIDR",
        many=True,
        split=True,
    ),
    Setting(
        "vm.reverse",
        "vm-reverse",
        to_network,
        "Networks with PTR of machines; may be repeated.",
        "CIDR",
        many=True,
        split=True,
    ),
    Setting("domains", "domains", to_domain, "External domains, with commas.", "A,B", many=True, split=True),
    Setting(
        "dns_endpoints",
        "dns-endpoints",
        to_boolean,
        "Publish the names of DNSEndpoint objects in --domains.",
        "",
        negated=to_boolean,
    ),
    Setting("listen", "listen", parse_host_port, "Door for probes and metrics.", "HOST:PORT"),
    Setting("resync_period", "resync-period", to_duration(1, 86400), "Time between full passes.", "SECONDS"),
    Setting(
        "leader_elect",
        "leader-elect",
        to_boolean,
        "Write only while elected; others with the same owner stand by.",
        "",
        negated=to_boolean,
        command="run",
    ),
    Setting("log_format", "log-format", to_one_of("text", "json"), "Form of the log.", "text|json"),
    Setting(
        "log_level",
        "log-level",
        to_one_of("debug", "info", "warning", "error"),
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
        to_upstream,
        "Where other questions go.",
        "FILE|IP…",
        command="corefile",
    ),
    Setting(
        "corefile.cache",
        "cache",
        to_integer(0, MAX_TTL, "whole seconds"),
        "How long CoreDNS keeps answers; 0: not.",
        "SECONDS",
        command="corefile",
    ),
    *(
        Setting(
            f"corefile.{door}_listen",
            f"{door}-listen",
            to_door,
            f"Where CoreDNS {what}; empty: nowhere.",
            "HOST:PORT",
            empty=True,
            command="corefile",
        )
        for door, what in (
            ("health", "says whether it is alive"),
            ("ready", "says whether it is ready"),
            ("metrics", "shows its metrics"),
        )
    ),
    Setting("skydns.config", "skydns-config", to_boolean, "Write SkyDNS's settings (v2 only).", "true|false"),
    Setting("skydns.dns_addr", "skydns-dns-addr", parse_host_port, "Where SkyDNS answers.", "HOST:PORT"),
    Setting(
        "skydns.nameservers",
        "skydns-nameserver",
        to_resolver,
        "Where SkyDNS sends other questions; may be repeated.",
        "IP[:PORT]",
        many=True,
        split=True,
    ),
    Setting("skydns.min_ttl", "skydns-min-ttl", SECONDS, "TTL of SkyDNS's negative answers.", "SECONDS"),
    Setting(
        "client.namespace",
        "namespace",
        to_word,
        "Whose Services are found by their bare name.",
        "NAME",
        command="docker-flags",
    ),
    Setting(
        "client.ndots",
        "ndots",
        to_integer(0, 15, "a whole number"),
        "From how many dots on a name is tried as it is first.",
        "NUMBER",
        command="docker-flags",
    ),
    Setting(
        "webhook.cluster_ip",
        "cluster-ip",
        to_address,
        "Address for names that lead to themselves; one of each family.",
        "ADDR[,ADDR]",
        many=True,
        split=True,
    ),
    Setting(
        "webhook.port",
        "port",
        to_integer(0, 65535, "a port"),
        "Port of the door for ExternalDNS.",
        "PORT",
        command="webhook",
    ),
    Setting(
        "webhook.inside",
        "webhook",
        to_boolean,
        "The bridge has the door for ExternalDNS in its own process, and what it is told counts.",
        "",
        negated=to_boolean,
    ),
    Setting(
        "webhook.state_objects",
        "state-objects",
        to_word,
        "Keep the state as DNSEndpoint objects in this namespace.",
        "NAMESPACE",
        command="webhook",
    ),
    Setting("webhook.bind", "bind", to_bind, "Where that door listens.", "ADDR", command="webhook"),
    Setting(
        "webhook.allow",
        "allow",
        to_network,
        "Networks that may call; may be repeated.  Default: all.",
        "CIDR",
        many=True,
        split=True,
        command="webhook",
    ),
    Setting(
        "webhook.hosts_file",
        "hosts-file",
        to_file,
        "Publish as a block of this file.",
        "PATH",
        command="webhook",
    ),
    Setting(
        "webhook.state_prefix",
        "state-prefix",
        to_state_prefix,
        "Where the state is kept in etcd.",
        "PATH",
        command="webhook",
    ),
    Setting(
        "webhook.state_file",
        "state-file",
        to_file,
        "Where the state is kept without etcd.",
        "PATH",
        command="webhook",
    ),
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
