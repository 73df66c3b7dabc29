"""What the webhook by itself refuses to begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from kube2etcd.errors import SettingsError
from kube2etcd.settings import load
from kube2etcd.webhook.command import check


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
