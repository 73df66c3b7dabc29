"""Shared by all rows: the bench's servers, CPU and memory of processes, DNS latency."""

import contextlib
import json
import os
import re
import select
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dns.message

from tests.bench.prepared import ClusterSize, PreparedApi
from tests.stack.harness import LOOPBACK, ApiServer, Bridge, Etcd
from tests.stack.objects import dns_endpoint_crd, vmi_crd

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Row:
    """One line of the table: what, against what, the value, and the goal it is to be at least or at most."""

    what: str
    against: str
    value: float
    goal: float
    unit: str = "x"
    at_least: bool = False
    details: dict[str, Any] = field(default_factory=dict)


Say = Callable[[str], None]


@dataclass
class Bench:
    """What every row is handed: programs, a folder, the prepared API server, and how to report progress."""

    programs: dict[str, Path]
    directory: Path
    api: PreparedApi
    log: Say
    quick: bool
    rounds: int
    _folders: int = 0

    def folder(self) -> Path:
        self._folders += 1
        folder = self.directory / str(self._folders)
        folder.mkdir()
        return folder

    def etcd(self, old: bool = False, extra: Sequence[str] = ()) -> Etcd:
        """An empty etcd, not yet started, that syncs as etcd does by default."""
        programs = {**self.programs, "etcd": self.programs["etcd34"]} if old else self.programs
        return Etcd(self.folder(), programs, fsync=True, extra_args=extra)

    @contextlib.contextmanager
    def apiserver(self) -> Iterator[ApiServer]:
        """A real API server, which takes DNSEndpoints and machines."""
        with (
            Etcd(self.folder(), self.programs, name="api-etcd") as etcd,
            ApiServer(self.folder(), self.programs, etcd.url) as api,
        ):
            api.apply_all([vmi_crd(), dns_endpoint_crd()])
            yield api

    def bridge(self, etcd: Etcd, *options: str) -> Bridge:
        """A bridge between the prepared API server and this etcd, not yet started."""
        where = ["--kube-master-url", self.api.url, "--etcd-server", etcd.url]
        return Bridge(self.folder(), [*where, "--vm-domain", "", *options])

    def go(self, *arguments: str) -> dict[str, float]:
        """The bare client: its keys, seconds and seconds of CPU."""
        command = [str(self.programs["etcd-writer"]), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"etcd-writer {arguments[0]}: {done.stderr.strip()}")
        found: dict[str, float] = json.loads(done.stdout)
        return found


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory(pid: int) -> tuple[float, float]:
    """Resident memory of a process in MiB, now and at its highest."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.startswith("Vm")}
    return found["VmRSS"], found["VmHWM"]


def start_until_ready(bridge: Bridge, deadline_s: float = 600.0) -> float:
    """Start a bridge; when it became ready, by the monotonic clock, to 20 ms.

    Not asked more often: each answer costs the bridge a third of a millisecond of CPU.
    """
    bridge.launch()
    deadline = time.monotonic() + deadline_s
    while not bridge.ready():
        if time.monotonic() > deadline or not bridge.alive:
            raise AssertionError(f"not ready in {deadline_s:.0f} s:\n{bridge.log_tail()}")
        time.sleep(0.02)
    return time.monotonic()


class DnsClient:
    """Asks one server again and again, with little cost of its own."""

    def __init__(self, port: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect((LOOPBACK, port))

    def ask(self, name: str) -> list[str]:
        """The addresses of a name; nothing where no answer comes within half a second."""
        self._socket.send(dns.message.make_query(name, "A").to_wire())
        if not select.select([self._socket], [], [], 0.5)[0]:
            return []
        answer = dns.message.from_wire(self._socket.recv(65535))
        return [item.to_text() for rrset in answer.answer for item in rrset]

    def until(self, name: str, address: str, deadline_s: float = 60.0, or_else: float | None = None) -> float:
        """Milliseconds until a name has an address; where it has not by the deadline, ``or_else``."""
        began = time.monotonic()
        while address not in self.ask(name):
            if time.monotonic() - began > deadline_s:
                if or_else is not None:
                    return or_else
                raise AssertionError(f"{name} is not {address} after {deadline_s:.0f} s: {self.ask(name)}")
        return (time.monotonic() - began) * 1000

    def until_all(self, names: Sequence[str], deadline_s: float = 120.0) -> float:
        """When each of many names has an address, by the monotonic clock; a hundred are asked for at once."""
        missing = {
            number: dns.message.make_query(name, "A", use_edns=False, id=number).to_wire()
            for number, name in enumerate(names)
        }
        deadline = time.monotonic() + deadline_s
        while missing and time.monotonic() < deadline:
            for at in range(0, len(missing), 100):
                window = list(missing)[at : at + 100]
                for number in window:
                    self._socket.send(missing[number])
                expected = set(window)
                while expected and select.select([self._socket], [], [], 0.5)[0]:
                    wire = self._socket.recv(4096)
                    number = int.from_bytes(wire[:2], "big")
                    expected.discard(number)
                    if int.from_bytes(wire[6:8], "big"):
                        missing.pop(number, None)
        assert not missing, f"{len(missing)} names not answered in time"
        return time.monotonic()

    def close(self) -> None:
        self._socket.close()


def dnsperf(port: int, questions: Path, seconds: float) -> tuple[float, float]:
    """Answers a second, and how many they were, to eight clients that ask a file's questions in turn."""
    command = ["dnsperf", "-s", LOOPBACK, "-p", str(port), "-d", str(questions), "-c", "8", "-q", "64"]
    done = subprocess.run([*command, "-l", str(seconds)], capture_output=True, text=True, check=True)
    words = dict(re.findall(r"(Queries completed|Queries per second): +([0-9.]+)", done.stdout))
    return float(words["Queries per second"]), float(words["Queries completed"])


def p95(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


@dataclass(frozen=True)
class Sync:
    """One first sync, from the first list that was asked for until ready."""

    seconds: float
    keys: int
    cpu: float
    etcd_cpu: float
    ready_mib: float
    peak_mib: float


def first_sync(
    bench: Bench, cluster: ClusterSize, idle_cpu: float, etcd: Etcd, *options: str
) -> tuple[Sync, Bridge]:
    """Let a new bridge fill an empty etcd; ``idle_cpu`` is what a start costs that finds nothing."""
    bench.api.fill(cluster)
    bridge = bench.bridge(etcd, *options)
    before = cpu(etcd.pid)
    ready = start_until_ready(bridge)
    used, theirs = cpu(bridge.pid) - idle_cpu, cpu(etcd.pid) - before
    now, peak = memory(bridge.pid)
    keys = int(bench.go("read", etcd.url, "/skydns")["keys"])
    return Sync(ready - bench.api.first_request, keys, used, theirs, now, peak), bridge
