"""kube2etcd as a child process."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import requests
import yaml

from tests.stack.process import LOOPBACK, Server, free_port, http, run_command, wait_for


class Bridge(Server):
    """``kube2etcd run``, or another command, with its probes on a loopback port.

    ``start`` waits until it is live; ``wait_ready`` until etcd equals the cluster.
    """

    def __init__(
        self,
        directory: Path,
        args: Sequence[str],
        *,
        name: str = "kube2etcd",
        command: str = "run",
        wrapper: Sequence[str] = (),
        program: Sequence[str] = ("kube2etcd",),
    ) -> None:
        self.port = free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        listen = ["--listen", f"{LOOPBACK}:{self.port}"]
        argv = [*wrapper, sys.executable, "-m", *program, command, *listen, *args]
        super().__init__(name, argv, directory, env=clean_environment())

    def get(self, path: str) -> requests.Response:
        """GET a path of the probes' and metrics' port."""
        return http("GET", self.url + path)

    def is_up(self) -> bool:
        return self.get("/livez").status_code == 200

    def ready(self) -> bool:
        """Whether /readyz is 200; False if it does not answer."""
        try:
            return self.get("/readyz").status_code == 200
        except OSError:
            return False

    def wait_ready(self, deadline_s: float = 30.0) -> None:
        wait_for(self.ready, "kube2etcd to be ready", deadline_s, self)

    def readyz(self) -> str:
        """The body of /readyz."""
        return self.get("/readyz").text

    def wait_readyz(self, text: str, deadline_s: float) -> None:
        """Wait until the body of /readyz contains this."""
        wait_for(lambda: text in self.readyz(), f"{text!r} in /readyz", deadline_s, self)

    def full_passes(self, more: int, deadline_s: float = 30.0) -> None:
        """Wait for this many more resyncs."""
        count = "kube2etcd_resync_duration_seconds_count"
        before = self.metric(count)
        wait_for(lambda: self.metric(count) >= before + more, "resyncs", deadline_s, self)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples with these labels."""
        pairs = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(
            value
            for key, value in self.metrics().items()
            if key.partition("{")[0] == name and all(pair in key for pair in pairs)
        )

    def metrics(self) -> dict[str, float]:
        """All samples, by ``name{label="value"}``; they may be half a second old."""
        values: dict[str, float] = {}
        for line in self.get("/metrics").text.splitlines():
            if line and not line.startswith("#"):
                key, _, value = line.rpartition(" ")
                values[key] = float(value)
        return values


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of kube2etcd until it exits."""
    return run_command(sys.executable, "-m", "kube2etcd", *arguments, env=clean_environment())


def kube2etcd(*arguments: str) -> str:
    """The standard output of a command; asserts that it succeeds."""
    done = call(*arguments)
    assert done.returncode == 0, f"kube2etcd {arguments[0]} exited with {done.returncode}:\n{done.stderr}"
    return done.stdout


def config_option(directory: Path, config: Mapping[str, Any] | None) -> list[str]:
    """Write a settings file, unless ``config`` is None; returns its ``--config`` option."""
    if config is None:
        return []
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "settings.yaml"
    file.write_text(yaml.safe_dump(config))
    return ["--config", str(file)]


def clean_environment() -> dict[str, str]:
    """The environment without variables that configure the bridge."""
    return {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("KUBE2ETCD_", "KUBERNETES_")) and key not in ("KUBECONFIG", "DNS_DOMAIN")
    }
