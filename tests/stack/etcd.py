"""etcd, one member or a cluster, whose data can be wiped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import requests

from kube2etcd.etcd.client import EtcdConnection
from kube2etcd.etcd.servers import TIMEOUT
from kube2etcd.settings import Etcd as EtcdSettings
from tests.stack.certificates import Authority, KeyPair
from tests.stack.process import LOOPBACK, Context, Server, free_port, http, run_command, wait_for


@dataclass(frozen=True)
class EtcdTls:
    """TLS of etcd's client port: the server's certificate, and the clients' CA and certificate.

    With ``client_auth`` the server requires a client certificate of that CA.
    """

    server: KeyPair
    ca_file: Path
    client: KeyPair
    client_auth: bool = True

    @classmethod
    def of(cls, authority: Authority, *, client_auth: bool = True) -> Self:
        """Certificates of this CA, named ``server`` and ``client`` in its directory."""
        return cls(authority.issue("server"), authority.ca_file, authority.issue("client"), client_auth)


class EtcdctlError(OSError):
    """etcdctl failed; the text is its stderr."""


class Etcd(Server):
    """One etcd member, which keeps its ports over restarts and data loss."""

    def __init__(
        self,
        directory: Path,
        binaries: Mapping[str, Path],
        *,
        name: str = "etcd",
        extra_args: Sequence[str] = (),
        tls: EtcdTls | None = None,
        fsync: bool = False,
    ) -> None:
        super().__init__(name, [], directory)
        self.data = directory / f"{name}.data"
        self.tls = tls
        self.user: tuple[str, str] | None = None
        self.port, self.peer_port = free_port(), free_port()
        self.url = f"http{'s' if tls else ''}://{LOOPBACK}:{self.port}"
        self.peer_url = f"http://{LOOPBACK}:{self.peer_port}"
        self._etcdctl = binaries.get("etcdctl", Path("etcdctl"))
        self._etcd = binaries["etcd"]
        self._extra = [*([] if fsync else ["--unsafe-no-fsync"]), *extra_args]
        self.join([self])

    def join(self, members: Sequence[Etcd]) -> None:
        """Make it a member of this cluster before its first start."""
        cluster = ",".join(f"{member.name}={member.peer_url}" for member in members)
        self.command = [
            str(self._etcd),
            f"--name={self.name}",
            f"--data-dir={self.data}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={self.peer_url}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            f"--initial-cluster={cluster}",
            "--initial-cluster-state=new",
            "--log-level=warn",
            *self._tls_args(),
            *self._extra,
        ]

    def _tls_args(self) -> list[str]:
        if self.tls is None:
            return []
        trust = ["--client-cert-auth", f"--trusted-ca-file={self.tls.ca_file}"]
        return [
            f"--cert-file={self.tls.server.cert_file}",
            f"--key-file={self.tls.server.key_file}",
            *(trust if self.tls.client_auth else []),
        ]

    @property
    def options(self) -> list[str]:
        """kube2etcd's options for this etcd."""
        return ["--etcd-server", self.url]

    def is_up(self) -> bool:
        """Whether it has a leader and answers."""
        answer = self.http("GET", "/health", timeout=2)
        return answer.status_code == 200 and answer.json().get("health") == "true"

    def http(self, method: str, path: str, **more: Any) -> requests.Response:
        """One request to the client port."""
        if self.tls is not None:
            more |= {"verify": str(self.tls.ca_file)}
            more |= {"cert": (str(self.tls.client.cert_file), str(self.tls.client.key_file))}
        return http(method, self.url + path, **more)

    def connection(self, timeout: float = TIMEOUT, **settings: object) -> EtcdConnection:
        """A client connection with these settings."""
        given: dict[str, Any] = {name: str(one) for name, one in settings.items()}
        return EtcdConnection(EtcdSettings((self.url,), **given), timeout)

    def wipe(self) -> None:
        """Lose all data: kill it, delete its data and start it empty on the same ports."""
        self.kill()
        shutil.rmtree(self.data, ignore_errors=True)
        self.start()

    def ctl(self, *arguments: str, stdin: str = "") -> str:
        """Run etcdctl against this member; its standard output, or an EtcdctlError."""
        command = [str(self._etcdctl), f"--endpoints={self.url}"]
        if self.tls is not None:
            command += [f"--cacert={self.tls.ca_file}"]
            command += [f"--cert={self.tls.client.cert_file}", f"--key={self.tls.client.key_file}"]
        if self.user is not None:
            command += [f"--user={':'.join(self.user)}"]
        done = run_command(*command, *arguments, input=stdin, timeout=20, env={"ETCDCTL_API": "3"})
        if done.returncode:
            what = f"etcdctl {' '.join(arguments)} exited {done.returncode}"
            raise EtcdctlError(f"{what}: {done.stderr.strip()}")
        return done.stdout

    def put(self, key: str, value: str) -> None:
        self.ctl("put", "--", key, value)

    def put_all(self, keys: Mapping[str, str], without: Iterable[str] = ()) -> None:
        """Write keys and delete those of ``without``, a hundred per transaction."""
        changes = [f"del {_quoted(key)}" for key in without]
        changes += [f"put {_quoted(key)} {_quoted(value)}" for key, value in keys.items()]
        for at in range(0, len(changes), 100):
            self.ctl("txn", stdin="\n".join(["", *changes[at : at + 100], "", "", ""]))

    def delete(self, prefix: str) -> None:
        """Delete everything below a prefix."""
        self.ctl("del", "--prefix", "--", prefix)

    def dump(self, prefix: str = "") -> dict[str, str]:
        """All keys below a prefix, with their values, which must be without line breaks."""
        lines = self.ctl("get", "--prefix", "--", prefix).split("\n")
        return dict(zip(lines[0::2], lines[1::2], strict=False))

    def revision(self) -> int:
        """etcd's revision: unchanged means nothing was written."""
        status = json.loads(self.ctl("endpoint", "status", "--write-out=json"))
        return int(status[0]["Status"]["header"]["revision"])

    def enable_auth(self, user: str = "root", password: str = "secret") -> None:
        """Enable authentication, with one user of role root, whom ``ctl`` uses from then on."""
        self.ctl("user", "add", f"{user}:{password}")
        if user != "root":
            self.ctl("user", "add", f"root:{password}")
        self.ctl("user", "grant-role", "root", "root")
        self.ctl("user", "grant-role", user, "root")
        self.ctl("auth", "enable")
        self.user = (user, password)

    def restrict(self, *prefixes: str, user: str = "bridge", access: str = "readwrite") -> Path:
        """Enable authentication, with a user of the role ``names``: ``access`` below ``prefixes`` only.

        Returns the password file.
        """
        self.ctl("role", "add", "names")
        for prefix in prefixes:
            self.ctl("role", "grant-permission", "names", "--prefix=true", access, prefix)
        self.ctl("user", "add", f"{user}:hunter2")
        self.ctl("user", "grant-role", user, "names")
        self.enable_auth()
        given = self.directory / "password"
        given.write_text("hunter2")
        return given


def _quoted(text: str) -> str:
    """A Go string literal, as etcdctl reads in transactions."""
    return json.dumps(text, ensure_ascii=False)


class EtcdCluster(Context):
    def __init__(self, members: Sequence[Etcd]) -> None:
        self.members = members
        for member in members:
            member.join(members)

    @property
    def urls(self) -> list[str]:
        return [member.url for member in self.members]

    def start(self) -> None:
        """Start all members, then wait: none is healthy before there is a quorum."""
        for member in self.members:
            member.launch()
        for member in self.members:
            member.wait_up()

    def kill(self) -> None:
        for member in self.members:
            member.kill()

    def leader(self) -> Etcd:
        """The current leader."""

        def leads(member: Etcd) -> bool:
            return member.alive and ", true, " in member.ctl("endpoint", "status", "--write-out=simple")

        return wait_for(lambda: next(filter(leads, self.members), None), "a leader", 20)
