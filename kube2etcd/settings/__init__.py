"""Settings: one typed tree from options, environment and a YAML file.

Options take precedence over the environment, the environment over the file.  All faults are reported at
once.  `SETTINGS` is derived from the tree; command line and docs/options.md are made from it.
"""

from kube2etcd.settings.loading import Loaded, load, load_all
from kube2etcd.settings.model import (
    COMMAND_OPTIONS,
    ENVIRONMENT,
    SETTINGS,
    TOPICS,
    ZONE_FIELDS,
    Client,
    Cluster,
    Etcd,
    Serve,
    ServiceZone,
    Setting,
    Settings,
    Skydns,
    Vm,
    Webhook,
    vm_zone,
)
from kube2etcd.settings.validation import zone_faults
from kube2etcd.settings.values import EVERYTHING, HostPort, Selector, parse_host_port

__all__ = [
    "COMMAND_OPTIONS",
    "ENVIRONMENT",
    "EVERYTHING",
    "SETTINGS",
    "TOPICS",
    "ZONE_FIELDS",
    "Client",
    "Cluster",
    "Etcd",
    "HostPort",
    "Loaded",
    "Selector",
    "Serve",
    "ServiceZone",
    "Setting",
    "Settings",
    "Skydns",
    "Vm",
    "Webhook",
    "load",
    "load_all",
    "parse_host_port",
    "vm_zone",
    "zone_faults",
]
