"""kube2etcd itself, as a process like any other."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import requests

from tests.stack.process import LOOPBACK, Process, Server, free_port, wait_for


class Bridge(Server):
    """``kube2etcd run`` with the given options, its HTTP door on a loopback port.

    ``start`` waits until the process is alive over HTTP; ``wait_ready`` until etcd equals the cluster.
    """

    def __init__(
        self,
        directory: Path,
        args: Sequence[str],
        env: Mapping[str, str] | None = None,
        *,
        name: str = "kube2etcd",
    ) -> None:
        self.port = free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        listen = ["--listen", f"{LOOPBACK}:{self.port}"]
        command = [sys.executable, "-m", "kube2etcd", "run", *listen, *args]
        self.process = Process(name, command, directory, env=clean_environment(env))

    def get(self, path: str) -> requests.Response:
        """One request to the HTTP door."""
        with requests.Session() as session:
            session.trust_env = False
            return session.get(self.url + path, timeout=5)

    def is_up(self) -> bool:
        """Whether it is live."""
        return self.get("/livez").status_code == 200

    def ready(self) -> bool:
        """Whether it says that etcd equals the cluster; False too where it does not answer."""
        try:
            return self.get("/readyz").status_code == 200
        except OSError:
            return False

    def wait_ready(self, deadline_s: float = 30.0) -> None:
        """Wait until it says so."""
        wait_for(self.ready, "kube2etcd to be ready", deadline_s, self.process)

    def metrics(self) -> dict[str, float]:
        """The metrics page: ``name{label="value"}`` as written there -> number."""
        values: dict[str, float] = {}
        for line in self.get("/metrics").text.splitlines():
            if line and not line.startswith("#"):
                key, _, value = line.rpartition(" ")
                values[key] = float(value)
        return values


def clean_environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what would configure the bridge behind the test's back."""
    cleaned = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("KUBE2ETCD_", "KUBERNETES_")) and key not in ("KUBECONFIG", "DNS_DOMAIN")
    }
    return {**cleaned, **(env or {})}
