"""The harness itself: each real server starts, works, is killed, paused, restarted and wiped."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dns.rcode
import pytest
import requests

from tests.stack.build import Builds
from tests.stack.build import Server as GoServer
from tests.stack.build import binaries as build_binaries
from tests.stack.harness import (
    SLOW,
    ApiServer,
    Authority,
    BuildError,
    CoreDns,
    Etcd,
    EtcdCluster,
    EtcdTls,
    KubeError,
    NotInTimeError,
    Object,
    Process,
    free_port,
    wait_for,
)

COREFILE = """
.:{port} {
    bind 127.0.0.1
    errors
    etcd cluster.test {
        path /skydns
        endpoint ETCD
    }
    template IN A fixed.test {
        answer "{{ .Name }} 5 IN A 192.0.2.7"
    }
}
"""


def service(name: str, namespace: str = "default", **spec: object) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"ports": [{"name": "http", "port": 80}], **spec},
    }


def namespace(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def pod(name: str, ip: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": "node-1", "containers": [{"name": "c", "image": "none"}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]},
    }


def endpoint_slice(name: str, owner: str, *addresses: str) -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": owner},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address]} for address in addresses],
        "ports": [{"name": "http", "port": 8080}],
    }


WIDGETS: Object = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.example.test"},
    "spec": {
        "group": "example.test",
        "scope": "Namespaced",
        "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
                },
            }
        ],
    },
}


class TestProcess:
    def test_life(self, tmp_path: Path) -> None:
        process = Process("sleeper", ["sh", "-c", "echo hello; exec sleep 60"], tmp_path)
        assert process.exit_code is None
        process.start()
        wait_for(lambda: "hello" in process.log_tail(), "the first line", 5, process)
        process.pause()
        assert process.alive
        process.resume()
        first = process.pid
        process.restart()
        assert process.pid != first
        wait_for(lambda: process.log_tail().count("hello") == 2, "the second line", 5, process)
        assert process.stop() == -signal.SIGTERM
        process.start()
        process.kill()
        assert process.exit_code == -signal.SIGKILL

    def test_a_paused_process_can_be_stopped(self, tmp_path: Path) -> None:
        process = Process("sleeper", ["sleep", "60"], tmp_path)
        process.start()
        process.pause()
        assert process.stop() == -signal.SIGTERM

    def test_a_deaf_process_is_killed_at_the_deadline(self, tmp_path: Path) -> None:
        process = Process(
            "deaf", ["sh", "-c", "trap '' TERM; echo on; while :; do sleep 0.1; done"], tmp_path
        )
        process.start()
        wait_for(lambda: "on" in process.log_tail(), "the trap", 5, process)
        assert process.stop(deadline_s=0.3) == -signal.SIGKILL

    def test_waiting_tells_what_and_shows_the_log(self, tmp_path: Path) -> None:
        process = Process("broken", ["sh", "-c", "echo no such luck; exit 3"], tmp_path)
        process.start()
        with pytest.raises(NotInTimeError, match=r"(?s)waited for luck: broken exited with 3.*no such luck"):
            wait_for(lambda: False, "luck", 20, process)
        with pytest.raises(NotInTimeError, match="waited for nothing: not within"):
            wait_for(lambda: None, "nothing", 0.05)

    def test_children_die_with_a_killed_parent(self, tmp_path: Path) -> None:
        script = (
            "import sys; from pathlib import Path; from tests.stack.process import Process\n"
            f"p = Process('child', ['sleep', '60'], Path({str(tmp_path)!r})); p.start()\n"
            "import time\n"
            "while open(f'/proc/{p.pid}/comm').read() != 'sleep\\n': time.sleep(0.01)\n"
            "print(p.pid, flush=True); sys.stdin.read()"
        )
        root = Path(__file__).resolve().parents[2]
        with subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root
        ) as parent:
            assert parent.stdout is not None
            child = int(parent.stdout.readline())
            parent.kill()
        wait_for(lambda: not _runs(child), "the child to die", 5)

    def test_ports_differ(self) -> None:
        ports = [free_port() for _ in range(50)]
        assert len(set(ports)) == 50


def _runs(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


class TestBuild:
    def test_all_programs_are_there(self, binaries: dict[str, Path]) -> None:
        assert {"coredns", "kube-apiserver", "etcd", "etcdctl"} <= set(binaries)
        assert all(os.access(path, os.X_OK) for path in binaries.values())

    def test_an_unknown_server_is_named(self) -> None:
        with pytest.raises(BuildError, match="no such server: bind9; there are etcd"):
            build_binaries(names=["bind9"])

    def test_a_failed_build_says_why(
        self, binaries: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tests.stack.build.HERE", tmp_path)
        monkeypatch.setattr("tests.stack.build.cache_dir", lambda: tmp_path / "cache")
        module = tmp_path / "broken"
        module.mkdir()
        (module / "go.mod").write_text("module broken.test\n\ngo 1.26.0\n")
        (module / "go.sum").write_text("")
        (module / "main.go").write_text("package main\n\nfunc main() { nonsense() }\n")
        told: list[str] = []
        broken = GoServer("broken", {"broken": "broken.test"}, 1)
        with pytest.raises(BuildError, match=r"(?s)undefined: nonsense.*What to try"):
            Builds([broken], told.append).run()
        assert broken.built() is None
        (module / "main.go").write_text("package main\n\nfunc main() {}\n")
        other = GoServer("other", {"other": "."}, 2)
        shutil.copytree(module, tmp_path / "other")
        Builds([broken, other], told.append).run()
        assert list(broken.built() or {}) == ["broken"]
        assert list(other.built() or {}) == ["other"]
        ended = {line.partition(" after")[0] for line in told if line.startswith("built ")}
        assert ended == {"built broken", "built other"}


class TestEtcd:
    def test_keeps_its_data_until_wiped(self, etcd: Etcd) -> None:
        etcd.put("/a/1", "one")
        etcd.put("/a/2", "two")
        assert etcd.dump("/a/") == {"/a/1": "one", "/a/2": "two"}
        etcd.kill()
        etcd.start()
        assert etcd.dump() == {"/a/1": "one", "/a/2": "two"}
        before = etcd.revision()
        etcd.delete("/a/1")
        assert etcd.revision() == before + 1
        etcd.restart()
        assert etcd.dump() == {"/a/2": "two"}
        url = etcd.url
        etcd.wipe()
        assert etcd.url == url
        assert etcd.dump() == {}
        assert etcd.revision() == 1

    def test_pause(self, etcd: Etcd) -> None:
        etcd.pause()
        with pytest.raises(requests.Timeout):
            requests.get(f"{etcd.url}/health", timeout=0.3)
        etcd.resume()
        etcd.wait_up()

    def test_users(self, etcd: Etcd) -> None:
        etcd.enable_auth("bridge", "pass word")
        etcd.put("/a", "one")
        etcd.user = None
        with pytest.raises(RuntimeError, match="user name is empty"):
            etcd.put("/a", "two")

    def test_tls(self, binaries: dict[str, Path], tmp_path: Path) -> None:
        authority = Authority(tmp_path / "pki")
        tls = EtcdTls(authority.issue("server"), authority.ca_file, authority.issue("client"))
        etcd = Etcd(tmp_path / "etcd", binaries, tls=tls)
        etcd.start()
        try:
            etcd.put("/a", "one")
            assert etcd.dump() == {"/a": "one"}
            with pytest.raises(requests.ConnectionError):
                requests.get(f"{etcd.url}/health", timeout=5, verify=str(authority.ca_file))
        finally:
            etcd.kill()

    def test_cluster_survives_its_leader(self, binaries: dict[str, Path], tmp_path: Path) -> None:
        cluster = EtcdCluster(tmp_path, binaries)
        cluster.start()
        try:
            leader = cluster.leader()
            leader.put("/a", "one")
            leader.kill()
            other = cluster.leader()
            assert other is not leader
            assert other.dump() == {"/a": "one"}
            leader.start()
            assert leader.dump() == {"/a": "one"}
        finally:
            cluster.stop()


class TestApiServer:
    def test_objects_of_all_kinds(self, apiserver: ApiServer) -> None:
        apiserver.apply_all(
            [
                pod("web-0", "10.1.0.5"),
                endpoint_slice("web-abc", "web", "10.1.0.5", "10.1.0.6"),
                service("web"),
                service("web", "shop", clusterIP="None"),
                {
                    "apiVersion": "example.test/v1",
                    "kind": "Widget",
                    "metadata": {"name": "w"},
                    "color": "red",
                },
                namespace("shop"),
                WIDGETS,
            ]
        )
        assert apiserver.get("v1", "Service", "web")["spec"]["clusterIP"].startswith("10.0.")
        assert apiserver.get("v1", "Service", "web", "shop")["spec"]["clusterIP"] == "None"
        assert apiserver.get("v1", "Pod", "web-0")["status"]["podIP"] == "10.1.0.5"
        assert apiserver.get("example.test/v1", "Widget", "w")["color"] == "red"
        names = [item["metadata"]["name"] for item in apiserver.list("discovery.k8s.io/v1", "EndpointSlice")]
        assert "web-abc" in names

        before = apiserver.get("v1", "Service", "web")
        apiserver.apply(service("web", ports=[{"name": "dns", "port": 53, "protocol": "UDP"}]))
        after = apiserver.get("v1", "Service", "web")
        assert after["spec"]["ports"][0]["name"] == "dns"
        assert after["spec"]["clusterIP"] == before["spec"]["clusterIP"]

        apiserver.delete(service("web"))
        apiserver.delete(service("web"))
        with pytest.raises(KubeError) as refused:
            apiserver.get("v1", "Service", "web")
        assert refused.value.status == 404
        with pytest.raises(KubeError, match="Invalid value"):
            apiserver.apply(service("UPPER"))

    def test_dual_stack_and_load_balancer(self, apiserver: ApiServer) -> None:
        both = service("both", ipFamilyPolicy="RequireDualStack", type="LoadBalancer")
        both["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}}
        applied = apiserver.apply(both)
        assert len(applied["spec"]["clusterIPs"]) == 2
        assert applied["status"]["loadBalancer"]["ingress"][0]["ip"] == "192.0.2.9"

    def test_reset_leaves_nothing(self, apiserver: ApiServer) -> None:
        fresh = _names(apiserver)
        apiserver.apply_all([WIDGETS, namespace("shop"), namespace("bar")])
        apiserver.apply_all(service(f"s{i}", ("shop", "bar", "default")[i % 3]) for i in range(60))
        apiserver.apply({"apiVersion": "example.test/v1", "kind": "Widget", "metadata": {"name": "w"}})
        apiserver.delete_namespace("bar")
        assert _names(apiserver) != fresh
        apiserver.reset()
        assert _names(apiserver) == fresh
        with pytest.raises(NotInTimeError, match="kind Widget"):
            apiserver.resource("example.test/v1", "Widget", deadline_s=0.1)

    def test_who_may_come_in(self, apiserver: ApiServer) -> None:
        url, ca = apiserver.url + "/api/v1/services", str(apiserver.ca_file)
        assert (
            requests.get(url, verify=ca, timeout=5, headers={"Authorization": "Bearer x"}).status_code == 401
        )
        pair = apiserver.client_certificate("jane")
        files = (str(pair.cert_file), str(pair.key_file))
        assert requests.get(url, verify=ca, cert=files, timeout=5).status_code == 200
        assert "client-jane.crt" in apiserver.kubeconfig(certificate=pair, name="jane").read_text()
        assert apiserver.token in apiserver.kubeconfig().read_text()

    def test_killed_and_paused(self, apiserver: ApiServer) -> None:
        apiserver.apply(service("web"))
        apiserver.kill()
        with pytest.raises(requests.ConnectionError):
            apiserver.get("v1", "Service", "web")
        apiserver.start()
        assert apiserver.get("v1", "Service", "web")["metadata"]["name"] == "web"
        apiserver.pause()
        with pytest.raises(requests.Timeout):
            requests.get(f"{apiserver.url}/livez", verify=str(apiserver.ca_file), timeout=0.3)
        apiserver.resume()
        apiserver.wait_up()

    def test_rbac(self, binaries: dict[str, Path], etcd: Etcd, tmp_path: Path) -> None:
        server = ApiServer(
            tmp_path / "rbac",
            binaries,
            etcd.url,
            authorization_mode="RBAC",
            users={"weak": ("joe", ["staff"])},
        )
        server.start()
        try:
            headers, ca = {"Authorization": "Bearer weak"}, str(server.ca_file)
            url = f"{server.url}/api/v1/services"
            assert requests.get(url, headers=headers, verify=ca, timeout=5).status_code == 403
            assert server.list("v1", "Service")
        finally:
            server.close()
            server.kill()


def _names(apiserver: ApiServer) -> set[tuple[str, str, str]]:
    kinds = [("v1", "Service"), ("discovery.k8s.io/v1", "EndpointSlice"), ("v1", "Pod"), ("v1", "Namespace")]
    kinds.append(("apiextensions.k8s.io/v1", "CustomResourceDefinition"))
    return {
        (kind, item["metadata"].get("namespace", ""), item["metadata"]["name"])
        for api_version, kind in kinds
        for item in apiserver.list(api_version, kind)
    }


class TestCoreDns:
    @pytest.fixture
    def coredns(self, binaries: dict[str, Path], etcd: Etcd, tmp_path: Path) -> Iterator[CoreDns]:
        server = CoreDns(tmp_path / "coredns", binaries, COREFILE.replace("ETCD", etcd.url))
        server.start()
        yield server
        server.kill()

    def test_answers_from_etcd(self, coredns: CoreDns, etcd: Etcd) -> None:
        etcd.put("/skydns/test/cluster/web/a", '{"host":"192.0.2.1","ttl":5}')
        etcd.put("/skydns/test/cluster/web/b", '{"host":"192.0.2.2","ttl":5}')
        assert coredns.addresses("web.cluster.test.") == ["192.0.2.1", "192.0.2.2"]
        assert len(coredns.ask("web.cluster.test.", "SRV", tcp=True).answer[0]) == 2
        assert coredns.ask("no.cluster.test.").rcode() == dns.rcode.NXDOMAIN
        etcd.wipe()
        wait_for(
            lambda: coredns.ask("web.cluster.test.").rcode() == dns.rcode.NXDOMAIN, "the wiped answer", 20
        )

    def test_killed_paused_and_reloaded(self, coredns: CoreDns) -> None:
        assert coredns.addresses("x.fixed.test.") == ["192.0.2.7"]
        coredns.kill()
        with pytest.raises(OSError, match="refused"):
            coredns.ask("x.fixed.test.", tcp=True)
        coredns.start()
        assert coredns.addresses("x.fixed.test.") == ["192.0.2.7"]
        coredns.pause()
        began = time.monotonic()
        assert not coredns.is_up()
        assert time.monotonic() - began < 2 * SLOW
        coredns.resume()
        coredns.wait_up()
        coredns.reload(COREFILE.replace("ETCD", "http://127.0.0.1:1").replace("192.0.2.7", "192.0.2.8"))
        # The former instance may still take a question while it lets go of the port.
        wait_for(lambda: coredns.addresses("x.fixed.test.") == ["192.0.2.8"], "the new answer", 10)

    def test_a_wrong_corefile_is_shown(self, binaries: dict[str, Path], tmp_path: Path) -> None:
        server = CoreDns(tmp_path, binaries, ".:{port} {\n    nonsense\n}\n")
        with pytest.raises(NotInTimeError, match="Unknown directive 'nonsense'"):
            server.start()
