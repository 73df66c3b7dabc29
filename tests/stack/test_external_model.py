"""The model of a server with external zones against the real CoreDNS on the same keys and Corefile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from skydns_compat.corefile import blocks, corefile
from skydns_compat.reader import Entries
from skydns_compat.reader_served import refused, served_answer
from tests.skydns_compat.nested_cases import QUESTIONS, SETTINGS, keys
from tests.stack.harness import LOOPBACK, CoreDns, Etcd
from tests.stack.test_reader_model import Pair
from tests.stack.test_served_model import UPSTREAM, unordered, upstream


@pytest.mark.parametrize("with_upstream", [False, True], ids=["alone", "with upstream"])
def test_every_question(etcd: Etcd, binaries: dict[str, Path], tmp_path: Path, with_upstream: bool) -> None:
    for key, value in keys().items():
        etcd.put(key.decode(), value.decode())
    other = CoreDns(tmp_path, binaries, UPSTREAM, name="upstream")
    settings = replace(
        SETTINGS,
        etcd_servers=(etcd.url,),
        listen=f"{LOOPBACK}:{{port}}",
        upstream=f"{LOOPBACK}:{other.port}" if with_upstream else "none",
    )
    entries, rules = Entries(keys()), blocks(settings)
    coredns = CoreDns(tmp_path, binaries, corefile(settings))
    different = []
    try:
        other.start()
        coredns.start()
        pair = Pair(etcd, coredns)
        for name, qtype in QUESTIONS:
            modelled = served_answer(entries, rules, name, qtype, upstream if with_upstream else refused)
            real = pair.ask(name, qtype)
            if unordered(real) != unordered(modelled):
                different.append(f"{name} {qtype}\n  server {real}\n  model  {modelled}")
    finally:
        coredns.kill()
        other.kill()
    assert not different, f"{len(different)} of {len(QUESTIONS)} differ:\n" + "\n".join(different)
