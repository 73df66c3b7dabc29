"""A real kube-apiserver without controllers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from tests.stack.certificates import Authority, KeyPair
from tests.stack.kubeclient import KubeClient, Object
from tests.stack.process import LOOPBACK, Server, free_port

#: Namespaces that a new API server creates.
SYSTEM_NAMESPACES = frozenset({"default", "kube-system", "kube-public", "kube-node-lease"})

CRD = ("apiextensions.k8s.io/v1", "CustomResourceDefinition")


class ApiServer(Server, KubeClient):
    """One kube-apiserver on a loopback port.

    Without controllers, tests write EndpointSlices and statuses, and delete namespaces by
    ``delete_namespace``. ``users`` adds tokens: token -> (user, groups). ``service_accounts``: pods need
    their ServiceAccount, as in a cluster. ``hosts``: more addresses of its certificate.
    """

    def __init__(
        self,
        directory: Path,
        binaries: Mapping[str, Path],
        etcd_url: str,
        *,
        authorization_mode: str = "AlwaysAllow",
        users: Mapping[str, tuple[str, Sequence[str]]] | None = None,
        service_accounts: bool = False,
        hosts: Sequence[str] = (),
        extra_args: Sequence[str] = (),
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.authority = Authority(directory / "pki", "kubernetes-ca")
        self.ca_file = self.authority.ca_file
        self.token = "admin-token"
        self.tokens_file = directory / "tokens.csv"
        known = {self.token: ("admin", ("system:masters",)), **(users or {})}
        lines = [f'{token},{user},{user},"{",".join(groups)}"\n' for token, (user, groups) in known.items()]
        self.tokens_file.write_text("".join(lines))
        KubeClient.__init__(self, f"https://{LOOPBACK}:{self.port}", self.token, self.ca_file)
        serving = self.authority.issue("kube-apiserver", file="serving", hosts=hosts)
        signer = self.authority.issue("service-accounts").key_file
        command = [
            str(binaries["kube-apiserver"]),
            f"--bind-address={LOOPBACK}",
            f"--secure-port={self.port}",
            # endpoint of the Service kubernetes: must not be loopback; nothing connects to it
            "--advertise-address=192.0.2.10",
            f"--etcd-servers={etcd_url}",
            "--service-cluster-ip-range=10.0.0.0/16,fd00:10::/112",
            f"--authorization-mode={authorization_mode}",
            f"--token-auth-file={self.tokens_file}",
            f"--client-ca-file={self.ca_file}",
            f"--tls-cert-file={serving.cert_file}",
            f"--tls-private-key-file={serving.key_file}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={signer}",
            f"--service-account-signing-key-file={signer}",
            *([] if service_accounts else ["--disable-admission-plugins=ServiceAccount"]),
            "--profiling=false",
            "--enable-priority-and-fairness=false",
            *extra_args,
        ]
        Server.__init__(self, "kube-apiserver", command, directory)

    def kill(self) -> None:
        self.close()
        super().kill()

    def is_up(self) -> bool:
        """Whether it is ready and has created its own objects."""
        if self.request("GET", "/readyz", check=False).status_code != 200:
            return False
        ready = ("/api/v1/namespaces/default", "/api/v1/namespaces/default/services/kubernetes")
        return all(self.request("GET", path, check=False).status_code == 200 for path in ready)

    def client_certificate(self, user: str) -> KeyPair:
        """A client certificate of this user, a cluster admin."""
        return self.authority.issue(user, "system:masters", file=f"client-{user}")

    def kubeconfig(
        self,
        *,
        token: str = "",
        certificate: KeyPair | None = None,
        user: Object | None = None,
        cluster: Object | None = None,
        name: str = "kubeconfig",
    ) -> Path:
        """A kubeconfig file, by default of the admin; ``cluster`` overrides fields of the cluster."""
        if certificate is not None:
            user = {"client-certificate": str(certificate.cert_file), "client-key": str(certificate.key_file)}
        reached = {"server": self.url, "certificate-authority": str(self.ca_file), **(cluster or {})}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": reached}],
            "users": [{"name": "test", "user": user or {"token": token or self.token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        }
        path = self.directory / name
        path.write_text(yaml.safe_dump(config))
        return path

    def reset(self) -> None:
        """Delete all objects but its own, which is far faster than a start."""
        kinds = [("v1", "Service"), ("discovery.k8s.io/v1", "EndpointSlice"), ("v1", "Pod")]
        kinds += sorted(self.applied_kinds - {*kinds, ("v1", "Namespace"), CRD})
        for api_version, kind in kinds:
            self.delete_all([item for item in self.list(api_version, kind) if not _is_own(item)])
        for namespace in self.list("v1", "Namespace"):
            if namespace["metadata"]["name"] not in SYSTEM_NAMESPACES:
                self.delete_namespace(namespace["metadata"]["name"])
        if CRD in self.applied_kinds:
            self.delete_all(self.list(*CRD))
        self.forget_discovery()


def _is_own(item: Object) -> bool:
    """Whether the API server itself creates it."""
    metadata = item["metadata"]
    namespace, name = metadata.get("namespace"), metadata["name"]
    if item.get("kind") in ("Service", "EndpointSlice") and (namespace, name) == ("default", "kubernetes"):
        return True
    return str(name).startswith(("system:", "cluster-admin")) or namespace == "kube-system"
