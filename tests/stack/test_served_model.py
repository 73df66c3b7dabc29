"""The model of a whole server against a real CoreDNS with the Corefile of the same settings."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import dns.exception
import dns.rcode
import pytest
from msgspec.structs import replace

from skydns_compat.corefile import CorefileSettings
from skydns_compat.names import Name
from tests.skydns_compat import external_cases
from tests.skydns_compat.served_cases import KEYS, QUESTIONS, SETTINGS
from tests.stack.harness import LOOPBACK, Binaries, CoreDns, Etcd
from tests.stack.modelled import differences


@dataclass(frozen=True)
class Case:
    keys: Mapping[str, str]
    settings: CorefileSettings
    questions: Iterable[tuple[str, str]]


#: External domains above, below and beside the cluster's zone and the reverse zones.
AROUND = Case(
    {
        **KEYS,
        "/skydns/local/own_": "{}",
        "/skydns/local/up/own_": "{}",
        "/skydns/local/up/own_/A": '{"host":"192.0.2.1","port":-1}',
        "/skydns/local/cluster/ext/own_": "{}",
        "/skydns/local/cluster/ext/own_/A": '{"host":"192.0.2.2","port":-1}',
        "/skydns/arpa/in-addr/10/9/9/9/own_": '{"host":"nine.example"}',
        "/skydns/io/dtk/own_": "{}",
    },
    replace(
        SETTINGS["insecure"],
        external=tuple(map(Name.parse, ("ext.cluster.local", "local", "10.in-addr.arpa", "dtk.io"))),
    ),
    list(
        product(
            [
                *("up.local.", "local.", "gone.local.", "ext.cluster.local.", "x.ext.cluster.local."),
                *("cluster.local.", "web.shop.svc.cluster.local.", "none.shop.svc.cluster.local."),
                *("dtk.io.", "9.9.9.in-addr.arpa.", "9.9.9.10.in-addr.arpa.", "1.0.0.192.in-addr.arpa."),
            ],
            ("A", "TXT", "PTR", "DS", "SOA", "HTTPS", "ANY"),
        )
    ),
)
EXTERNAL = {key.decode(): value.decode() for key, value in external_cases.keys().items()}
CASES = {
    **{f"pods {pods}": Case(KEYS, settings, QUESTIONS) for pods, settings in SETTINGS.items()},
    "domains around the zones": AROUND,
    "external domains": Case(EXTERNAL, external_cases.SETTINGS, external_cases.QUESTIONS),
}


@pytest.fixture(scope="module")
def etcd(binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    with Etcd(tmp_path_factory.mktemp("served"), binaries) as etcd:
        yield etcd


@pytest.mark.parametrize("with_upstream", [False, True], ids=["alone", "with upstream"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_question(
    etcd: Etcd, binaries: Binaries, tmp_path: Path, case: Case, with_upstream: bool
) -> None:
    etcd.delete("/skydns")
    etcd.put_all(case.keys)
    settings = replace(case.settings, etcd_servers=(etcd.url,))
    assert differences(binaries, tmp_path, case.keys, settings, with_upstream, case.questions) == ""


def test_two_zones_in_a_cycle(binaries: Binaries, tmp_path: Path, etcd: Etcd) -> None:
    etcd.put("/skydns/example/one/a", '{"host":"a.two.example"}')
    etcd.put("/skydns/example/two/a", '{"host":"a.one.example"}')
    backend = f"{{\n    path /skydns\n    endpoint {etcd.url}\n}}"
    zones = f"example:{{port}} {{\n    bind {LOOPBACK}\n    etcd one.example two.example {backend}\n}}\n"
    with CoreDns(tmp_path, binaries, zones) as coredns:
        with pytest.raises(dns.exception.Timeout):
            coredns.ask("a.one.example", timeout=1)
        assert coredns.ask("b.one.example").rcode() == dns.rcode.NXDOMAIN
