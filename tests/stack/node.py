"""A cluster node and its pods in network namespaces, with routes from Service addresses to pods.

It needs Linux, root and iproute2; a `NodeError` says what is missing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shlex
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.stack.process import Process, run_command, wait_for


@dataclass(frozen=True)
class Family:
    """The addresses of a single-stack cluster."""

    api: str
    """Cluster IP of the API server's Service."""
    resolver: str
    """Address of the node's resolver, for pods with dnsPolicy Default."""
    ip_flag: str
    """``ip``'s option for the family."""
    prefix_length: int
    """Of a single address."""
    forwarding_sysctl: str
    """Enables forwarding between pods."""
    pod_subnet: str
    """Address format of a pod's link to the node, a subnet of four addresses."""
    address_flags: tuple[str, ...] = ()
    """``ip``'s options that make a new address usable at once."""

    def link_addresses(self, number: int) -> tuple[str, str]:
        """The node's and the pod's address on the link of pod ``number``."""
        first = number % 64 * 4
        gateway, address = (self.pod_subnet.format(number // 64, first + last) for last in (1, 2))
        return gateway, address


IPV4 = Family("10.0.0.1", "192.0.2.53", "-4", 32, "net.ipv4.ip_forward", "10.244.{}.{}")
IPV6 = Family(
    *("fd00:10::1", "2001:db8::53", "-6", 128, "net.ipv6.conf.all.forwarding", "fd00:244:{:x}::{:x}"),
    # no duplicate address detection
    ("nodad",),
)
API_ADDRESS = IPV4.api

_CLONE_NEWNET = 0x40000000


class NodeError(RuntimeError):
    """Pods cannot run here; the text says why."""


def _check_prerequisites() -> None:
    missing = [tool for tool in ("ip", "nsenter", "unshare", "setpriv", "chroot") if not shutil.which(tool)]
    if missing:
        raise NodeError(
            f"pods run in namespaces and need {', '.join(missing)}: install iproute2 and util-linux"
        )
    tried = run_command("unshare", "--net", "--mount", "true")
    if tried.returncode:
        raise NodeError(
            "pods run in network and mount namespaces, which this user may not create "
            f"({tried.stderr.strip()}): run the tests as root, with CAP_SYS_ADMIN and CAP_NET_ADMIN"
        )


class Namespace(Process):
    """A network namespace, held by an idle process."""

    def __init__(self, name: str, directory: Path) -> None:
        super().__init__(f"{name}-pause", ["unshare", "--net", "sleep", "infinity"], directory)
        self.start()
        ours = os.readlink("/proc/self/ns/net")
        wait_for(lambda: os.readlink(self.path) != ours, f"the network namespace of {name}", 10, self)
        self.run("ip", "link", "set", "lo", "up")

    @property
    def path(self) -> str:
        return f"/proc/{self.pid}/ns/net"

    def inside(self, *command: str) -> list[str]:
        """The command, wrapped to run in this network."""
        return ["nsenter", f"--net={self.path}", "--", *command]

    def run(self, *command: str, check: bool = True) -> str:
        """Run the command in this network; returns its stdout."""
        done = run_command(*self.inside(*command), timeout=20)
        if check and done.returncode:
            raise NodeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def add_address(self, address: str, device: str, family: Family) -> None:
        """Add an address with its prefix length to a device of this network."""
        self.run("ip", "address", "add", address, "dev", device, *family.address_flags)

    def set(self, sysctl: str, value: str) -> None:
        """Set a sysctl of this network."""
        self.run("sh", "-c", f"echo {value} > /proc/sys/{sysctl.replace('.', '/')}")


class Node(Namespace):
    """The node; within `entered` the calling thread and its children are in its network."""

    def __init__(self, directory: Path, family: Family = IPV4) -> None:
        _check_prerequisites()
        super().__init__("node", directory)
        self.family = family
        self._lock = threading.Lock()
        self._pods = 0
        for address in (family.api, family.resolver):
            self.add_address(f"{address}/{family.prefix_length}", "lo", family)
        self.set(family.forwarding_sysctl, "1")

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Move this thread, and threads and processes that it starts, into the node's network."""
        here = Path("/proc/thread-self/ns/net")
        with here.open() as before, Path(self.path).open() as inside:
            _set_namespace(inside.fileno())
            try:
                yield
            finally:
                _set_namespace(before.fileno())

    def add_pod(self, name: str) -> PodNetwork:
        """The network of a new pod, with a link and its default route to the node."""
        with self._lock:
            number, self._pods = self._pods, self._pods + 1
        return PodNetwork(self, name, number)

    def route(self, address: str, pods: Sequence[PodNetwork]) -> None:
        """Balance a Service's address over these pods, as kube-proxy does; without pods it is unreachable."""
        hops = [word for pod in pods for word in ("nexthop", "via", pod.address)]
        to, routes = f"{address}/{self.family.prefix_length}", ["ip", self.family.ip_flag, "route"]
        with self._lock:
            self.run(*routes, "flush", "exact", to, check=False)
            self.run(*routes, "replace", *([] if hops else ["unreachable"]), to, *hops)


class PodNetwork(Namespace):
    """A pod's network: loopback and a link to the node."""

    def __init__(self, node: Node, name: str, number: int) -> None:
        super().__init__(name, node.directory)
        self.family = node.family
        gateway, self.address = self.family.link_addresses(number)
        subnet = self.family.prefix_length - 2
        line = f"pod{number}"
        node.run("ip", "link", "add", line, "type", "veth", "peer", "eth0", "netns", str(self.pid))
        node.add_address(f"{gateway}/{subnet}", line, self.family)
        node.run("ip", "link", "set", line, "up")
        self.add_address(f"{self.address}/{subnet}", "eth0", self.family)
        self.run("ip", "link", "set", "eth0", "up")
        self.run("ip", self.family.ip_flag, "route", "add", "default", "via", gateway)

    def add_service_address(self, address: str) -> None:
        """Accept packets to a Service's address, which arrive without NAT."""
        self.add_address(f"{address}/{self.family.prefix_length}", "lo", self.family)


def with_bind_mounts(files: Mapping[str, Path], command: Sequence[str]) -> list[str]:
    """The command, wrapped to see these files at paths such as ``/etc/resolv.conf``."""
    mounts = [f"mount --bind {shlex.quote(str(file))} {place} &&" for place, file in files.items()]
    return ["unshare", "--mount", "--", "sh", "-c", " ".join([*mounts, 'exec "$@"']), "sh", *command]


def _set_namespace(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise NodeError(f"cannot enter a network namespace: {os.strerror(number)}")
