"""What a bridge reports: status page, log, metrics, Events."""

import json
import re
import signal
from pathlib import Path
from typing import Any

from tests.stack.bridge import call
from tests.stack.coredns import coredns_for
from tests.stack.faults import Run
from tests.stack.harness import LOOPBACK, ApiServer, Binaries, Etcd, free_port, http, wait_for
from tests.stack.objects import external, service, services

NAME = "shown.default.svc.cluster.local"


def check_explain(etcd: Etcd, binaries: Binaries, directory: Path, apiserver: ApiServer, port: int) -> None:
    """`explain --bridge --server` of an existing name, a mistyped one, and one that is only cached."""
    with coredns_for(directory, binaries, "--etcd-server", etcd.url, "--cache", "30") as coredns:
        both = ("--bridge", f":{port}", "--server", f"{LOOPBACK}:{coredns.port}")
        wait_for(lambda: coredns.addresses(NAME), "the name to be served", 20)
        for rtype in ((), ("A",), ("SRV",), ("TXT",), ("HTTPS",), ("ANY",)):
            there = call("explain", NAME, *rtype, *both)
            code = 1 if rtype in (("TXT",), ("HTTPS",)) else 0
            assert (there.returncode, there.stderr) == (code, ""), there.stdout
            assert "differs" not in there.stdout, there.stdout
            assert "services/default/shown" in there.stdout or rtype == ("ANY",)
        for name in ("cluster.local", "svc.cluster.local", "default.svc.cluster.local"):
            above = call("explain", name, "SOA" if name == "cluster.local" else "A", *both)
            assert "differs" not in above.stdout, above.stdout
        mistyped = call("explain", NAME.replace("shown", "shwon"), "A", *both)
        assert (mistyped.returncode, f"nearest: {NAME}" in mistyped.stdout) == (1, True)
        apiserver.delete_all([service("shown")])
        wait_for(lambda: NAME.split(".")[0] not in str(etcd.dump("/skydns")), "the name to go", 20)
        [gone] = json.loads(call("explain", NAME, "A", *both, "--output", "json").stdout)
        assert (gone["rcode"], gone["server"]["rcode"], gone["resolves"]) == ("NXDOMAIN", "NOERROR", True)
        assert "cached for up to" in gone["server"]["differences"][-1]
        assert "there is no Service default/shown" in gone["reasons"]


def test_change_shows_on_page_log_metrics_and_explain(
    apiserver: ApiServer, etcd: Etcd, binaries: Binaries, tmp_path: Path, run: Run
) -> None:
    apiserver.apply_all(services(3))
    port = free_port()
    url = f"http://{LOOPBACK}:{port}"
    bridge = run("--listen-page", f":{port}")

    def asked(path: str) -> Any:
        return http("GET", f"{url}/api/{path}").json()

    apiserver.apply(service("shown"))
    wait_for(lambda: asked(f"records?q={NAME}&type=A")["total"], "the record to be shown", 20)
    [record] = asked(f"records?q={NAME}&type=A")["records"]
    assert (record["object"], record["state"]) == ("services/default/shown", "")
    status = asked("status")
    assert (status["ready"], status["zones"], status["leader"]) == (True, ["cluster.local"], "")
    assert {one["kind"] for one in status["sources"]} >= {"services", "endpointslices", "namespaces"}
    page = http("GET", url)
    assert page.status_code == 200
    assert "changes,\nmedian" in page.text
    assert http("GET", url, headers={"Host": "evil.example"}).status_code == 403
    log = bridge.log_text()
    line = r"records changed zone=cluster\.local added=\d+ changed=0 deleted=0"
    line += r" object=services/default/shown latency=\d+ms"
    assert re.search(line, log), bridge.log_tail()
    measured = bridge.metrics()
    assert measured['kube2etcd_programming_duration_seconds_count{kind="services"}'] >= 1
    assert measured['kube2etcd_api_received_bytes_total{kind="services"}'] > 1000
    check_explain(etcd, binaries, tmp_path, apiserver, port)
    bridge.send_signal(signal.SIGUSR1)
    apiserver.apply(service("louder"))
    wait_for(lambda: " DEBUG " in bridge.log_text(), "a debug line", 20)


def test_event_says_why_a_record_is_left_out(apiserver: ApiServer, run: Run) -> None:
    apiserver.apply(external("alias", "10.1.2.3"))

    def events() -> list[dict[str, object]]:
        found = apiserver.request("GET", "/apis/events.k8s.io/v1/namespaces/default/events")
        return [one for one in found.json()["items"] if one["reportingController"] == "kube2etcd"]

    for _ in ("first", "again"):
        bridge = run("--events")
        wait_for(events, "the Event", 20)
        bridge.kill()
    [event] = events()
    assert event["note"] == "externalName 10.1.2.3 is an address, which a CNAME cannot hold"
    regarding = event["regarding"]
    assert isinstance(regarding, dict)
    assert (regarding["kind"], regarding["name"]) == ("Service", "alias")
    assert regarding["uid"]
