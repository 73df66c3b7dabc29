"""What the webhook by itself refuses to begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from kube2etcd.errors import SettingsError
from kube2etcd.external import Domain
from kube2etcd.settings import load
from kube2etcd.webhook.command import check, cleanup
from kube2etcd.webhook.keep_file import FileKeeper
from kube2etcd.webhook.state import State


def test_names_must_go_somewhere(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nowhere to publish"):
        check(load({}, {}), with_etcd=False)
    check(load({}, {}), with_etcd=True)
    check(load({"hosts_file": str(tmp_path / "hosts")}, {}), with_etcd=False)
    # to the bridges that read the objects
    check(load({"state_objects": "external-dns"}, {}), with_etcd=False)


def test_the_state_lies_outside_of_the_names() -> None:
    with pytest.raises(SettingsError, match="among the keys of /skydns"):
        check(load({"state_prefix": "/skydns/state"}, {}), with_etcd=True)


@pytest.mark.parametrize("spoil", [False, True])
def test_cleanup_takes_a_torn_block_out_too(tmp_path: Path, spoil: bool) -> None:
    hosts, kept = tmp_path / "hosts", tmp_path / "state.json"
    hosts.write_bytes(b"one\n# BEGIN kube2etcd\n10.0.0.1 a.dtk.io\n10.0.0.2 b.late.io\n10.0.0.9 printer\n")
    FileKeeper(kept).save(State(domains=(Domain.parse("late.io"),)), 0)
    if spoil:
        kept.write_text("{")
    settings = load({"hosts_file": str(hosts), "state_file": str(kept), "domains": "dtk.io"}, {})
    cleanup(settings, with_etcd=False)
    left = b"10.0.0.2 b.late.io\n" if spoil else b""
    assert hosts.read_bytes() == b"one\n" + left + b"10.0.0.9 printer\n"
    assert not kept.exists()
