"""Shared by all rows: servers, CPU and memory of processes, DNS latency."""

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
    """A line of the table; the goal is a maximum, or with ``at_least`` a minimum."""

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
    """What rows need: programs, a directory, the prepared API server, and a log of progress."""

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
        """An empty etcd, not started, with fsync as by default."""
        programs = {**self.programs, "etcd": self.programs["etcd34"]} if old else self.programs
        return Etcd(self.folder(), programs, fsync=True, extra_args=extra)

    @contextlib.contextmanager
    def apiserver(self) -> Iterator[ApiServer]:
        """A real API server with the CRDs of DNSEndpoints and VMIs."""
        with (
            Etcd(self.folder(), self.programs, name="api-etcd") as etcd,
            ApiServer(self.folder(), self.programs, etcd.url) as api,
        ):
            api.apply_all([vmi_crd(), dns_endpoint_crd()])
            yield api

    def bridge(self, etcd: Etcd, *options: str) -> Bridge:
        """A bridge from the prepared API server to this etcd, not started."""
        where = ["--kube-master-url", self.api.url, "--etcd-server", etcd.url]
        return Bridge(self.folder(), [*where, "--vm-domain", "", *options])

    def run_go_client(self, *arguments: str) -> dict[str, float]:
        """Run the bare Go client; returns its keys, seconds and CPU seconds."""
        command = [str(self.programs["etcd-writer"]), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"etcd-writer {arguments[0]}: {done.stderr.strip()}")
        found: dict[str, float] = json.loads(done.stdout)
        return found


def cpu(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory(pid: int) -> tuple[float, float]:
    """Resident memory of a process in MiB: current and peak."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.startswith("Vm")}
    return found["VmRSS"], found["VmHWM"]


def start_until_ready(bridge: Bridge, deadline_s: float = 600.0) -> float:
    """Start a bridge; returns the monotonic time at which it was ready, to 20 ms.

    More frequent probes would cost it CPU: a third of a millisecond each.
    """
    bridge.launch()
    deadline = time.monotonic() + deadline_s
    while not bridge.ready():
        if time.monotonic() > deadline or not bridge.alive:
            raise AssertionError(f"not ready in {deadline_s:.0f} s:\n{bridge.log_tail()}")
        time.sleep(0.02)
    return time.monotonic()


class DnsClient:
    """A lightweight client of one server."""

    def __init__(self, port: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect((LOOPBACK, port))

    def ask(self, name: str) -> list[str]:
        """The addresses of a name; empty without an answer within half a second."""
        self._socket.send(dns.message.make_query(name, "A").to_wire())
        if not select.select([self._socket], [], [], 0.5)[0]:
            return []
        answer = dns.message.from_wire(self._socket.recv(65535))
        return [item.to_text() for rrset in answer.answer for item in rrset]

    def until(self, name: str, address: str, deadline_s: float = 60.0, or_else: float | None = None) -> float:
        """Milliseconds until a name has an address, or ``or_else`` after the deadline."""
        began = time.monotonic()
        while address not in self.ask(name):
            if time.monotonic() - began > deadline_s:
                if or_else is not None:
                    return or_else
                raise AssertionError(f"{name} is not {address} after {deadline_s:.0f} s: {self.ask(name)}")
        return (time.monotonic() - began) * 1000

    def until_all(self, names: Sequence[str], deadline_s: float = 120.0) -> float:
        """Ask until all names have an address, a hundred at a time; returns the monotonic time."""
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
    """Answers per second, and their number, with eight clients that ask a file's questions in turn."""
    command = ["dnsperf", "-s", LOOPBACK, "-p", str(port), "-d", str(questions), "-c", "8", "-q", "64"]
    done = subprocess.run([*command, "-l", str(seconds)], capture_output=True, text=True, check=True)
    words = dict(re.findall(r"(Queries completed|Queries per second): +([0-9.]+)", done.stdout))
    return float(words["Queries per second"]), float(words["Queries completed"])


def p95(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


@dataclass(frozen=True)
class Sync:
    """One first sync, from the first list request to ready."""

    seconds: float
    keys: int
    cpu: float
    etcd_cpu: float
    ready_mib: float
    peak_mib: float


def first_sync(
    bench: Bench, cluster: ClusterSize, idle_cpu: float, etcd: Etcd, *options: str
) -> tuple[Sync, Bridge]:
    """A first sync of a new bridge to an empty etcd; ``idle_cpu`` is subtracted, the CPU of an idle start."""
    bench.api.fill(cluster)
    bridge = bench.bridge(etcd, *options)
    before = cpu(etcd.pid)
    ready = start_until_ready(bridge)
    used, theirs = cpu(bridge.pid) - idle_cpu, cpu(etcd.pid) - before
    now, peak = memory(bridge.pid)
    keys = int(bench.run_go_client("read", etcd.url, "/skydns")["keys"])
    return Sync(ready - bench.api.first_request, keys, used, theirs, now, peak), bridge
