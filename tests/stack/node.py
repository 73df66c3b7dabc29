"""A cluster node in a network namespace of its own: pods beside it, and Services that lead to them.

Linux, root and iproute2 are needed; where something is missing, `NodeError` says what in one sentence.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.stack.process import Process, wait_for

#: The address of the API server's own Service, as pods are told it.
API_ADDRESS = "10.0.0.1"
#: Where the node's resolver answers; pods with dnsPolicy Default ask there.
RESOLVER = "192.0.2.53"

_CLONE_NEWNET = 0x40000000


class NodeError(RuntimeError):
    """No pod can be run here; the text says why."""


def _need_rights() -> None:
    missing = [tool for tool in ("ip", "nsenter", "unshare", "setpriv", "chroot") if not shutil.which(tool)]
    if missing:
        raise NodeError(
            f"a pod is run in namespaces, with {', '.join(missing)}: install iproute2 and util-linux"
        )
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "true"], capture_output=True, text=True, timeout=20, check=False
    )
    if tried.returncode != 0:
        raise NodeError(
            "a pod is run in network and mount namespaces, which this user may not make "
            f"({tried.stderr.strip()}): run the tests as root, with CAP_SYS_ADMIN and CAP_NET_ADMIN"
        )


class Namespace:
    """A network namespace, kept by a process that does nothing."""

    def __init__(self, name: str, directory: Path) -> None:
        self.process = Process(f"{name}-pause", ["unshare", "--net", "sleep", "infinity"], directory)
        self.process.start()
        ours = os.readlink("/proc/self/ns/net")
        wait_for(lambda: os.readlink(self.path) != ours, f"the network namespace of {name}", 10, self.process)
        self.run("ip", "link", "set", "lo", "up")

    @property
    def path(self) -> str:
        """The file that stands for it."""
        return f"/proc/{self.process.pid}/ns/net"

    def run(self, *command: str) -> None:
        """Run a command in it."""
        done = subprocess.run(
            ["nsenter", f"--net={self.path}", "--", *command],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        if done.returncode != 0:
            raise NodeError(f"{' '.join(command)}: {done.stderr.strip()}")

    def set(self, sysctl: str, value: str) -> None:
        """Set a kernel parameter of this network, as a pod's ``sysctls`` ask for it."""
        self.run("sh", "-c", f"echo {value} > /proc/sys/{sysctl.replace('.', '/')}")

    def close(self) -> None:
        """Let go of it; it ends with its last process."""
        self.process.kill()


class Node(Namespace):
    """The node; `entered` puts the calling thread, and whatever it starts, onto it."""

    def __init__(self, directory: Path) -> None:
        _need_rights()
        super().__init__("node", directory)
        self.directory = directory
        self._lock = threading.Lock()
        self._pods = 0
        for address in (API_ADDRESS, RESOLVER):
            self.run("ip", "address", "add", f"{address}/32", "dev", "lo")
        # from pod to pod
        self.set("net.ipv4.ip_forward", "1")

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """For this thread, and the threads and processes it starts, the network is the node's."""
        here = Path("/proc/thread-self/ns/net")
        with here.open() as before, Path(self.path).open() as inside:
            _set_namespace(inside.fileno())
            try:
                yield
            finally:
                _set_namespace(before.fileno())

    def add_pod(self, name: str) -> PodNetwork:
        """The network of one more pod, with an address that the node reaches, and a way out by the node."""
        with self._lock:
            number, self._pods = self._pods, self._pods + 1
        return PodNetwork(self, name, number)

    def lead(self, address: str, pods: Sequence[PodNetwork]) -> None:
        """Packets to a Service's address go to these pods in turns, as kube-proxy sees to; none: nowhere."""
        hops = [word for pod in pods for word in ("nexthop", "via", pod.address)]
        way = ["ip", "route", "replace", *([] if hops else ["unreachable"]), f"{address}/32", *hops]
        with self._lock:
            subprocess.run(
                ["nsenter", f"--net={self.path}", "--", "ip", "route", "flush", "exact", f"{address}/32"],
                check=False,
                capture_output=True,
                timeout=20,
            )
            self.run(*way)


class PodNetwork(Namespace):
    """A pod's network: loopback, and a line to the node."""

    def __init__(self, node: Node, name: str, number: int) -> None:
        super().__init__(name, node.directory)
        base = f"10.244.{number // 64}"
        gateway, self.address = (f"{base}.{number % 64 * 4 + last}" for last in (1, 2))
        line = f"pod{number}"
        node.run("ip", "link", "add", line, "type", "veth", "peer", "eth0", "netns", str(self.process.pid))
        node.run("ip", "address", "add", f"{gateway}/30", "dev", line)
        node.run("ip", "link", "set", line, "up")
        self.run("ip", "address", "add", f"{self.address}/30", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")
        self.run("ip", "route", "add", "default", "via", gateway)

    def answer_for(self, address: str) -> None:
        """Take packets to a Service's address: no address is translated on the way here."""
        self.run("ip", "address", "add", f"{address}/32", "dev", "lo")


def _set_namespace(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise NodeError(f"cannot enter a network namespace: {os.strerror(number)}")
