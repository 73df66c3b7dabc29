"""The test harness in one import, for tests, demo and benchmarks."""

# ruff: noqa: F401

from tests.stack.apiserver import ApiServer
from tests.stack.bridge import Bridge, clean_environment
from tests.stack.build import Binaries, binaries
from tests.stack.certificates import Authority, KeyPair
from tests.stack.coredns import CoreDns
from tests.stack.etcd import Etcd, EtcdCluster, EtcdTls
from tests.stack.kubeclient import KubeClient, KubeError, Object
from tests.stack.process import LOOPBACK, SLOW, DeadlineError, Process, Server, free_port, http, wait_for
from tests.stack.toolchain import BuildError
