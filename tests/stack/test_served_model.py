"""The model of a whole server against the real CoreDNS on the Corefile made from the same rules."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import dns.exception
import dns.rcode
import pytest

from skydns_compat.names import Name
from tests.skydns_compat.served_cases import KEYS, QUESTIONS, SETTINGS
from tests.stack.harness import LOOPBACK, Binaries, CoreDns, Etcd
from tests.stack.modelled import Modelled


@pytest.fixture(scope="module")
def etcd_with_keys(binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    with Etcd(tmp_path_factory.mktemp("served"), binaries) as etcd:
        for key, value in KEYS.items():
            etcd.put(key, value)
        yield etcd


@pytest.mark.parametrize("with_upstream", [False, True], ids=["alone", "with upstream"])
@pytest.mark.parametrize("pods", SETTINGS)
def test_every_question(
    etcd_with_keys: Etcd, binaries: Binaries, tmp_path: Path, pods: str, with_upstream: bool
) -> None:
    stored = {key.encode(): value.encode() for key, value in KEYS.items()}
    model = Modelled(stored, SETTINGS[pods], with_upstream)
    assert model.differences(etcd_with_keys, binaries, tmp_path, QUESTIONS) == ""


def test_two_zones_in_a_cycle(binaries: Binaries, tmp_path: Path, etcd: Etcd) -> None:
    etcd.put("/skydns/example/one/a", '{"host":"a.two.example"}')
    etcd.put("/skydns/example/two/a", '{"host":"a.one.example"}')
    backend = f"{{\n    path /skydns\n    endpoint {etcd.url}\n}}"
    zones = f"example:{{port}} {{\n    bind {LOOPBACK}\n    etcd one.example two.example {backend}\n}}\n"
    with CoreDns(tmp_path, binaries, zones) as coredns:
        with pytest.raises(dns.exception.Timeout):
            coredns.ask("a.one.example", timeout=1)
        assert coredns.ask("b.one.example").rcode() == dns.rcode.NXDOMAIN


def test_external_zones(binaries: Binaries, tmp_path: Path, etcd: Etcd) -> None:
    """External domains above, below and beside the cluster's zone and the reverse zones."""
    external = tuple(map(Name.parse, ("ext.cluster.local", "local", "10.in-addr.arpa", "dtk.io")))
    keys = {
        **KEYS,
        "/skydns/local/own_": "{}",
        "/skydns/local/up/own_": "{}",
        "/skydns/local/up/own_/A": '{"host":"192.0.2.1","port":-1}',
        "/skydns/local/cluster/ext/own_": "{}",
        "/skydns/local/cluster/ext/own_/A": '{"host":"192.0.2.2","port":-1}',
        "/skydns/arpa/in-addr/10/9/9/9/own_": '{"host":"nine.example"}',
        "/skydns/io/dtk/own_": "{}",
    }
    for key, value in keys.items():
        etcd.put(key, value)
    settings = replace(SETTINGS["insecure"], external=external)
    model = Modelled({key.encode(): value.encode() for key, value in keys.items()}, settings, True)
    names = [
        *("up.local.", "local.", "gone.local.", "ext.cluster.local.", "x.ext.cluster.local.", "dtk.io."),
        *("cluster.local.", "web.shop.svc.cluster.local.", "none.shop.svc.cluster.local."),
        *("9.9.9.in-addr.arpa.", "9.9.9.10.in-addr.arpa.", "1.0.0.192.in-addr.arpa."),
    ]
    asked = product(names, ("A", "TXT", "PTR", "DS", "SOA", "HTTPS", "ANY"))
    assert model.differences(etcd, binaries, tmp_path, asked) == ""
