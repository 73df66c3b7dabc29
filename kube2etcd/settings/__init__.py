"""Settings: one typed tree from options, environment and a YAML file.

Options beat the environment, the environment beats the file.  Every fault is reported at once, with
where it stands and what to write instead.  `SETTINGS` is the one list of what can be set; the
command line makes its options from it.
"""

from kube2etcd.settings.loading import Loaded, load, load_all
from kube2etcd.settings.places import parse_host_port
from kube2etcd.settings.setting import ENVIRONMENT, Setting
from kube2etcd.settings.table import COMMAND_OPTIONS, SETTINGS
from kube2etcd.settings.together import zone_faults
from kube2etcd.settings.tree import (
    Client,
    Cluster,
    Etcd,
    HostPort,
    Serve,
    ServiceZone,
    Settings,
    Skydns,
    Vm,
    Webhook,
    vm_zone,
)

__all__ = [
    "COMMAND_OPTIONS",
    "ENVIRONMENT",
    "SETTINGS",
    "Client",
    "Cluster",
    "Etcd",
    "HostPort",
    "Loaded",
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
