"""The model of a whole server against the real CoreDNS on the Corefile made from the same rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dns.exception
import dns.rcode
import pytest

from skydns_compat.corefile import blocks, corefile
from skydns_compat.reader import Answer, Entries, Rr
from skydns_compat.reader_served import refused, served_answer
from tests.skydns_compat.served_cases import KEYS, QUESTIONS, SETTINGS
from tests.stack.harness import LOOPBACK, CoreDns, Etcd
from tests.stack.test_reader_model import Pair, normal

UPSTREAM = """
.:{port} {
    bind 127.0.0.1
    template ANY A ext.example {
        answer "ext.example. 60 IN A 192.0.2.7"
    }
    template ANY AAAA ext.example {
        answer "ext.example. 60 IN AAAA 2001:db8::7"
    }
    template ANY ANY ext.example {
        rcode NOERROR
    }
    template ANY ANY {
        rcode NXDOMAIN
    }
}
"""


def upstream(name: str, qtype: str) -> Answer:
    """What that upstream says."""
    known = {"A": "192.0.2.7", "AAAA": "2001:db8::7"}
    if name != "ext.example.":
        return Answer("NXDOMAIN")
    return Answer("NOERROR", (Rr(name, qtype, 60, known[qtype]),)) if qtype in known else Answer("NOERROR")


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
    other = CoreDns(tmp_path, binaries, UPSTREAM, name="upstream")
    settings = replace(
        SETTINGS[pods],
        etcd_servers=(etcd_with_keys.url,),
        listen=f"{LOOPBACK}:{{port}}",
        upstream=f"{LOOPBACK}:{other.port}" if with_upstream else "none",
    )
    entries = Entries({key.encode(): value.encode() for key, value in KEYS.items()})
    rules = blocks(settings)
    coredns = CoreDns(tmp_path, binaries, corefile(settings))
    different = []
    try:
        other.start()
        coredns.start()
        pair = Pair(etcd_with_keys, coredns)
        for name, qtype in QUESTIONS:
            modelled = served_answer(entries, rules, name, qtype, upstream if with_upstream else refused)
            real = pair.ask(name, qtype)
            if unordered(real) != unordered(modelled):
                different.append(f"{name} {qtype}\n  server {real}\n  model  {modelled}")
    finally:
        coredns.kill()
        other.kill()
    assert not different, f"{len(different)} of {len(QUESTIONS)} differ:\n" + "\n".join(different)


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


def unordered(answer: Answer) -> tuple[str, list[str], list[str]]:
    """The answer in any order: the server turns the addresses round, so that load is spread."""
    return (
        answer.rcode,
        sorted(str(normal(record)) for record in answer.answers),
        sorted(str(normal(record)) for record in answer.additional),
    )
