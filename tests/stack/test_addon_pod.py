"""The pod of addons/dns: startup order, probes, privileges, restarts, the Service's address."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.addons.manifests import VALUES, Object, filled, of_kind, pods
from tests.addons.test_monitoring import named
from tests.stack import addon
from tests.stack.addon import ADDRESS, DOMAIN, KUBERNETES, RC, SVC, Cluster, answers, ask, expect
from tests.stack.harness import Binaries, Process, http, wait_for
from tests.stack.node import API_ADDRESS
from tests.stack.objects import an_object, service
from tests.stack.pod import Container, Pod
from tests.stack.process import finished

ORDER = ["etcd", "kube2etcd", "coredns"]


@pytest.fixture(scope="module")
def cluster(binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with addon.running(tmp_path_factory.mktemp("node"), binaries) as made:
        made.apply([*filled(RC), *filled(SVC)])
        yield made


def one_more(cluster: Cluster, hurry: float = 1.0) -> Pod:
    template = next(pods(filled(RC)))
    labels = filled(SVC)[0]["spec"]["selector"]
    assert labels.items() <= template["metadata"]["labels"].items(), "the Service finds its pods"
    return cluster.pod(template, "kube-system", ADDRESS, hurry)


@pytest.fixture
def pod(cluster: Cluster) -> Iterator[Pod]:
    """One pod that is ready, its probes asked ten times as often as the manifest says."""
    one = one_more(cluster, hurry=10)
    try:
        one.wait_ready()
        yield one
    finally:
        cluster.end(one)


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


def test_two_pods_behind_the_service(cluster: Cluster) -> None:
    two = [one_more(cluster) for _ in range(int(VALUES["DNS_REPLICAS"]))]
    assert len(two) == 2
    try:
        for one in two:
            one.wait_ready()
            assert [event for event in one.events if event.endswith(("started", "up"))] == [
                f"{name} {what}" for name in ORDER for what in ("started", "has come up")
            ]
        # etcd is each pod's own, and what is answered the same: asked at each pod, and at the Service
        answers(QUESTIONS, *(one.network.address for one in two), ADDRESS)
        # as kubectl exec does: the pod's settings hold, and the bridge itself is asked
        explained = execute(two[0], "explain", KUBERNETES, "A")
        assert (explained.returncode, explained.stderr) == (0, "")
        assert "comes from services/default/kubernetes" in explained.stdout
        listed = execute(two[0], "records", "--object", "service/default/kubernetes", "--type", "A")
        assert KUBERNETES in listed.stdout, listed.stderr
        cluster.api.apply(service("later", clusterIP="10.0.7.7"))
        for one in two:
            expect(f"later.default.svc.{DOMAIN}", "10.0.7.7", at=one.network.address)
        # one pod goes, the address stays
        cluster.end(two.pop(), gently=True)
        for _ in range(10):
            assert ask(KUBERNETES, at=ADDRESS) == [API_ADDRESS]
    finally:
        for one in two:
            cluster.end(one)


def execute(pod: Pod, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of kube2etcd in its container: `kubectl exec POD -c kube2etcd -- kube2etcd WORDS`."""
    process = Path("/proc", str(pod.containers["kube2etcd"].process.pid))
    line, environment = (
        (process / name).read_text().strip("\0").split("\0") for name in ("cmdline", "environ")
    )
    program = line[: line.index("run")]
    enter = ["nsenter", f"--target={process.name}", "--net", "--mount", "--root", "--wd=/"]
    return finished(*enter, "/usr/bin/env", "-i", *environment, *program, *words)


@pytest.mark.parametrize("name", ORDER)
def test_a_killed_container_is_restarted(cluster: Cluster, pod: Pod, name: str) -> None:
    expect(KUBERNETES, API_ADDRESS, at=ADDRESS)
    victim = pod.containers[name]
    victim.process.kill()
    wait_for(lambda: victim.restarts == 1, f"{name} to be started again", 20)
    pod.wait_ready(60)
    expect(KUBERNETES, API_ADDRESS, at=ADDRESS)
    # and what happens from now on is answered too
    cluster.api.apply(service(f"after-{name}", clusterIP=f"10.0.8.{ORDER.index(name) + 1}"))
    expect(f"after-{name}.default.svc.{DOMAIN}", f"10.0.8.{ORDER.index(name) + 1}", at=ADDRESS)
    assert pod.restarts() == {**dict.fromkeys(ORDER, 0), name: 1}, pod.events


def test_lost_etcd_data_is_refilled(cluster: Cluster, pod: Pod) -> None:
    expect(KUBERNETES, API_ADDRESS, at=ADDRESS)
    etcd = pod.containers["etcd"]
    data = pod.directory / "volume-etcd-storage" / "data"
    etcd.process.pause()
    shutil.rmtree(data)
    etcd.process.kill()
    wait_for(lambda: not pod.ready, "the pod to be unready", 20)
    pod.wait_ready(60)
    assert data.exists()
    # asked without CoreDNS's cache: names that were not asked before
    answers(QUESTIONS[1:6], ADDRESS)
    assert pod.restarts() == {"etcd": 1, "kube2etcd": 0, "coredns": 0}


def test_a_changed_setting_needs_nothing_else(cluster: Cluster) -> None:
    pod = one_more(cluster)
    pod.wait_ready()
    [config] = of_kind(filled(RC), "ConfigMap")
    settings = config["data"]["settings.yaml"]
    block = "own.test:53 {\n    hosts {\n        192.0.2.99 www.own.test\n    }\n}\n"
    custom = an_object("v1", "ConfigMap", "coredns-custom", "kube-system", data={"own.server": block})
    more = "dns_server_ip: [10.0.0.10]\ncorefile:\n  imports: /etc/coredns/custom/*.server\n"
    try:
        cluster.apply([custom, {**config, "data": {"settings.yaml": settings + more}}])
        pod.sync_config_maps()
        expect("www.own.test", "192.0.2.99", at=pod.network.address)
        expect(f"ns.dns.{DOMAIN}", ADDRESS, at=pod.network.address)
        assert not any(pod.restarts().values()), pod.events
        pod.wait_ready()
    finally:
        cluster.end(pod)
        cluster.apply([config])
        cluster.api.delete(custom)


def asked(pod: Pod) -> dict[tuple[str, str], int]:
    return {
        (one.name, kind): probe.asked for one in pod.containers.values() for kind, probe in one.probes.items()
    }


def test_no_probe_depends_on_the_api_server(cluster: Cluster, pod: Pod) -> None:
    expect(KUBERNETES, API_ADDRESS, at=ADDRESS)
    cluster.api.kill()
    try:
        before = asked(pod)
        lasting = [key for key in before if key[1] != "startupProbe"]
        assert {kind for _, kind in lasting} == {"readinessProbe", "livenessProbe"}

        def often() -> bool:
            now = asked(pod)
            # more often than any of them may fail
            return all(now[key] >= before[key] + 8 for key in lasting)

        wait_for(often, "the probes to be asked eight times", 60)
        assert pod.ready
        assert not any(pod.restarts().values()), pod.events
        assert ask(KUBERNETES, at=ADDRESS) == [API_ADDRESS]
    finally:
        cluster.api.start()


def test_coredns_waits_until_the_bridge_is_ready(cluster: Cluster) -> None:
    one = one_more(cluster, hurry=10)
    cluster.api.pause()
    resumed = False
    try:
        bridge, server = one.containers["kube2etcd"], one.containers["coredns"]
        wait_for(lambda: bridge.probes["startupProbe"].asked >= 5, "the bridge to be asked five times", 60)
        assert (bridge.started, bridge.restarts, server.starts, one.ready) == (False, 0, 0, False), one.events
        cluster.api.resume()
        resumed = True
        one.wait_ready()
        assert one.events.index("kube2etcd has come up") < one.events.index("coredns started")
        assert ask(KUBERNETES, at=ADDRESS) == [API_ADDRESS]
    finally:
        if not resumed:
            cluster.api.resume()
        cluster.end(one)


def status(process: Process) -> dict[str, str]:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def rooted(one: Container, path: str) -> Path:
    return Path(f"/proc/{one.process.pid}/root{path}")


def test_containers_run_without_rights(pod: Pod) -> None:
    net_bind_service = 1 << 10
    for one in pod.containers.values():
        found = status(one.process)
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
        token = rooted(one, "/var/run/secrets/kubernetes.io/serviceaccount/token")
        assert token.exists() == (one.name == "kube2etcd")
        assert rooted(one, "/var/etcd/data").exists() == (one.name == "etcd")


def allowed(cluster: Cluster, verb: str, resource: str, group: str = "", namespace: str = "") -> bool:
    attributes = {"verb": verb, "resource": resource, "group": group, "namespace": namespace}
    review: Object = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": "system:serviceaccount:kube-system:kube2etcd",
            "groups": [
                "system:serviceaccounts",
                "system:serviceaccounts:kube-system",
                "system:authenticated",
            ],
            "resourceAttributes": attributes,
        },
    }
    answer = cluster.api.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return bool(answer.json()["status"]["allowed"])


def test_rbac_grants_nothing_else(cluster: Cluster) -> None:
    read = {("services", ""), ("namespaces", ""), ("endpointslices", "discovery.k8s.io")}
    others = {
        ("pods", ""),
        ("secrets", ""),
        ("configmaps", ""),
        ("endpoints", ""),
        ("nodes", ""),
        ("deployments", "apps"),
        ("leases", "coordination.k8s.io"),
        ("virtualmachineinstances", "kubevirt.io"),
        ("*", "*"),
    }
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


def test_monitored_metrics_are_served(pod: Pod) -> None:
    expect(KUBERNETES, API_ADDRESS, at=ADDRESS)
    expect(KUBERNETES, API_ADDRESS, at=ADDRESS)

    def served() -> bool:
        for prefix, port in METRICS.items():
            page = http("GET", f"http://{pod.network.address}:{port}/metrics").text.splitlines()
            found = {re.split(r"[{ ]", text, maxsplit=1)[0] for text in page if text[:1] != "#"}
            # kinds of events that have not happened yet have no sample
            typed = [text.split()[2:4] for text in page if text.startswith("# TYPE ")]
            found |= {name for name, _ in typed}
            found |= {f"{name}_bucket" for name, kind in typed if kind == "histogram"}
            wanted = named(prefix)
            assert wanted
            assert wanted <= found, wanted - found
        return True

    wait_for(served, "the metrics", 20)
