"""The real ExternalDNS, and Ingresses for it."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.stack.harness import LOOPBACK, ApiServer, Object, free_port
from tests.stack.objects import api_object
from tests.stack.process import Process


def ingress(name: str, *hosts: str, to: Sequence[str], **annotations: str) -> Object:
    """An Ingress with these hosts and the load balancer's addresses or host names ``to``.

    Annotations are given without ExternalDNS's prefix, with ``_`` for ``-``.
    """
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    prefix = "external-dns.alpha.kubernetes.io/"
    marks = {prefix + key.replace("_", "-"): value for key, value in annotations.items()}
    balancer = [{"hostname" if re.search("[a-z]", one) and ":" not in one else "ip": one} for one in to]
    spec = {"rules": [{"host": host, "http": {"paths": [path]}} for host in hosts]}
    made = api_object("networking.k8s.io/v1", "Ingress", name, "default", annotations=marks, spec=spec)
    return {**made, "status": {"loadBalancer": {"ingress": balancer}}}


class ExternalDns:
    """The real ExternalDNS with the Ingress source."""

    def __init__(
        self, directory: Path, binaries: Mapping[str, Path], api: ApiServer, provider: Sequence[str]
    ) -> None:
        self.directory, self.binary = directory, str(binaries["external-dns"])
        self.options = [
            "--source=ingress",
            f"--kubeconfig={api.kubeconfig()}",
            "--txt-owner-id=me",
            "--policy=sync",
            "--log-level=debug",
            *provider,
        ]
        self.runs = 0
        self.daemon: Process | None = None

    def _process(self, options: Sequence[str], env: Mapping[str, str] | None) -> Process:
        self.runs += 1
        metrics = f"--metrics-address={LOOPBACK}:{free_port()}"
        command = [self.binary, *self.options, metrics, *options]
        return Process(f"external-dns-{self.runs}", command, self.directory, env=env)

    def run_once(self, *options: str, env: Mapping[str, str] | None = None) -> str:
        """Run one sync, which must succeed; returns its log."""
        process = self._process(["--once", *options], env)
        process.start()
        code = process.wait(60)
        assert code == 0, process.log_tail(40)
        return process.log_text()

    def start(self, *options: str) -> Process:
        """Run as a daemon that syncs every second and at every event."""
        self.daemon = self._process(
            ["--interval=1s", "--min-event-sync-interval=1s", "--events", *options], None
        )
        self.daemon.start()
        return self.daemon

    def kill(self) -> None:
        if self.daemon is not None:
            self.daemon.kill()
