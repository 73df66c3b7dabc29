"""Manifests and chart against a real API server: valid values are admitted, invalid ones rejected."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from kube2etcd.cli import main
from tests.addons.manifests import ADDONS, VALUES, Object, filled, manifests, objects, of_kind, pods
from tests.addons.test_helm import CHART, GUIDE
from tests.stack.addon import BAD_DOMAINS, RC, SVC
from tests.stack.harness import ApiServer, Binaries, Etcd, KubeError
from tests.stack.helm import helm
from tests.stack.objects import api_object

IDS = [str(path.relative_to(ADDONS)) for path in manifests()]
CRDS = Path(__file__).parent / "crds"


@pytest.fixture(scope="module")
def api(binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server with RBAC and all admission plugins; kube-system enforces restricted pods."""
    directory = tmp_path_factory.mktemp("admission")
    with Etcd(directory / "etcd", binaries) as etcd:
        place = directory / "apiserver"
        with ApiServer(place, binaries, etcd.url, authorization_mode="RBAC", service_accounts=True) as server:
            found = [yaml.safe_load(path.read_text()) for path in sorted(CRDS.glob("*.yaml"))]
            server.apply_all(of_kind(found, "CustomResourceDefinition"))
            enforce_restricted(server, "kube-system")
            yield server


@pytest.mark.parametrize("manifest", manifests(), ids=IDS)
def test_manifests_are_admitted(api: ApiServer, manifest: Path) -> None:
    found = filled(manifest)
    for one in found:
        api.delete(one)
        dry_run_strictly(api, one)
        api.apply(one)
    admit_pods(api, found)


def dry_run_strictly(api: ApiServer, one: Object) -> None:
    """A server-side dry run with strict field validation: apply ignores unknown fields."""
    path = api.path(one["apiVersion"], one["kind"], one["metadata"].get("namespace"))
    api.request("POST", path, one, params={"dryRun": "All", "fieldValidation": "Strict"})


def admit_pods(api: ApiServer, found: list[Object]) -> None:
    """Create a pod of each workload in a namespace that enforces restricted pods."""
    for template in pods(found):
        [workload] = [one for one in found if one.get("spec", {}).get("template") == template]
        name, namespace = f"{workload['metadata']['name']}-admit", workload["metadata"]["namespace"]
        labels = template["metadata"]["labels"]
        one = api_object("v1", "Pod", name, namespace, labels=labels, spec=template["spec"])
        for claim in workload["spec"].get("volumeClaimTemplates", ()):
            template["spec"]["volumes"].append({"name": claim["metadata"]["name"], "emptyDir": {}})
        enforce_restricted(api, namespace)
        assert api.apply(one)["spec"]["priority"] == 2000000000
        api.delete(one)


def enforce_restricted(api: ApiServer, namespace: str) -> None:
    """Enforce the restricted Pod Security Standard in this namespace."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    api.patch(f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": labels}})


def test_pod_that_may_run_as_root_is_rejected(api: ApiServer) -> None:
    enforce_restricted(api, "kube-system")
    template = next(pods(filled(RC)))
    template["spec"]["securityContext"]["runAsNonRoot"] = False
    api.apply_all(of_kind(filled(RC), "ServiceAccount"))
    with pytest.raises(KubeError, match="violates PodSecurity"):
        api.apply(api_object("v1", "Pod", "bad", "kube-system", spec=template["spec"]))


def admission_error(api: ApiServer, one: Object) -> str:
    """The API server's error for a new object, empty if it is admitted."""
    api.delete(one)
    try:
        api.apply(one)
    except KubeError as error:
        return str(error)
    return ""


SUBDOMAIN = "a lowercase RFC 1123 subdomain must consist of"
SUBDOMAIN_OR_PREFIX = f"{SUBDOMAIN}|prefix part must be non-empty"
ADDRESS = "must be a valid IP address"
DNS_ENDPOINTS, EXTERNAL_DNS = "external-dns/dns.yaml.in", "external-dns/external-dns.yaml.in"
VM, ETCD, SHARED = "vm/vm-dns.yaml.in", "shared-etcd/etcd.yaml.in", "shared-etcd/skydns-rc.yaml.in"
INVALID_DOMAINS = (*BAD_DOMAINS, "{DNS_DOMAIN}")
INVALID_NAMES = ("apps.example.com.", "Apps.example.com", "{DOMAIN}", "a_b.example.com", "")
INVALID_ETCD = ("10.0.0.256", "", "{ETCD_1}", "etcd-1")
TO_REPLICAS = "into Go struct field DeploymentSpec.spec.replicas"

#: Manifest, kind of its object, placeholder, the API server's error, and the values that cause it.
REFUSED: list[tuple[str, str, str, str, tuple[str, ...]]] = [
    (RC, "ConfigMap", "DNS_DOMAIN", f"metadata.name: .*{SUBDOMAIN}", INVALID_DOMAINS),
    (RC, "Deployment", "DNS_DOMAIN", rf"hostAliases\[0\].hostnames\[0\]: .*{SUBDOMAIN}", INVALID_DOMAINS),
    (RC, "Deployment", "DNS_REPLICAS", "must be greater than zero", ("0", "")),
    (RC, "Deployment", "DNS_REPLICAS", "must be greater than", ("-1",)),
    (RC, "Deployment", "DNS_REPLICAS", f"cannot unmarshal object {TO_REPLICAS}", ("{DNS_REPLICAS}",)),
    (RC, "Deployment", "DNS_REPLICAS", f"cannot unmarshal string {TO_REPLICAS}", ("two",)),
    (SVC, "Service", "DNS_SERVER_IP", ADDRESS, ("", "{DNS_SERVER_IP}", "10.0.0.256", "kube-dns.example.com")),
    (SVC, "Service", "DNS_SERVER_IP", "must not have leading 0s", ("10.0.0.010",)),
    (SVC, "Service", "DNS_SERVER_IP", "does not match the current range", ("172.31.0.10", "fd00:10::")),
    (DNS_ENDPOINTS, "ConfigMap", "DOMAIN", SUBDOMAIN_OR_PREFIX, INVALID_NAMES),
    (EXTERNAL_DNS, "Deployment", "DOMAIN", SUBDOMAIN_OR_PREFIX, INVALID_NAMES),
    (SHARED, "Deployment", "ETCD_1", r"hostAliases\[2\].ip", INVALID_ETCD),
    (ETCD, "Service", "ETCD_1", ADDRESS, INVALID_ETCD),
    (VM, "Deployment", "DOMAIN", SUBDOMAIN, ("sec.example.com.", "Sec.example.com", "", "{DOMAIN}")),
    (VM, "Deployment", "NAME_SERVER_IP", ADDRESS, ("192.0.2.256", "", "{NAME_SERVER_IP}")),
]


@pytest.mark.parametrize(
    ("manifest", "kind", "placeholder", "error", "value"),
    [(*row, value) for *row, values in REFUSED for value in values],
)
def test_api_server_rejects_invalid_values(
    api: ApiServer, manifest: str, kind: str, placeholder: str, error: str, value: str
) -> None:
    api.apply_all(of_kind(filled(manifest), "Namespace"))
    found = of_kind(filled(manifest, {**VALUES, placeholder: value}), kind)
    assert re.search(error, "".join(admission_error(api, one) for one in found), re.DOTALL)


@pytest.mark.parametrize("address", ["10.0.0.10", "fd00:10::a"])
def test_dns_service_gets_its_cluster_ip(api: ApiServer, address: str) -> None:
    [one] = filled(SVC, {**VALUES, "DNS_SERVER_IP": address})
    assert admission_error(api, one) == ""
    assert api.get("v1", "Service", "kube-dns", "kube-system")["spec"]["clusterIPs"] == [address]
    api.delete(one)


def delete_manifest_objects(api: ApiServer) -> None:
    """Delete all objects of the manifests except Namespaces."""
    api.delete_all(one for path in manifests() for one in filled(path) if one["kind"] != "Namespace")


@pytest.mark.parametrize("example", [path.stem for path in sorted((CHART / "examples").glob("*.yaml"))])
def test_chart_installs_and_uninstalls(api: ApiServer, binaries: Binaries, example: str) -> None:
    name, namespace = ("vm-dns", "vm-dns") if example == "vm" else ("kube-dns", "kube-system")
    delete_manifest_objects(api)
    api.apply_all(of_kind(filled("vm/vm-dns.yaml.in"), "Namespace"))
    place = ["--namespace", namespace]
    given = [*place, "--values", str(CHART / "examples" / f"{example}.yaml")]
    kubeconfig = api.kubeconfig()
    found = objects(helm(binaries, "template", name, str(CHART), *given))
    for one in found:
        dry_run_strictly(api, one)
    helm(binaries, "install", name, str(CHART), *given, kubeconfig=kubeconfig)
    try:
        for one in found:
            assert api.get(
                one["apiVersion"], one["kind"], one["metadata"]["name"], one["metadata"].get("namespace")
            )
        admit_pods(api, found)
    finally:
        helm(binaries, "uninstall", name, *place, kubeconfig=kubeconfig)
    crds = of_kind(found, "CustomResourceDefinition")
    for one in found:
        api.delete(one)
    assert bool(crds) == (example == "external-dns")


def test_commands_in_the_helm_guide_work(api: ApiServer, binaries: Binaries) -> None:
    """Run its commands in order; one with output shown must fail with that error."""
    kubeconfig = api.kubeconfig()
    delete_manifest_objects(api)
    blocks = re.findall(r"```console\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    command_and_output = re.compile(r"^\$ helm (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
    shown = [found for block in blocks for found in command_and_output.findall(block)]
    assert len(shown) > 5
    notes = ""
    for command, output in shown:
        if output:
            with pytest.raises(RuntimeError) as refused:
                helm(binaries, *shlex.split(command), kubeconfig=kubeconfig)
            assert str(refused.value) == output
        else:
            notes += helm(binaries, *shlex.split(command), kubeconfig=kubeconfig)
    named = re.findall(r"kubectl -n (\S+) exec deploy/(\S+) -c kube2etcd -- kube2etcd (\w+)", notes)
    assert ("kube-system", "kube-dns", "check") in named
    assert {command for _, _, command in named} <= set(main.commands)
