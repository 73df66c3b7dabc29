"""Values too large for etcd affect only their own name; many large ones are fine."""

from __future__ import annotations

from pathlib import Path

from tests.stack.faults import HERE, running, same_keys
from tests.stack.harness import ApiServer, Bridge, Etcd, wait_for
from tests.stack.objects import dns_endpoint, dns_endpoint_crd, endpoint, service, services

DOMAIN = ("--domains", "dtk.io", "--dns-endpoints")
THERE = "/skydns/io/dtk"


def texts(etcd: Etcd) -> set[str]:
    found = (key.removeprefix(f"{THERE}/").split("/") for key in etcd.dump(THERE) if "/T-" in key)
    return {parts[0] for parts in found}


def refusals(bridge: Bridge) -> list[str]:
    return [line for line in bridge.process.log.read_text().splitlines() if "etcd refuses /" in line]


def test_a_value_that_is_too_large_is_named_and_all_others_are_written(
    binaries: dict[str, Path], apiserver: ApiServer, tmp_path: Path
) -> None:
    apiserver.apply(dns_endpoint_crd())
    apiserver.apply_all(services(100))
    small = [endpoint(f"small{number}.dtk.io", "TXT", f"text {number}") for number in range(10)]
    large = [endpoint("large.dtk.io", "TXT", "x" * 3000), endpoint("large.dtk.io", "A", "10.0.0.5")]
    apiserver.apply(dns_endpoint("one", *small[:5], *large, *small[5:]))
    names = {f"small{number}" for number in range(10)}
    with (
        Etcd(tmp_path / "narrow", binaries, extra_args=["--max-request-bytes=2000"]) as etcd,
        running(tmp_path, apiserver.kubeconfig(), etcd, *DOMAIN, "--resync-period", "1") as bridge,
    ):
        wait_for(lambda: texts(etcd) == names, "the small ones", 10, bridge.process)
        assert [key for key in etcd.dump(f"{THERE}/large/") if "10-0-0-5" in key]
        for number in range(100):
            assert f"{HERE}/svc/default/s{number:03d}" in etcd.dump(HERE)
        assert refusals(bridge)
        assert all(f"{THERE}/large/" in line and "too large" in line for line in refusals(bridge))
        # said once, however often it is tried again, and it holds nothing up
        told = len(refusals(bridge))
        bridge.full_passes(3)
        assert len(refusals(bridge)) == told
        apiserver.apply(service("later"))
        wait_for(lambda: f"{HERE}/svc/default/later" in etcd.dump(HERE), "the next change", 5)
        # put right, it is there
        large[0] = endpoint("large.dtk.io", "TXT", "short by now")
        apiserver.apply(dns_endpoint("one", *small, *large))
        wait_for(lambda: texts(etcd) == {*names, "large"}, "the text", 10, bridge.process)
        assert "Traceback" not in bridge.process.log.read_text()


def test_many_large_values_are_written_and_read_in_pieces(
    apiserver: ApiServer, etcd: Etcd, tmp_path: Path
) -> None:
    """More than one transaction takes (1.5 MB), and than one answer usually may have (4 MB)."""
    apiserver.apply(dns_endpoint_crd())
    for number in range(6):
        several = [
            endpoint(f"t{number}-{one}.dtk.io", "TXT", f"{number}-{one}-".ljust(15_900, "x"))
            for one in range(60)
        ]
        apiserver.apply(dns_endpoint(f"large{number}", *several))
    names = {f"t{number}-{one}" for number in range(6) for one in range(60)}
    with running(tmp_path, apiserver.kubeconfig(), etcd, *DOMAIN) as bridge:
        wait_for(lambda: texts(etcd) == names, "all of them", 20, bridge.process)
        expected = etcd.dump("/skydns")
        assert sum(map(len, expected.values())) > 5_000_000
        assert not refusals(bridge)
        etcd.delete("/skydns")
        same_keys(etcd, expected, 10)
        revision = etcd.revision()
        bridge.kill()
        bridge.start()
        bridge.wait_ready()
        assert etcd.revision() == revision, "everything was read and found as it should be"
