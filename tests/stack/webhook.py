"""``kube2etcd webhook`` as a child process, and ExternalDNS's requests."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import requests

from tests.stack.bridge import Bridge
from tests.stack.harness import LOOPBACK, Etcd, free_port, http, wait_for
from tests.stack.objects import endpoint

MEDIA_TYPE = "application/external.dns.webhook+json;version=1"
#: The header that curl sends by default.
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
LOCALHOST = b"127.0.0.1 localhost\n"
JSON = dict[str, Any]


class Webhook(Bridge):
    """``kube2etcd webhook``, or ``run --webhook``; ``provider_url`` is where ExternalDNS calls."""

    def __init__(
        self,
        directory: Path,
        args: Sequence[str],
        *,
        name: str = "webhook",
        command: str = "webhook",
        **more: Any,
    ) -> None:
        self.provider_port = free_port()
        self.provider_url = f"http://{LOOPBACK}:{self.provider_port}"
        within = ["--webhook"] if command == "run" else []
        options = [*within, "--port", str(self.provider_port), *args]
        super().__init__(directory, options, name=name, command=command, **more)

    def is_up(self) -> bool:
        return self.request("GET", "/clusterip").status_code in (200, 403, 503)

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        """One request to the provider."""
        return http(method, self.provider_url + path, data=body, headers=headers, timeout=15)

    def apply(self, **lists: list[JSON]) -> int:
        """POST changes as ExternalDNS does, with a Content-Type and no Accept; returns the status."""
        body = json.dumps(lists).encode()
        return self.request("POST", "/records", body, {"Content-Type": MEDIA_TYPE}).status_code

    def records(self) -> list[JSON]:
        answer = self.request("GET", "/records", headers={"Accept": MEDIA_TYPE})
        assert answer.status_code == 200, answer.text
        found: list[JSON] = answer.json()
        return found

    def names(self) -> list[str]:
        return sorted(record["dnsName"] for record in self.records())


def a(name: str, *targets: str, **more: Any) -> JSON:
    """An A or AAAA endpoint."""
    return endpoint(name, "AAAA" if ":" in targets[0] else "A", *targets, **more)


def cname(name: str, target: str, **more: Any) -> JSON:
    """A CNAME endpoint."""
    return endpoint(name, "CNAME", target, **more)


def ownership_txt(owned: JSON) -> JSON:
    """The TXT endpoint that ExternalDNS's registry posts beside an endpoint."""
    text = '"heritage=external-dns,external-dns/owner=me,external-dns/resource=ingress/default/x"'
    name = f"{owned['recordType'].lower()}-{owned['dnsName']}"
    return endpoint(name, "TXT", text, labels={"ownedRecord": owned["dnsName"]})


def webhook_for(directory: Path, *args: str, **more: Any) -> Webhook:
    """A webhook for the domain dtk.io."""
    return Webhook(directory, ["--domains", "dtk.io", *args], **more)


def file_options(directory: Path, hosts: Path | None = None) -> list[str]:
    """Options for ``state.json`` in ``directory`` and a hosts file, by default ``hosts`` there."""
    hosts = hosts or directory / "hosts"
    if not hosts.exists():
        hosts.write_bytes(LOCALHOST)
    return ["--hosts-file", str(hosts), "--state-file", str(directory / "state.json")]


KEYS = "/skydns"
STATE = "/kube2etcd/webhook"


def hosts_block(hosts: Path) -> list[str]:
    """The lines of our block, empty without one."""
    lines = hosts.read_text(errors="replace").splitlines()
    marks = [number for number, line in enumerate(lines) if "kube2etcd" in line]
    assert len(marks) in (0, 2)
    return lines[marks[0] + 1 : marks[1]] if marks else []


def published_hosts(etcd: Etcd) -> set[str]:
    """The hosts in all published keys."""
    values = [json.loads(value) for value in etcd.dump(KEYS).values()]
    return {value["host"] for value in values if value.get("host")}


def state_keys(etcd: Etcd) -> list[str]:
    """The keys of the state, whose values are not text."""
    return etcd.ctl("get", "--prefix", "--keys-only", "--", STATE).split()


def unready_reason(webhook: Webhook) -> str:
    """Wait until it is unready; returns the reasons in /readyz."""
    wait_for(lambda: webhook.get("/readyz").status_code == 503, "unready", 15)
    return webhook.readyz()
