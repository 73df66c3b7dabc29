"""``kube2etcd check`` against healthy, broken and restricted servers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stack.bridge import call
from tests.stack.harness import ApiServer, Binaries, Etcd, Object, free_port, wait_for
from tests.stack.objects import api_object, dns_endpoint, dns_endpoint_crd, endpoint


def check(*arguments: str) -> tuple[int, dict[str, Any]]:
    """The exit code, and the findings by what was checked."""
    done = call("check", "--output", "json", *arguments)
    return done.returncode, {one["what"]: one for one in json.loads(done.stdout)}


def test_healthy_cluster_passes_and_nothing_is_written(etcd: Etcd, servers: list[str]) -> None:
    before = etcd.revision()
    code, found = check(*servers)
    assert (code, {one["verdict"] for one in found.values()}) == (0, {"ok"}), found
    assert set(found) == {
        "API server",
        "services",
        "endpointslices.discovery.k8s.io",
        "namespaces",
        f"etcd {etcd.url}",
        "etcd keys",
        "etcd rights",
    }
    assert etcd.revision() == before, "a check writes nothing"


def test_missing_optional_crd_is_a_note(servers: list[str]) -> None:
    code, found = check("--vm-domain", "example.test", *servers)
    assert code == 0
    assert found["virtualmachineinstances.kubevirt.io"]["verdict"] == "note"


def test_foreign_and_malformed_keys_are_listed(etcd: Etcd, servers: list[str]) -> None:
    theirs = {
        "/skydns/local/cluster/svc/default/theirs": '{"host":"192.0.2.2"}',
        "/skydns/arpa/in-addr/192/0/2/8": '{"host":"theirs.example","owner":"others"}',
    }
    broken = ("local/cluster/svc/default/broken", "test/elsewhere", "arpa/in-addr/192/0/2/9")
    etcd.put_all({**theirs, **{f"/skydns/{key}": "{" for key in broken}})
    code, found = check(*servers)
    assert code == 0
    assert found["foreign keys"]["text"].startswith("/skydns/local/cluster/svc/default/theirs:")
    malformed = "/skydns/arpa/in-addr/192/0/2/9, /skydns/local/cluster/svc/default/broken:"
    assert found["malformed keys"]["text"].startswith(malformed)
    assert "SERVFAIL" in found["malformed keys"]["text"]


def test_unreachable_servers_are_faults() -> None:
    api, etcd = free_port(), free_port()
    code, found = check(
        "--kube-master-url", f"http://127.0.0.1:{api}", "--etcd-server", f"http://127.0.0.1:{etcd}"
    )
    assert code == 1
    assert found["API server"]["verdict"] == "fault"
    assert str(api) in found["API server"]["text"]
    assert "services" not in found, "not checked without an API server"
    assert found[f"etcd http://127.0.0.1:{etcd}"]["verdict"] == "fault"
    assert "etcd rights" not in found


def test_read_only_etcd_user_is_a_fault(etcd: Etcd, servers: list[str]) -> None:
    password = etcd.restrict("/skydns/", user="dns", access="read")
    code, found = check(*servers, "--etcd-user", "dns", "--etcd-password-file", str(password))
    assert (code, found["etcd rights"]["verdict"]) == (1, "fault")
    assert "permission denied" in found["etcd rights"]["text"]


def test_leader_election_needs_rights_to_its_key(etcd: Etcd, servers: list[str]) -> None:
    """The check leaves the key unchanged."""
    key = "/kube2etcd/leader/skydns/kube2etcd"
    password = etcd.restrict("/skydns/", user="dns")

    def election() -> tuple[int, str, str]:
        user = ("--etcd-user", "dns", "--etcd-password-file", str(password))
        code, found = check("--leader-elect", *servers, *user)
        assert found["etcd rights"]["verdict"] == "ok"
        return code, found["election"]["verdict"], found["election"]["text"]

    code, verdict, text = election()
    assert (code, verdict, key in text, "permission denied" in text) == (1, "fault", True, True), text
    etcd.ctl("role", "grant-permission", "names", "read", key)
    assert election()[:2] == (1, "fault"), "reading it is not enough"
    etcd.ctl("role", "grant-permission", "names", "readwrite", key)
    assert election() == (0, "ok", f"{key} can be read and written; there is no leader")
    assert etcd.dump("/kube2etcd") == {}
    etcd.put(key, "me")
    code, verdict, text = election()
    assert (code, verdict, "delete it" in text) == (1, "fault", True), text
    lease = etcd.ctl("lease", "grant", "60").split()[1]
    etcd.ctl("put", f"--lease={lease}", key, "dns-7f-1a")
    assert election() == (0, "ok", f"{key} can be read and written; the leader is dns-7f-1a")


def test_webhook_state_in_etcd(etcd: Etcd, servers: list[str]) -> None:
    code, found = check("--webhook", "--domains", "dtk.io", *servers)
    assert (code, found["state under /kube2etcd/webhook"]["verdict"]) == (0, "ok")
    assert etcd.dump("/kube2etcd") == {}
    code, found = check("--leader-elect", "--etcd-prefix", "/kube2etcd", *servers)
    assert (code, found["election"]["verdict"]) == (1, "fault")
    assert "take another --etcd-prefix" in found["election"]["text"]


RBAC = "rbac.authorization.k8s.io"
LISTED = ["services", "endpointslices", "namespaces", "dnsendpoints"]


def bound_role(kind: str, name: str, verbs: list[str], resources: list[str], **where: str) -> list[Object]:
    """A role and its binding to the user ``bridge``."""
    version, rules = f"{RBAC}/v1", [{"apiGroups": ["*"], "resources": resources, "verbs": verbs}]
    bound: Object = {
        "roleRef": {"apiGroup": RBAC, "kind": kind, "name": name},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": "bridge"}],
    }
    return [
        api_object(version, kind, name, **where, rules=rules),
        api_object(version, f"{kind}Binding", name, **where, **bound),
    ]


@pytest.fixture
def rbac_apiserver(binaries: Binaries, tmp_path: Path) -> Iterator[ApiServer]:
    """An API server with RBAC, where ``bridge`` may list and watch."""
    users, place = {"bridge-token": ("bridge", ())}, tmp_path / "apiserver"
    with (
        Etcd(tmp_path / "api-etcd", binaries, name="api-etcd") as etcd,
        ApiServer(place, binaries, etcd.url, authorization_mode="RBAC", users=users) as server,
    ):
        server.apply_all(bound_role("ClusterRole", "bridge", ["list", "watch"], LISTED))
        yield server


def test_webhook_state_in_dnsendpoints_needs_rights(rbac_apiserver: ApiServer, etcd: Etcd) -> None:
    """The check asks the API server for its rights and writes nothing."""
    kubeconfig = rbac_apiserver.kubeconfig(token="bridge-token", name="bridge")

    def expect(namespace: str, verdict: str, text: str) -> None:
        def right() -> bool:
            code, found = check(
                *("--webhook", "--dns-endpoints", "--domains", "dtk.io", "--state-objects", namespace),
                *("--kubeconfig", str(kubeconfig), "--etcd-server", etcd.url),
            )
            assert "state under /kube2etcd/webhook" not in found
            seen = found[f"state in {namespace}"]
            assert code == (seen["verdict"] == "fault"), found
            assert (seen["verdict"], text in seen["text"]) == (verdict, True), seen
            return True

        # The API server applies new rights and kinds with a delay.
        wait_for(right, f"{verdict}: {text}", 20)

    expect("default", "fault", "are not installed")
    rbac_apiserver.apply(dns_endpoint_crd())
    expect("default", "fault", "not created or updated")
    expect("nowhere", "fault", "there is no namespace nowhere")
    rbac_apiserver.apply_all(
        bound_role("Role", "webhook", ["create", "update"], ["dnsendpoints"], namespace="default")
    )
    expect("default", "ok", "--cleanup may not")
    rbac_apiserver.apply_all(bound_role("Role", "all", ["*"], ["dnsendpoints"], namespace="default"))
    expect("default", "ok", "--cleanup can delete it")
    former = dns_endpoint("kube2etcd-webhook-01", endpoint("foo.dtk.io", "A", "10.0.0.5"))
    former["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "kube2etcd-webhook"}
    rbac_apiserver.apply(former)
    expect("default", "note", "reads as desired endpoints")
    rbac_apiserver.delete(former)
    assert rbac_apiserver.list("externaldns.k8s.io/v1alpha1", "DNSEndpoint", "default") == []
