"""The harness itself: children die with their parent, build errors are shown, a reset is complete."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stack.apiserver import CRD
from tests.stack.build import HERE, build_all
from tests.stack.build import Server as GoServer
from tests.stack.harness import ApiServer, BuildError, DeadlineError, Process, wait_for
from tests.stack.objects import dns_endpoint, dns_endpoint_crd, identity, namespace, service


def test_wait_for_error_shows_the_log(tmp_path: Path) -> None:
    process = Process("broken", ["sh", "-c", "echo no such luck; exit 3"], tmp_path)
    process.start()
    with pytest.raises(DeadlineError, match=r"(?s)waited for luck: broken exited with 3.*no such luck"):
        wait_for(lambda: False, "luck", 20, process)


def test_children_die_with_a_killed_parent(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.stack.process import Process, wait_for\n"
        f"p = Process('child', ['sleep', '60'], Path({str(tmp_path)!r})); p.start()\n"
        "comm = Path(f'/proc/{p.pid}/comm'); wait_for(lambda: comm.read_text() == 'sleep\\n', 'exec')\n"
        "print(p.pid, flush=True); sys.stdin.read()"
    )
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root
    ) as parent:
        assert parent.stdout is not None
        child = Path(f"/proc/{int(parent.stdout.readline())}/stat")
        parent.kill()
    wait_for(lambda: not child.exists() or ") Z " in child.read_text(), "the child to die", 5)


@pytest.mark.usefixtures("binaries")
def test_failed_build_shows_the_compiler_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.stack.build.HERE", tmp_path)
    monkeypatch.setattr("tests.stack.build.cache_dir", lambda: tmp_path / "cache")
    module = tmp_path / "broken"
    module.mkdir()
    (module / "go.mod").write_text("module broken.test\n\ngo 1.26.0\n")
    (module / "go.sum").write_text("")
    (module / "main.go").write_text("package main\n\nfunc main() { nonsense() }\n")
    reported: list[str] = []
    broken = GoServer("broken", {"broken": "broken.test"})
    with pytest.raises(BuildError, match=r"(?s)undefined: nonsense.*What to try"):
        build_all([broken], reported.append)
    assert broken.built() is None
    (module / "main.go").write_text("package main\n\nfunc main() {}\n")
    other = GoServer("other", {"other": "."})
    shutil.copytree(module, tmp_path / "other")
    build_all([broken, other], reported.append)
    assert (list(broken.built() or {}), list(other.built() or {})) == (["broken"], ["other"])


@pytest.mark.parametrize("name", ["coredns", "etcd", "externaldns", "helm", "promtool"])
def test_servers_use_common_module_versions(name: str) -> None:
    """Go compiles another version again, with everything that imports it."""
    first, other = versions("apiserver"), versions(name)
    large = {f"k8s.io/{part}" for part in ("api", "apimachinery", "client-go")}
    large |= {"golang.org/x/net", "google.golang.org/protobuf"}
    common = large & first.keys() & other.keys()
    assert "golang.org/x/net" in common
    differ = {module: (first[module], other[module]) for module in common if first[module] != other[module]}
    assert differ == {}, f"in servers/{name}: go get MODULE@VERSION, or replace if it must be lower"


def versions(name: str) -> dict[str, str]:
    """The modules in a server's go.mod, and their versions."""
    text = (HERE / name / "go.mod").read_text()
    required = re.findall(r"^\t(\S+) (v\S+)", text, re.MULTILINE)
    return dict(required) | dict(re.findall(r"(\S+) => \S+ (v\S+)", text))


def test_api_server_reset_restores_the_initial_objects(apiserver: ApiServer) -> None:
    kinds = [("v1", "Service"), ("v1", "Pod"), ("v1", "Namespace"), ("discovery.k8s.io/v1", "EndpointSlice")]
    kinds.append(CRD)

    def names() -> set[tuple[str, str, str]]:
        return {identity(one) for kind in kinds for one in apiserver.list(*kind)}

    fresh = names()
    apiserver.apply_all([dns_endpoint_crd(), namespace("shop"), namespace("bar")])
    apiserver.apply_all(service(f"s{i}", ("shop", "bar", "default")[i % 3]) for i in range(60))
    apiserver.apply(dns_endpoint("one"))
    apiserver.delete_namespace("bar")
    assert names() != fresh
    apiserver.reset()
    assert names() == fresh
    with pytest.raises(DeadlineError, match="kind DNSEndpoint"):
        apiserver.resource("externaldns.k8s.io/v1alpha1", "DNSEndpoint", deadline_s=0.1)
