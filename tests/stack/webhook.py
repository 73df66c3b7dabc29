"""``kube2etcd webhook`` as a process, and a client that sends what ExternalDNS sends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from tests.stack.bridge import clean_environment
from tests.stack.etcd import Etcd
from tests.stack.process import LOOPBACK, Process, Server, free_port, wait_for

MEDIA_TYPE = "application/external.dns.webhook+json;version=1"
JSON = dict[str, Any]


class Webhook(Server):
    """The command with the given options, both doors on loopback ports that stay over restarts."""

    def __init__(
        self,
        directory: Path,
        args: Sequence[str],
        env: Mapping[str, str] | None = None,
        *,
        wrapper: Sequence[str] = (),
    ) -> None:
        self.port, self.probe_port = free_port(), free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.probes = f"http://{LOOPBACK}:{self.probe_port}"
        doors = ["--port", str(self.port), "--listen", f"{LOOPBACK}:{self.probe_port}"]
        command = [*wrapper, sys.executable, "-m", "kube2etcd", "webhook", *doors, *args]
        self.process = Process("webhook", command, directory, env=clean_environment(env))

    def is_up(self) -> bool:
        """Whether it answers at all."""
        return self.call("GET", "/clusterip").status_code in (200, 403, 503)

    def call(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        """One request to the provider's door, with a connection of its own."""
        with requests.Session() as session:
            session.trust_env = False
            return session.request(method, self.url + path, data=body, headers=headers, timeout=15)

    def apply(self, **lists: list[JSON]) -> int:
        """Changes, as ExternalDNS posts them: with a Content-Type and no Accept.  The status."""
        body = json.dumps(lists).encode()
        return self.call("POST", "/records", body, {"Content-Type": MEDIA_TYPE}).status_code

    def records(self) -> list[JSON]:
        """What it says that it has."""
        answer = self.call("GET", "/records", headers={"Accept": MEDIA_TYPE})
        assert answer.status_code == 200, answer.text
        found: list[JSON] = answer.json()
        return found

    def names(self) -> list[str]:
        """The names of the records, sorted."""
        return sorted(record["dnsName"] for record in self.records())

    def probe(self, path: str) -> requests.Response:
        """One request to the door for probes."""
        with requests.Session() as session:
            session.trust_env = False
            return session.get(self.probes + path, timeout=5)

    def wait_ready(self, deadline_s: float = 20.0) -> None:
        """Wait until it says that everything is as it should be."""
        wait_for(
            lambda: self.probe("/readyz").status_code == 200,
            "the webhook to be ready",
            deadline_s,
            self.process,
        )


def a(name: str, *targets: str, **more: Any) -> JSON:
    """An A or AAAA endpoint as it is posted."""
    return {
        "dnsName": name,
        "targets": list(targets),
        "recordType": "AAAA" if ":" in targets[0] else "A",
        **more,
    }


def alias(name: str, target: str, **more: Any) -> JSON:
    """A CNAME endpoint as it is posted."""
    return {"dnsName": name, "targets": [target], "recordType": "CNAME", **more}


def ownership(endpoint: JSON, name: str | None = None) -> JSON:
    """The text that the registry posts beside an endpoint."""
    return {
        "dnsName": name or f"{endpoint['recordType'].lower()}-{endpoint['dnsName']}",
        "targets": ['"heritage=external-dns,external-dns/owner=me,external-dns/resource=ingress/default/x"'],
        "recordType": "TXT",
        "labels": {"ownedRecord": endpoint["dnsName"]},
    }


@contextmanager
def serving(directory: Path, *args: str, **more: Any) -> Iterator[Webhook]:
    """A webhook for dtk.io that is up, and gone afterwards."""
    webhook = Webhook(directory, ["--domains", "dtk.io", *args], **more)
    try:
        webhook.start()
        yield webhook
    finally:
        webhook.kill()


@contextmanager
def with_file(directory: Path, content: bytes = b"127.0.0.1 localhost\n", *args: str) -> Iterator[Webhook]:
    """The same with ``hosts`` and ``state.json`` in ``directory``."""
    hosts = directory / "hosts"
    if not hosts.exists():
        hosts.write_bytes(content)
    options = ["--hosts-file", str(hosts), "--state-file", str(directory / "state.json")]
    with serving(directory, *options, *args) as webhook:
        yield webhook


KEYS = "/skydns"
STATE = "/kube2etcd/webhook"


def block(hosts: Path) -> list[str]:
    """The lines of our block."""
    lines = hosts.read_text(errors="replace").splitlines()
    marks = [number for number, line in enumerate(lines) if "kube2etcd" in line]
    assert len(marks) in (0, 2)
    return lines[marks[0] + 1 : marks[1]] if marks else []


def hosts_of(etcd: Etcd) -> set[str]:
    """The addresses in the served keys."""
    values = [json.loads(value) for value in etcd.dump(KEYS).values()]
    return {value["host"] for value in values if value.get("host")}


def state_keys(etcd: Etcd) -> list[str]:
    """The keys of the state; their values are no text."""
    return etcd.ctl("get", "--prefix", "--keys-only", "--", STATE).split()


def why_unready(webhook: Webhook) -> str:
    """Waits until it says that it is not ready, and why."""
    wait_for(lambda: webhook.probe("/readyz").status_code == 503, "unready", 15)
    return webhook.probe("/readyz").text


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kube2etcd", "webhook", *args],
        capture_output=True,
        text=True,
        timeout=30,
        env=clean_environment(),
        check=False,
    )
