"""``kube2etcd check`` against real neighbours, sound and not."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.stack.harness import ApiServer, Etcd, clean_environment, free_port


def check(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code, and the findings by what was asked."""
    done = subprocess.run(
        [sys.executable, "-m", "kube2etcd", "check", "--output", "json", *arguments],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, {one["what"]: one for one in json.loads(done.stdout)}


def verdicts(found: dict[str, Any]) -> dict[str, str]:
    return {what: one["verdict"] for what, one in found.items()}


def test_everything_is_there(apiserver: ApiServer, etcd: Etcd) -> None:
    before = etcd.revision()
    code, found = check("--kubeconfig", str(apiserver.kubeconfig()), "--etcd-server", etcd.url)
    assert (code, set(verdicts(found).values())) == (0, {"ok"}), found
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


def test_an_optional_kind_that_is_not_installed_is_no_fault(apiserver: ApiServer, etcd: Etcd) -> None:
    both = ("--kubeconfig", str(apiserver.kubeconfig()), "--etcd-server", etcd.url)
    code, found = check("--vm-domain", "example.test", *both)
    assert code == 0
    assert found["virtualmachineinstances.kubevirt.io"]["verdict"] == "note"


def test_keys_that_are_not_ours_are_named(apiserver: ApiServer, etcd: Etcd) -> None:
    etcd.put("/skydns/local/cluster/svc/default/theirs", '{"host":"192.0.2.2"}')
    etcd.put("/skydns/local/cluster/svc/default/broken", "{")
    etcd.put("/skydns/test/elsewhere", "{")
    code, found = check("--kubeconfig", str(apiserver.kubeconfig()), "--etcd-server", etcd.url)
    assert code == 0
    assert found["foreign keys"]["text"].startswith("/skydns/local/cluster/svc/default/theirs:")
    assert found["malformed keys"]["text"].startswith("/skydns/local/cluster/svc/default/broken:")


def test_no_neighbour_at_all() -> None:
    api, etcd = free_port(), free_port()
    code, found = check(
        "--kube-master-url", f"http://127.0.0.1:{api}", "--etcd-server", f"http://127.0.0.1:{etcd}"
    )
    assert code == 1
    assert found["services"]["verdict"] == "fault"
    assert str(api) in found["services"]["text"]
    assert found[f"etcd http://127.0.0.1:{etcd}"]["verdict"] == "fault"
    assert "etcd rights" not in found


def test_rights_on_other_keys_only(apiserver: ApiServer, etcd: Etcd) -> None:
    for words in (
        ("role", "add", "reader"),
        ("role", "grant-permission", "reader", "read", "--prefix=true", "/skydns/"),
        ("user", "add", "root:root"),
        ("user", "grant-role", "root", "root"),
        ("user", "add", "dns:secret"),
        ("user", "grant-role", "dns", "reader"),
        ("auth", "enable"),
    ):
        etcd.ctl(*words)
    password = etcd.directory / "password"
    password.write_text("secret")
    code, found = check(
        *("--kubeconfig", str(apiserver.kubeconfig()), "--etcd-server", etcd.url),
        *("--etcd-user", "dns", "--etcd-password-file", str(password)),
    )
    assert code == 1
    assert found["etcd rights"]["verdict"] == "fault"
    assert "permission denied" in found["etcd rights"]["text"]
