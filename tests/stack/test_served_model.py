"""The model of a whole server against the real CoreDNS on the Corefile made from the same rules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dns.exception
import dns.rcode
import pytest

from tests.skydns_compat.served_cases import KEYS, QUESTIONS, SETTINGS
from tests.stack.harness import LOOPBACK, CoreDns, Etcd
from tests.stack.modelled import Modelled


@pytest.fixture(scope="module")
def etcd_with_keys(binaries: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    etcd = Etcd(tmp_path_factory.mktemp("served"), binaries)
    etcd.start()
    for key, value in KEYS.items():
        etcd.put(key, value)
    yield etcd
    etcd.kill()


@pytest.mark.parametrize("with_upstream", [False, True], ids=["alone", "with upstream"])
@pytest.mark.parametrize("pods", SETTINGS)
def test_every_question(
    etcd_with_keys: Etcd, binaries: dict[str, Path], tmp_path: Path, pods: str, with_upstream: bool
) -> None:
    stored = {key.encode(): value.encode() for key, value in KEYS.items()}
    model = Modelled(stored, SETTINGS[pods], with_upstream)
    assert model.differences(etcd_with_keys, binaries, tmp_path, QUESTIONS) == ""


def test_two_zones_that_lead_to_each_other_never_answer(
    binaries: dict[str, Path], tmp_path: Path, etcd: Etcd
) -> None:
    etcd.put("/skydns/example/one/a", '{"host":"a.two.example"}')
    etcd.put("/skydns/example/two/a", '{"host":"a.one.example"}')
    backend = f"{{\n    path /skydns\n    endpoint {etcd.url}\n}}"
    zones = f"example:{{port}} {{\n    bind {LOOPBACK}\n    etcd one.example two.example {backend}\n}}\n"
    coredns = CoreDns(tmp_path, binaries, zones)
    try:
        coredns.start()
        with pytest.raises(dns.exception.Timeout):
            coredns.ask("a.one.example", timeout=1)
        assert coredns.ask("b.one.example").rcode() == dns.rcode.NXDOMAIN
    finally:
        coredns.kill()
