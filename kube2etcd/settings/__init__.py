"""Settings: one typed tree from options, environment and a YAML file.

Options override the environment, which overrides the file.  All faults are reported at once.  `SETTINGS` is
derived from the tree, and the command line and docs/options.md from `SETTINGS`.
"""

from kube2etcd.settings.loading import Loaded as Loaded
from kube2etcd.settings.loading import load as load
from kube2etcd.settings.loading import load_all as load_all
from kube2etcd.settings.loading import state_prefix_fault as state_prefix_fault
from kube2etcd.settings.loading import zone_faults as zone_faults
from kube2etcd.settings.model import SETTINGS as SETTINGS
from kube2etcd.settings.model import TOPICS as TOPICS
from kube2etcd.settings.model import ZONE_FIELDS as ZONE_FIELDS
from kube2etcd.settings.model import Cluster as Cluster
from kube2etcd.settings.model import Etcd as Etcd
from kube2etcd.settings.model import Settings as Settings
from kube2etcd.settings.model import Vm as Vm
from kube2etcd.settings.model import ZoneSettings as ZoneSettings
from kube2etcd.settings.model import vm_zone as vm_zone
from kube2etcd.settings.setting import ENVIRONMENT as ENVIRONMENT
from kube2etcd.settings.setting import Setting as Setting
from kube2etcd.settings.values import EVERYTHING as EVERYTHING
from kube2etcd.settings.values import HostPort as HostPort
from kube2etcd.settings.values import Network as Network
from kube2etcd.settings.values import Selector as Selector
from kube2etcd.settings.values import parse_host_port as parse_host_port
