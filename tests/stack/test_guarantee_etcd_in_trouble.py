"""An etcd that is full, compacted, down or refuses keys is reported, recovered from, and costs no other keys.

KUBE2ETCD_FAULT_OUTAGE is the length of the outage in seconds (10): minutes make no difference, since no pause
grows (`test_retry_pause_does_not_grow_during_an_outage`), but they can be seen.
"""

import os
import threading
import time

import pytest

from tests.stack.etcd import EtcdctlError
from tests.stack.faults import HERE, Run, create_and_wait, keys_of, same_keys, wait_for_keys
from tests.stack.harness import ApiServer, Bridge, Etcd, wait_for
from tests.stack.objects import (
    dns_endpoint,
    dns_endpoint_crd,
    endpoint,
    endpoints,
    large_headless_services,
    service,
    services,
)

# Read at import, as tests run without our variables.
OUTAGE = float(os.environ.get("KUBE2ETCD_FAULT_OUTAGE") or "10")


@pytest.mark.parametrize("etcd", [["--quota-backend-bytes=2000000"]], indirect=True)
def test_full_etcd_is_reported_and_recovers(apiserver: ApiServer, etcd: Etcd, run: Run) -> None:
    bridge = run(objects=services(3))
    before = etcd.dump("/skydns")

    def fill() -> bool:
        try:
            etcd.ctl("put", "/elsewhere", stdin="x" * 200_000)
        except EtcdctlError as error:
            return "space exceeded" in str(error)
        return False

    wait_for(fill, "etcd to be full", 30)
    apiserver.apply(service("later"))
    bridge.wait_readyz("NOSPACE", 15)
    assert not bridge.ready()
    assert bridge.get("/livez").status_code == 200
    assert etcd.dump("/skydns") == before, "existing keys are kept"
    log = bridge.log_text()
    assert log.count("has no space left") < 5, "logged on change, not on each attempt"

    etcd.ctl("compact", str(etcd.revision()))
    etcd.ctl("defrag")
    etcd.ctl("alarm", "disarm")
    bridge.wait_ready(10)
    assert keys_of(etcd, "later")
    assert bridge.alive


def test_compacted_changes_are_repaired(etcd: Etcd, run: Run) -> None:
    bridge = run(objects=services(10))
    expected = etcd.dump("/skydns")
    bridge.pause()
    for key in sorted(expected)[:5]:
        etcd.put(key, "spoilt")
    etcd.delete(f"{HERE}/svc/default/s003")
    for number in range(20):
        etcd.put("/elsewhere", str(number))
    etcd.ctl("compact", str(etcd.revision()))
    etcd.restart()
    bridge.resume()
    same_keys(etcd, expected, 10)
    bridge.wait_ready(5)
    # a compaction does not disturb an open watch
    etcd.ctl("compact", str(etcd.revision()))
    etcd.delete(f"{HERE}/svc/default/s004")
    same_keys(etcd, expected, 5)


def test_outage_costs_only_readiness(apiserver: ApiServer, etcd: Etcd, run: Run) -> None:
    bridge = run(objects=services(10))
    etcd.kill()
    wait_for(lambda: not bridge.ready(), "readiness to be withdrawn", 10)
    apiserver.delete_all(services(3))
    apiserver.apply(service("later"))
    cpu = bridge.metric("process_cpu_seconds_total")
    until, turn = time.monotonic() + OUTAGE, 0
    while time.monotonic() < until:
        turn += 1
        apiserver.apply(service("busy", externalIPs=[f"192.0.2.{turn % 250 + 1}"]))
        assert bridge.get("/livez").status_code == 200
        assert not bridge.ready()
        threading.Event().wait(0.5)
    assert bridge.metric("process_cpu_seconds_total") - cpu < OUTAGE / 5, "no busy loop"
    assert bridge.log_text().count("cannot be reached") < 10
    etcd.start()
    bridge.wait_ready(10)
    assert keys_of(etcd, "later"), "ready means written"
    wait_for_keys(etcd, "busy")
    assert bridge.metric("kube2etcd_repairs_total") == 0, "etcd lost nothing"
    assert keys_of(etcd, "s005")
    wait_for(lambda: not keys_of(etcd, "s001"), "what was deleted to go", 5)


@pytest.mark.parametrize(
    "etcd", [["--max-txn-ops=20"], ["--max-request-bytes=2000"]], indirect=True, ids=["operations", "bytes"]
)
def test_writes_fit_small_etcd_limits(etcd: Etcd, run: Run) -> None:
    head = endpoints("head", *(f"10.8.0.{number}" for number in range(1, 60)))
    bridge = run(objects=[*services(40), service("head", clusterIP="None"), head])
    for number in range(40):
        assert keys_of(etcd, f"s{number:03d}")
    assert len(keys_of(etcd, "head/")) >= 59
    assert bridge.metric("kube2etcd_refused_keys") == 0
    etcd.delete("/skydns")
    wait_for(lambda: len(keys_of(etcd, "head/")) >= 59, "the repair", 10)


def refusals(bridge: Bridge) -> list[str]:
    return [line for line in bridge.log_text().splitlines() if "etcd refuses /" in line]


def test_refused_key_affects_no_other_key(apiserver: ApiServer, etcd: Etcd, run: Run) -> None:
    culprit = f"{HERE}/svc/default/s050"
    password = etcd.restrict("/skydns/", access="read")
    etcd.ctl("role", "grant-permission", "names", "readwrite", "/skydns/", culprit)
    etcd.ctl("role", "grant-permission", "names", "readwrite", f"{HERE}/svc/default/s051", "/skydns0")
    bridge = run("--etcd-user", "bridge", "--etcd-password-file", str(password), objects=services(100))
    for number in range(100):
        assert bool(keys_of(etcd, f"s{number:03d}")) == (number != 50)
    assert refusals(bridge)
    assert all("s050" in line and "permission denied" in line for line in refusals(bridge))
    apiserver.apply(service("later"))
    wait_for(lambda: keys_of(etcd, "later"), "the next change", 5)


def test_many_refused_keys_are_logged_once(apiserver: ApiServer, etcd: Etcd, run: Run) -> None:
    password = etcd.restrict("/skydns/", access="read")
    etcd.ctl("role", "grant-permission", "names", "--prefix=true", "readwrite", f"{HERE}/")
    etcd.ctl("role", "grant-permission", "names", "readwrite", HERE)
    user = ("--etcd-user", "bridge", "--etcd-password-file", str(password), "--resync-period", "1")
    bridge = run(*user, objects=large_headless_services(3))
    assert bridge.metric("kube2etcd_refused_keys") >= 3000
    bridge.full_passes(3)
    assert 0 < len(refusals(bridge)) <= 110, "neither one line for each key nor for each attempt"
    create_and_wait(apiserver, etcd, "later", 5)


EXTERNAL = ("--domains", "dtk.io", "--dns-endpoints")
DOMAIN_PREFIX = "/skydns/io/dtk"


def txt_names(etcd: Etcd) -> set[str]:
    found = (
        key.removeprefix(f"{DOMAIN_PREFIX}/").split("/") for key in etcd.dump(DOMAIN_PREFIX) if "/T-" in key
    )
    return {parts[0] for parts in found}


@pytest.mark.parametrize("etcd", [["--max-request-bytes=2000"]], indirect=True)
def test_oversized_value_is_logged_once(apiserver: ApiServer, etcd: Etcd, run: Run) -> None:
    small = [endpoint(f"small{number}.dtk.io", "TXT", f"text {number}") for number in range(10)]
    large = [endpoint("large.dtk.io", "TXT", "x" * 3000), endpoint("large.dtk.io", "A", "10.0.0.5")]
    objects = [dns_endpoint_crd(), *services(100), dns_endpoint("one", *small[:5], *large, *small[5:])]
    names = {f"small{number}" for number in range(10)}
    bridge = run(*EXTERNAL, "--resync-period", "1", objects=objects)
    wait_for(lambda: txt_names(etcd) == names, "the small ones", 10, bridge)
    wait_for(lambda: "10-0-0-5" in "".join(etcd.dump(f"{DOMAIN_PREFIX}/large/")), "the address beside it", 10)
    for number in range(100):
        assert f"{HERE}/svc/default/s{number:03d}" in etcd.dump(HERE)
    wait_for(lambda: refusals(bridge), "the refusal in the log", 5)
    assert all(f"{DOMAIN_PREFIX}/large/" in line and "too large" in line for line in refusals(bridge))
    # logged once, however often it is retried, and later changes are not delayed
    logged = len(refusals(bridge))
    bridge.full_passes(3)
    assert len(refusals(bridge)) == logged
    apiserver.apply(service("later"))
    wait_for(lambda: f"{HERE}/svc/default/later" in etcd.dump(HERE), "the next change", 5)
    # a corrected value is written
    large[0] = endpoint("large.dtk.io", "TXT", "short by now")
    apiserver.apply(dns_endpoint("one", *small, *large))
    wait_for(lambda: txt_names(etcd) == {*names, "large"}, "the text", 10, bridge)


def test_values_larger_than_a_transaction_and_a_response(apiserver: ApiServer, etcd: Etcd, run: Run) -> None:
    """More than etcd's limit for a request (1.5 MB) and gRPC's for a response (4 MB)."""
    apiserver.apply(dns_endpoint_crd())
    for number in range(6):
        several = [
            endpoint(f"t{number}-{one}.dtk.io", "TXT", f"{number}-{one}-".ljust(15_900, "x"))
            for one in range(60)
        ]
        apiserver.apply(dns_endpoint(f"large{number}", *several))
    names = {f"t{number}-{one}" for number in range(6) for one in range(60)}
    bridge = run(*EXTERNAL)
    wait_for(lambda: txt_names(etcd) == names, "all of them", 20, bridge)
    expected = etcd.dump("/skydns")
    assert sum(map(len, expected.values())) > 5_000_000
    assert not refusals(bridge)
    etcd.delete("/skydns")
    same_keys(etcd, expected, 10)
    revision = etcd.revision()
    bridge.kill()
    bridge.start()
    bridge.wait_ready()
    assert etcd.revision() == revision, "all values are read back unchanged"
