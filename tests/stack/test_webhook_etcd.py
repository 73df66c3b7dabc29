"""The webhook with etcd: keys, state, outages, large requests."""

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.stack.bridge import kube2etcd
from tests.stack.harness import SLOW, Etcd, wait_for
from tests.stack.webhook import (
    KEYS,
    LOCALHOST,
    Webhook,
    a,
    hosts_block,
    ownership_txt,
    published_hosts,
    state_keys,
    unready_reason,
    webhook_for,
)


@pytest.fixture
def webhook(etcd: Etcd, tmp_path: Path) -> Iterator[Webhook]:
    with webhook_for(tmp_path, "--etcd-server", etcd.url) as one:
        yield one


def test_names_become_keys_and_cleanup_removes_them(etcd: Etcd, tmp_path: Path) -> None:
    etcd.put("/skydns/io/dtk/theirs", '{"host":"192.0.2.9"}')
    with webhook_for(tmp_path, "--etcd-server", etcd.url) as webhook:
        foo = a("foo.dtk.io", "10.0.0.5", recordTTL=77)
        assert webhook.apply(create=[foo, ownership_txt(foo), a("deep.er.dtk.io", "fd00::1")]) == 204
        wait_for(lambda: published_hosts(etcd) == {"10.0.0.5", "fd00::1", "192.0.2.9"}, "keys", 5)
        webhook.wait_ready()
        keys = etcd.dump(KEYS)
        assert not any("heritage" in value for value in keys.values())
        assert any('"ttl":77' in value for value in keys.values())
        assert state_keys(etcd)
        assert not (tmp_path / "state.json").exists()
        webhook.kill()
        webhook.start()
        assert webhook.names() == ["a-foo.dtk.io", "deep.er.dtk.io", "foo.dtk.io"]
        webhook.wait_ready()
        assert etcd.dump(KEYS) == keys
        assert webhook.apply(delete=[foo]) == 204
        wait_for(lambda: published_hosts(etcd) == {"fd00::1", "192.0.2.9"}, "the key to go", 5)
        webhook.stop()
        kube2etcd("webhook", "--cleanup", "--etcd-server", etcd.url)
        assert etcd.dump(KEYS) == {"/skydns/io/dtk/theirs": '{"host":"192.0.2.9"}'}
        assert state_keys(etcd) == []


def test_keys_and_state_are_repaired(etcd: Etcd, webhook: Webhook) -> None:
    assert webhook.apply(create=[a("foo.dtk.io", "10.0.0.5")]) == 204
    wait_for(lambda: published_hosts(etcd) == {"10.0.0.5"}, "keys", 5)
    keys, state = etcd.dump(KEYS), state_keys(etcd)
    etcd.delete("/")
    wait_for(lambda: etcd.dump(KEYS) == keys, "the keys to be back", 10)
    wait_for(lambda: state_keys(etcd) == state, "the state to be back", 12)
    webhook.kill()
    webhook.start()
    assert webhook.names() == ["foo.dtk.io"]


@pytest.mark.parametrize(
    ("trouble", "reason"), [("etcd down", "etcd"), ("etcd hangs", "etcd"), ("no hosts file", "hosts file")]
)
def test_failed_write_is_a_soft_error(etcd: Etcd, tmp_path: Path, trouble: str, reason: str) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_bytes(LOCALHOST)
    with webhook_for(tmp_path, *etcd.options, "--hosts-file", str(hosts)) as webhook:
        assert webhook.apply(create=[a("foo.dtk.io", "10.0.0.5")]) == 204
        webhook.wait_ready()
        before, content = webhook.records(), hosts.read_bytes()
        if trouble == "etcd down":
            etcd.stop()
        elif trouble == "etcd hangs":
            etcd.pause()
        else:  # a directory, which root cannot write either
            hosts.unlink()
            hosts.mkdir()
        for _ in range(2):
            began = time.monotonic()
            assert webhook.apply(create=[a("bar.dtk.io", "10.0.0.6")]) == 503
            assert time.monotonic() - began < 5 + SLOW
            assert webhook.records() == before
            assert webhook.request("GET", "/").status_code == 200
        assert reason in unready_reason(webhook)
        assert webhook.get("/livez").status_code == 200
        if trouble == "etcd down":
            etcd.start()
        elif trouble == "etcd hangs":
            etcd.resume()
        else:
            webhook.restart()
            assert webhook.records() == before
            hosts.rmdir()
            hosts.write_bytes(content)
        webhook.wait_ready(20)
        assert webhook.records() == before
        assert webhook.apply(create=[a("bar.dtk.io", "10.0.0.6")]) == 204
        wait_for(lambda: published_hosts(etcd) == {"10.0.0.5", "10.0.0.6"}, "keys", 5)
        assert hosts_block(hosts) == ["10.0.0.6 bar.dtk.io", "10.0.0.5 foo.dtk.io"]
        webhook.stop_within(1.0)


def test_stop_and_start_without_etcd(etcd: Etcd, webhook: Webhook) -> None:
    assert webhook.apply(create=[a("foo.dtk.io", "10.0.0.5")]) == 204
    etcd.pause()
    unready_reason(webhook)
    webhook.stop_within(1.0)
    etcd.resume()
    etcd.stop()
    webhook.start()
    for path in ("/", "/records"):
        assert webhook.request("GET", path).status_code == 503
    assert webhook.apply(create=[a("bar.dtk.io", "10.0.0.5")]) == 503
    assert webhook.get("/livez").status_code == 200
    assert webhook.get("/readyz").status_code == 503
    etcd.start()
    webhook.wait_ready()
    assert webhook.names() == ["foo.dtk.io"]
    assert webhook.apply(create=[a("bar.dtk.io", "10.0.0.5")]) == 204


def test_large_request_is_atomic(webhook: Webhook) -> None:
    chance = random.Random(7)
    # Incompressible texts: many transactions per request.
    texts = [f"{chance.getrandbits(40000):x}" for _ in range(600)]
    for turn in range(5):
        batch = [
            {"dnsName": f"t{turn}-{number}.dtk.io", "targets": [text], "recordType": "TXT"}
            for number, text in enumerate(texts)
        ]
        killer = threading.Timer(chance.uniform(0.1, 1.0), webhook.kill)
        killer.start()
        status = 0
        with contextlib.suppress(requests.ConnectionError):
            status = webhook.apply(create=batch)
        killer.join()
        webhook.start()
        wait_for(lambda: webhook.request("GET", "/records").status_code == 200, "the state to be read", 10)
        mine = [name for name in webhook.names() if name.startswith(f"t{turn}-")]
        assert len(mine) in ((600,) if status == 204 else (0, 600))


def test_mass_deletion_by_external_dns_is_not_held(etcd: Etcd, webhook: Webhook) -> None:
    many = [a(f"n{number}.dtk.io", f"10.0.0.{number}") for number in range(1, 40)]
    assert webhook.apply(create=many) == 204
    wait_for(lambda: len(published_hosts(etcd)) == 39, "keys", 5)
    assert webhook.apply(delete=many) == 204
    wait_for(lambda: not published_hosts(etcd), "keys to go", 5)
    webhook.wait_ready()
