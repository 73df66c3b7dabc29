"""What follows from the settings: kinds of objects to read, election key, domains that can be served."""

from pathlib import Path
from typing import Any

import pytest

from kube2etcd.app.build import election_key, kinds, unservable
from kube2etcd.errors import SettingsError
from kube2etcd.external import Domain
from kube2etcd.settings import load

VMI_KINDS = {"namespaces", "virtualmachineinstances"}


def test_election_key() -> None:
    assert election_key(load({"owner_id": "a/b"}, {})) == b"/kube2etcd/leader/skydns/a/b"
    with pytest.raises(SettingsError, match="--etcd-prefix"):
        election_key(load({"etcd_prefix": "/kube2etcd"}, {}))


@pytest.mark.parametrize(
    ("options", "read"),
    [
        pytest.param({"vm_domain": "a.b"}, VMI_KINDS, id="VMIs"),
        pytest.param({"domains": ("a.b",), "dns_endpoints": True}, {"dnsendpoints"}, id="external names"),
        pytest.param({"vm_domain": "a.b", "pods": "verified"}, VMI_KINDS, id="VMIs, without pods"),
    ],
)
def test_kinds_read_without_the_cluster_zone(options: dict[str, Any], read: set[str]) -> None:
    settings = load({"no_cluster_zone": True, **options}, {})
    assert {kind.name for kind in kinds(settings)} == read


@pytest.mark.parametrize(
    ("domain", "refused"),
    [
        pytest.param("shop.stage.local", False, id="at an object's name"),
        pytest.param("a.b.c.shop.stage.local", True, id="below an object's name"),
        pytest.param("a.b.c.x.stage.local", False, id="in a domain of the settings"),
        pytest.param("x.stage.local", False, id="a domain of the settings"),
        pytest.param("stage.local", True, id="another zone"),
    ],
)
def test_domains_added_at_run_time(tmp_path: Path, domain: str, refused: bool) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("{zones: [{zone: stage.local}], domains: [x.stage.local]}")
    assert bool(unservable(load({}, {}, file), Domain.parse(domain))) == refused
