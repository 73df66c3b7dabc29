"""An API server that hangs, restarts or errs: answers stay, changes arrive, stopping is prompt."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.stack.coredns import on_keys
from tests.stack.faults import comes, metric, proxy_to, running
from tests.stack.harness import SLOW, ApiServer, Etcd, wait_for
from tests.stack.objects import service, services


def test_a_paused_api_server_takes_no_answer_away_and_what_it_tells_afterwards_is_taken(
    binaries: dict[str, Path], apiserver: ApiServer, etcd: Etcd, tmp_path: Path
) -> None:
    apiserver.apply_all(services(3))
    dns = on_keys(tmp_path, binaries, "--etcd-server", etcd.url)
    with running(tmp_path, apiserver.kubeconfig(), etcd) as bridge, dns:
        try:
            name = "s001.default.svc.cluster.local."
            wait_for(lambda: dns.addresses(name), "the answer", 10)
            expected = dns.addresses(name)
            apiserver.pause()
            until = time.monotonic() + 3
            while time.monotonic() < until:
                assert dns.addresses(name) == expected
                assert bridge.ready()
            apiserver.resume()
            apiserver.apply(service("later"))
            wait_for(lambda: dns.addresses("later.default.svc.cluster.local."), "the new name", 10)
        finally:
            apiserver.resume()


def test_after_a_restart_of_the_api_server_changes_come_again(
    apiserver: ApiServer, etcd: Etcd, tmp_path: Path
) -> None:
    apiserver.apply_all(services(3))
    with running(tmp_path, apiserver.kubeconfig(), etcd) as bridge:
        before = etcd.dump("/skydns")
        apiserver.kill()
        wait_for(lambda: metric(bridge, "kube2etcd_api_failures_total") > 0, "it to be noticed", 15)
        assert bridge.ready()
        assert "stale" in bridge.get("/readyz").text
        assert etcd.dump("/skydns") == before
        apiserver.start()
        comes(apiserver, etcd, "later", 40)
        wait_for(lambda: "stale" not in bridge.get("/readyz").text, "it to be followed again", 40)


def test_gone_too_many_and_errors_are_got_over(apiserver: ApiServer, etcd: Etcd, tmp_path: Path) -> None:
    apiserver.apply_all(services(3))
    with proxy_to(tmp_path, apiserver) as proxy, running(tmp_path, proxy.kubeconfig, etcd):
        faults = [
            proxy.fault("*", status=429, headers={"Retry-After": "1"}, left=3),
            proxy.fault("*", status=500, left=3),
            proxy.fault("*", cut=True, left=3),
        ]
        assert proxy.expire() >= 3
        comes(apiserver, etcd, "later", 30)
        wait_for(lambda: all(fault.left == 0 for fault in faults), "every fault to be met", 30)


@pytest.mark.parametrize("options", [(), ("--leader-elect",)], ids=["alone", "elected"])
@pytest.mark.parametrize("hung", ["nothing", "api server", "etcd", "both", "etcd gone"])
def test_a_stop_takes_under_a_second(
    hung: str, options: tuple[str, ...], apiserver: ApiServer, etcd: Etcd, tmp_path: Path
) -> None:
    apiserver.apply_all(services(3))
    with running(tmp_path, apiserver.kubeconfig(), etcd, *options) as bridge:
        try:
            if hung in ("etcd", "both"):
                etcd.pause()
                # something to write, so that the loop waits for etcd itself
                apiserver.apply(service("later"))
            if hung in ("api server", "both"):
                apiserver.pause()
            if hung == "etcd gone":
                etcd.kill()
                wait_for(lambda: not bridge.ready(), "the bridge to notice", 15)
            began = time.monotonic()
            code = bridge.process.stop(5 * SLOW)
            took = time.monotonic() - began
            assert code == 0, bridge.log_tail()
            assert took < 1.0 * SLOW
            assert "Traceback" not in bridge.process.log.read_text()
        finally:
            apiserver.resume()
            etcd.resume()


WRONG: dict[str, dict[str, Any]] = {
    "410 in a list": {"status": 410, "left": 2},
    "410 when a watch is opened": {"status": 410, "watch": True, "left": 2},
    "429 with Retry-After": {"status": 429, "headers": {"Retry-After": "1"}, "left": 2},
    "429 when a watch is opened": {"status": 429, "headers": {"Retry-After": "1"}, "watch": True, "left": 2},
    "500": {"status": 500, "left": 3},
    "500 when a watch is opened": {"status": 500, "watch": True, "left": 3},
    "a list cut short": {"cut": True, "left": 3},
    "a watch cut within a line": {"cut": True, "watch": True, "left": 2},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_an_answer_that_is_wrong_costs_a_moment_and_no_name(
    wrong: str, apiserver: ApiServer, etcd: Etcd, tmp_path: Path
) -> None:
    apiserver.apply_all(services(5))
    with proxy_to(tmp_path, apiserver) as proxy, running(tmp_path, proxy.kubeconfig, etcd) as bridge:
        before = etcd.dump("/skydns")
        fault = proxy.fault("services", **WRONG[wrong])
        assert proxy.expire() >= 3
        number = 0

        def met() -> bool:
            # a watch is cut at its next event
            nonlocal number
            number += 1
            apiserver.apply(service("busy", externalIPs=[f"192.0.2.{number % 250 + 1}"]))
            return fault.left == 0

        wait_for(met, "the fault to be met", 30, bridge.process)
        comes(apiserver, etcd, "later", 30)
        present = etcd.dump("/skydns")
        assert {key: present.get(key) for key in before} == before
        assert metric(bridge, "kube2etcd_held_deletes") == 0
        assert bridge.ready()
        assert "Traceback" not in bridge.process.log.read_text()
