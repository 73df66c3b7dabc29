"""etcd with its v2 keys API, as classic SkyDNS reads it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import requests

from skydns_compat.names import Name
from skydns_compat.reader import WILDCARDS, Answer
from skydns_compat.skydns import skydns_answer
from tests.stack.etcd import Etcd, EtcdTls

#: Where the bridge keeps its notes; the other keys below the prefix are SkyDNS's.
NOTES = "/skydns/_kube2etcd"


class EtcdV2(Etcd):
    """An etcd 3.4 with ``--enable-v2``; ``put``, ``delete`` and ``dump`` use that API.

    ``dump`` also lists the hidden directories of which there are notes.
    """

    def __init__(
        self,
        directory: Path,
        binaries: Mapping[str, Path],
        *,
        name: str = "etcd",
        tls: EtcdTls | None = None,
        enable: bool = True,
    ) -> None:
        super().__init__(
            directory,
            {"etcd": binaries["etcd34"], "etcdctl": binaries["etcdctl"]},
            name=name,
            tls=tls,
            extra_args=[f"--enable-v2={str(enable).lower()}"],
        )
        self.login: tuple[str, str] | None = None

    @property
    def options(self) -> list[str]:
        return [*super().options, "--etcd-api", "v2"]

    def ask(self, method: str, path: str, data: object = None, **params: str) -> requests.Response:
        """One request, whose status is not checked; ``path`` begins with ``/v2/`` or is a key."""
        path = path if path.startswith("/v2/") else f"/v2/keys{path}"
        return self.http(method, path, params=params, data=data, auth=self.login)

    def put(self, key: str, value: str) -> None:
        self.ask("PUT", key, {"value": value}).raise_for_status()

    def delete(self, prefix: str) -> None:
        self.ask("DELETE", prefix, recursive="true").raise_for_status()

    def listed(self, path: str) -> dict[str, str]:
        node = self.ask("GET", path, recursive="true").json().get("node", {})
        return dict(_files(node))

    def dump(self, prefix: str = "/") -> dict[str, str]:
        found = self.listed(prefix)
        for note in self.listed(f"{NOTES}/hidden"):
            directory = "/skydns/" + note.rpartition("/")[2][1:].replace("|", "/")
            if directory.startswith(prefix.rstrip("/") + "/") or prefix == "/":
                found |= self.listed(directory)
        return found

    def exists(self, path: str) -> bool:
        """Whether this is a key or a directory."""
        return self.ask("GET", path).status_code == 200

    def index(self, path: str, since: int = 0) -> int:
        """The index of a key's last change; with ``since`` of its first change or removal from then on."""
        params = {"wait": "true", "waitIndex": str(since)} if since else {}
        return int(self.ask("GET", path, **params).json()["node"]["modifiedIndex"])

    def revision(self) -> int:
        """etcd's index: unchanged means that nothing was written."""
        return int(self.ask("GET", "/").headers["X-Etcd-Index"])

    def look_up(self, name: str, qtype: str = "A") -> Answer:
        """What SkyDNS answers from the one listing that it requests."""
        labels = name.lower().split(".")[::-1]
        wild = next((at for at, label in enumerate(labels) if label in WILDCARDS), None)
        path = "/".join(["/skydns", *labels[:wild]])
        entries = {key.encode(): value.encode() for key, value in self.listed(path).items()}
        if not entries and self.exists(path):
            return Answer("NOERROR")
        return skydns_answer(entries, Name.parse("cluster.local"), name, qtype)


def _files(node: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not node.get("dir"):
        if "key" in node:
            yield node["key"], node["value"]
        return
    for each in node.get("nodes", ()):
        yield from _files(each)
