"""The pods of addons/dns and addons/vm: startup order, probes, rights, restarts, Service address."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.addons.manifests import VALUES, filled, of_kind, pods
from tests.addons.test_monitoring import metrics_used
from tests.stack import addon, objects
from tests.stack.addon import (
    ADDRESS,
    DOMAIN,
    KUBERNETES,
    RC,
    SVC,
    Cluster,
    ask,
    assert_answers,
    wait_for_answer,
)
from tests.stack.harness import Binaries, Process, http, wait_for
from tests.stack.node import API_ADDRESS
from tests.stack.objects import api_object, nic, service, vmi, vmi_crd
from tests.stack.pod import Container, Pod
from tests.stack.process import run_command

ORDER = ["etcd", "kube2etcd", "coredns"]


@pytest.fixture(scope="module")
def cluster(binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with addon.running(tmp_path_factory.mktemp("node"), binaries) as made:
        made.apply([*filled(RC), *filled(SVC)])
        yield made


@pytest.fixture
def pod(cluster: Cluster) -> Iterator[Pod]:
    """A ready pod, with probes ten times as frequent as in the manifest."""
    one = cluster.dns_pod(speedup=10)
    try:
        one.wait_ready()
        yield one
    finally:
        cluster.remove_pod(one)


QUESTIONS = [
    (KUBERNETES, "A", [API_ADDRESS]),
    (f"kube-dns.kube-system.svc.{DOMAIN}", "A", [ADDRESS]),
    (f"_dns._udp.kube-dns.kube-system.svc.{DOMAIN}", "SRV", [f"0 100 53 kube-dns.kube-system.svc.{DOMAIN}."]),
    (f"_https._tcp.{KUBERNETES}", "SRV", [f"0 100 443 {KUBERNETES}."]),
    ("1.0.0.10.in-addr.arpa", "PTR", [f"{KUBERNETES}."]),
    ("10.0.0.10.in-addr.arpa", "PTR", [f"kube-dns.kube-system.svc.{DOMAIN}."]),
    (f"10-244-0-2.default.pod.{DOMAIN}", "A", ["10.244.0.2"]),
    (f"nobody.default.svc.{DOMAIN}", "A", ["NXDOMAIN"]),
    (f"default.svc.{DOMAIN}", "A", ["NODATA"]),
    ("www.example.com", "A", ["192.0.2.80"]),
]


def test_two_pods_serve_behind_the_service(cluster: Cluster) -> None:
    dns_pods = [cluster.dns_pod() for _ in range(int(VALUES["DNS_REPLICAS"]))]
    assert len(dns_pods) == 2
    labels = filled(SVC)[0]["spec"]["selector"]
    assert labels.items() <= dns_pods[0].labels.items(), "the Service selects its pods"
    try:
        for one in dns_pods:
            one.wait_ready()
            assert [event for event in one.events if event.endswith(("started", "up"))] == [
                f"{name} {what}" for name in ORDER for what in ("started", "has come up")
            ]
        assert_answers(QUESTIONS, *(one.network.address for one in dns_pods), ADDRESS)
        explained = exec_kube2etcd(dns_pods[0], "explain", KUBERNETES, "A")
        assert (explained.returncode, explained.stderr) == (0, "")
        assert "comes from services/default/kubernetes" in explained.stdout
        listed = exec_kube2etcd(
            dns_pods[0], "records", "--object", "service/default/kubernetes", "--type", "A"
        )
        assert KUBERNETES in listed.stdout, listed.stderr
        cluster.api.apply(service("later", clusterIP="10.0.7.7"))
        for one in dns_pods:
            wait_for_answer(f"later.default.svc.{DOMAIN}", "10.0.7.7", at=one.network.address)
        # the Service outlives one of its pods
        cluster.remove_pod(dns_pods.pop(), gently=True)
        for _ in range(10):
            assert ask(KUBERNETES, at=ADDRESS) == [API_ADDRESS]
    finally:
        for one in dns_pods:
            cluster.remove_pod(one)


def exec_kube2etcd(pod: Pod, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Like `kubectl exec POD -c kube2etcd -- kube2etcd ARGUMENTS`."""
    process = Path("/proc", str(pod.containers["kube2etcd"].process.pid))
    line, environment = (
        (process / name).read_text().strip("\0").split("\0") for name in ("cmdline", "environ")
    )
    program = line[: line.index("run")]
    enter = ["nsenter", f"--target={process.name}", "--net", "--mount", "--root", "--wd=/"]
    return run_command(*enter, "/usr/bin/env", "-i", *environment, *program, *arguments)


@pytest.mark.parametrize("name", ORDER)
def test_killed_container_restarts_and_serves_later_changes(cluster: Cluster, pod: Pod, name: str) -> None:
    wait_for_answer(KUBERNETES, API_ADDRESS, at=ADDRESS)
    victim = pod.containers[name]
    victim.process.kill()
    wait_for(lambda: victim.restarts == 1, f"{name} to be started again", 20)
    pod.wait_ready(60)
    wait_for_answer(KUBERNETES, API_ADDRESS, at=ADDRESS)
    cluster.api.apply(service(f"after-{name}", clusterIP=f"10.0.8.{ORDER.index(name) + 1}"))
    wait_for_answer(f"after-{name}.default.svc.{DOMAIN}", f"10.0.8.{ORDER.index(name) + 1}", at=ADDRESS)
    assert pod.restarts() == {**dict.fromkeys(ORDER, 0), name: 1}, pod.events


def test_pod_refills_etcd_after_data_loss(cluster: Cluster, pod: Pod) -> None:
    wait_for_answer(KUBERNETES, API_ADDRESS, at=ADDRESS)
    etcd = pod.containers["etcd"]
    data = pod.directory / "volume-etcd-storage" / "data"
    etcd.process.pause()
    shutil.rmtree(data)
    etcd.process.kill()
    wait_for(lambda: not pod.ready, "the pod to be unready", 20)
    pod.wait_ready(60)
    assert data.exists()
    # names that CoreDNS's cache does not hold yet
    assert_answers(QUESTIONS[1:6], ADDRESS)
    assert pod.restarts() == {"etcd": 1, "kube2etcd": 0, "coredns": 0}


def test_config_map_change_applies_without_a_restart(cluster: Cluster) -> None:
    pod = cluster.dns_pod()
    pod.wait_ready()
    [config] = of_kind(filled(RC), "ConfigMap")
    settings = config["data"]["settings.yaml"]
    block = "own.test:53 {\n    hosts {\n        192.0.2.99 www.own.test\n    }\n}\n"
    custom = api_object("v1", "ConfigMap", "coredns-custom", "kube-system", data={"own.server": block})
    more = "dns_server_ip: [10.0.0.10]\ncorefile:\n  imports: /etc/coredns/custom/*.server\n"
    try:
        cluster.apply([custom, {**config, "data": {"settings.yaml": settings + more}}])
        pod.sync_config_maps()
        wait_for_answer("www.own.test", "192.0.2.99", at=pod.network.address)
        wait_for_answer(f"ns.dns.{DOMAIN}", ADDRESS, at=pod.network.address)
        assert not any(pod.restarts().values()), pod.events
        pod.wait_ready()
    finally:
        cluster.remove_pod(pod)
        cluster.apply([config])
        cluster.api.delete(custom)


def test_probes_pass_while_the_api_server_is_down(cluster: Cluster, pod: Pod) -> None:
    wait_for_answer(KUBERNETES, API_ADDRESS, at=ADDRESS)
    cluster.api.kill()
    try:
        probes = {
            (one.name, kind): probe
            for one in pod.containers.values()
            for kind, probe in one.probes.items()
            if kind != "startupProbe"
        }
        assert {kind for _, kind in probes} == {"readinessProbe", "livenessProbe"}
        # more than any failure threshold
        enough = {key: probe.attempts + 8 for key, probe in probes.items()}

        def probed() -> bool:
            return all(probe.attempts >= enough[key] for key, probe in probes.items())

        wait_for(probed, "eight more of each probe", 60)
        assert pod.ready
        assert not any(pod.restarts().values()), pod.events
        assert ask(KUBERNETES, at=ADDRESS) == [API_ADDRESS]
    finally:
        cluster.api.start()


def test_coredns_starts_only_once_the_bridge_is_ready(cluster: Cluster) -> None:
    one = cluster.dns_pod(speedup=10)
    cluster.api.pause()
    try:
        bridge, server = one.containers["kube2etcd"], one.containers["coredns"]
        wait_for(lambda: bridge.probes["startupProbe"].attempts >= 5, "five startup probes", 60)
        assert (bridge.started, bridge.restarts, server.starts, one.ready) == (False, 0, 0, False), one.events
        cluster.api.resume()
        one.wait_ready()
        assert one.events.index("kube2etcd has come up") < one.events.index("coredns started")
        assert ask(KUBERNETES, at=ADDRESS) == [API_ADDRESS]
    finally:
        cluster.api.resume()
        cluster.remove_pod(one)


def proc_status(process: Process) -> dict[str, str]:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def path_in(one: Container, path: str) -> Path:
    return Path(f"/proc/{one.process.pid}/root{path}")


def test_containers_run_unprivileged(pod: Pod) -> None:
    net_bind_service = 1 << 10
    for one in pod.containers.values():
        found = proc_status(one.process)
        assert set(found["Uid"].split()) | set(found["Gid"].split()) == {"65532"}, one.name
        assert found["NoNewPrivs"] == "1"
        assert int(found["CapEff"], 16) == 0
        assert int(found["CapBnd"], 16) == (net_bind_service if one.name == "coredns" else 0)
        root = next(
            line.split()
            for line in Path(f"/proc/{one.process.pid}/mountinfo").read_text().splitlines()
            if line.split()[4] == "/"
        )
        assert root[5].split(",")[0] == "ro"
        token = path_in(one, "/var/run/secrets/kubernetes.io/serviceaccount/token")
        assert token.exists() == (one.name == "kube2etcd")
        assert path_in(one, "/var/etcd/data").exists() == (one.name == "etcd")


def allowed(cluster: Cluster, verb: str, resource: str, group: str = "", namespace: str = "") -> bool:
    attributes = {"verb": verb, "resource": resource, "group": group, "namespace": namespace}
    of = "system:serviceaccounts"
    spec = {
        "user": "system:serviceaccount:kube-system:kube2etcd",
        "groups": [of, f"{of}:kube-system", "system:authenticated"],
        "resourceAttributes": attributes,
    }
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    answer = cluster.api.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return bool(answer.json()["status"]["allowed"])


def test_rbac_grants_only_list_and_watch(cluster: Cluster) -> None:
    read = {("services", ""), ("namespaces", ""), ("endpointslices", "discovery.k8s.io")}
    others = {(core, "") for core in ("pods", "secrets", "configmaps", "endpoints", "nodes")}
    others |= {("deployments", "apps"), ("leases", "coordination.k8s.io")}
    others |= {("virtualmachineinstances", "kubevirt.io"), ("*", "*")}
    verbs = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "*")
    found = {
        (verb, resource, group)
        for verb in verbs
        for resource, group in read | others
        for namespace in ("", "kube-system")
        if allowed(cluster, verb, resource, group, namespace)
    }
    assert found == {(verb, *kind) for verb in ("list", "watch") for kind in read}


METRICS = {"coredns_": 9153, "kube2etcd_": 8081, "process_": 8081, "etcd_": 2381}


def test_metrics_used_by_alerts_are_exported(pod: Pod) -> None:
    wait_for_answer(KUBERNETES, API_ADDRESS, at=ADDRESS)
    wait_for_answer(KUBERNETES, API_ADDRESS, at=ADDRESS)

    def served() -> bool:
        for prefix, port in METRICS.items():
            page = http("GET", f"http://{pod.network.address}:{port}/metrics").text.splitlines()
            found = {re.split(r"[{ ]", text, maxsplit=1)[0] for text in page if text[:1] != "#"}
            # labelled counters have no sample before their first event
            typed = [text.split()[2:4] for text in page if text.startswith("# TYPE ")]
            found |= {name for name, _ in typed}
            found |= {f"{name}_bucket" for name, kind in typed if kind == "histogram"}
            wanted = metrics_used(prefix)
            assert wanted
            assert wanted <= found, wanted - found
        return True

    wait_for(served, "the metrics", 20)


def test_pods_verified_needs_its_cluster_role(cluster: Cluster) -> None:
    role, [config] = filled("dns/pods-verified.yaml"), of_kind(addon.with_short_ttl(filled(RC)), "ConfigMap")
    settings = config["data"]["settings.yaml"]
    assert settings.count("# pods: verified") == 1
    verified = {"settings.yaml": settings.replace("# pods: verified", "pods: verified")}
    first, second = objects.pod("first", "10.244.1.1"), objects.pod("second", "10.244.1.2")
    cluster.apply(
        [{**config, "data": verified}, api_object("v1", "ServiceAccount", "default", "default"), first]
    )
    one = cluster.dns_pod(speedup=10)
    bridge, server = one.containers["kube2etcd"], one.containers["coredns"]
    try:
        # without the role it is not ready, and the log says what is missing
        wait_for(lambda: "403" in bridge.process.log_text(), "the reason", 30)
        assert (bridge.started, server.starts, one.ready) == (False, 0, False)
        assert "list pods" in bridge.process.log_text()
        cluster.apply(role)
        one.wait_ready()
        assert bridge.restarts == 0
        wait_for_answer(f"10-244-1-1.default.pod.{DOMAIN}", "10.244.1.1", at=ADDRESS)
        assert ask(f"10-244-1-9.default.pod.{DOMAIN}", at=ADDRESS) == ["NXDOMAIN"]
        cluster.apply([second])
        wait_for_answer(f"10-244-1-2.default.pod.{DOMAIN}", "10.244.1.2", at=ADDRESS)
        cluster.api.delete(first)
        wait_for_answer(f"10-244-1-1.default.pod.{DOMAIN}", "NXDOMAIN", at=ADDRESS)
    finally:
        cluster.remove_pod(one)
        cluster.apply(of_kind(filled(RC), "ConfigMap"))
        cluster.api.delete_all([*role, first, second])


def test_vm_pod_answers_only_the_vm_zone(cluster: Cluster) -> None:
    manifest, zone, address = filled("vm/vm-dns.yaml.in"), f"vm.{VALUES['DOMAIN']}", VALUES["NAME_SERVER_IP"]
    cluster.apply([vmi_crd(), *manifest, vmi("default", "vmi-sec", nic("nic1", "10.10.0.5"))])
    one = cluster.pod(next(pods(manifest)), "vm-dns", address)
    table = [
        (f"nic1.vmi-sec.default.{zone}", "A", ["10.10.0.5"]),
        (f"vmi-sec.default.{zone}", "A", ["10.10.0.5"]),
        (f"default.vmi-sec.default.{zone}", "A", ["NXDOMAIN"]),
        (f"ns.{zone}", "A", [address]),
        (zone, "NS", [f"ns.{zone}."]),
        # nor the cluster's names
        ("kubernetes.default.svc.cluster.local", "A", ["REFUSED"]),
        ("1.0.0.10.in-addr.arpa", "PTR", ["REFUSED"]),
        ("www.example.com", "A", ["REFUSED"]),
    ]
    try:
        one.wait_ready()
        assert_answers(table, address, port=5353)
        # which are served on loopback only
        for at in (address, one.network.address):
            with pytest.raises(OSError, match="refused"):
                ask("kubernetes.default.svc.cluster.local", at=at, port=1053, tcp=True)
        cluster.api.apply(vmi("default", "vmi-late", nic("nic1", "10.10.0.6")))
        wait_for_answer(f"vmi-late.default.{zone}", "10.10.0.6", at=address, port=5353)
    finally:
        cluster.remove_pod(one)
