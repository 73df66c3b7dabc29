"""A group is a function of the key, in whatever order the keys come and however the zones nest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube2etcd.sync.claims import Groups
from kube2etcd.zones.base import Zone
from kube2etcd.zones.cluster import ClusterZone
from kube2etcd.zones.services import ServicesZone
from skydns_compat.layout import Layout
from skydns_compat.names import Name
from tests.strategies import LAW
from tests.sync.publishing import PTR, ZONE, external

OWN = b"/skydns/io/dtk/b/own_"


def by_service(zone: str) -> Zone:
    return ServicesZone(Name.parse(zone), template="{service}")


GROUPS = Groups(
    Layout(), [ZONE, by_service("example.org"), by_service("eu.shop.example.org"), external("dtk.io")]
)


@pytest.mark.parametrize(
    ("key", "group"),
    [
        (b"/skydns/local/cluster/svc/shop/web", b"/skydns/local/cluster/svc/shop/web"),
        (b"/skydns/local/cluster/svc/shop/web/_tcp/_http/A", b"/skydns/local/cluster/svc/shop/web"),
        (b"/skydns/local/cluster/nt_/svc/shop", b"/skydns/local/cluster/nt_/svc/shop"),
        (b"/skydns/local/cluster", b"/skydns/local/cluster"),
        (PTR, PTR),
        (b"/skydns/example/a/b/c/d/e/f", b"/skydns/example/a/b/c/d/e/f"),
        (b"/skydns/org/example/shop/A", b"/skydns/org/example/shop"),
        (b"/skydns/org/example/shop/eu", b"/skydns/org/example/shop"),
        (b"/skydns/org/example/shop/eu/web/A", b"/skydns/org/example/shop/eu/web"),
        (OWN, OWN),
        (OWN + b"/C", OWN),
    ],
)
def test_what_changes_together(key: bytes, group: bytes) -> None:
    assert GROUPS.of(key) == group


def test_of_a_deep_prefix_and_zone() -> None:
    groups = Groups(Layout("/a/b"), [ClusterZone(Name.parse("x.y.z"))])
    assert groups.of(b"/a/b/z/y/x/svc/shop/web/_tcp/_http/A") == b"/a/b/z/y/x/svc/shop/web"


_labels = st.sampled_from([b"a", b"eu", b"own_", b"_tcp", b"A-H"])
_tops = st.sampled_from(
    [
        b"/skydns",
        b"/skydns/local/cluster/svc/shop",
        b"/skydns/org/example/shop",
        b"/skydns/org/example/shop/eu",
        b"/skydns/io/dtk",
        b"/skydns/arpa/in-addr/10",
    ]
)
KEYS = st.builds(lambda top, below: b"/".join([top, *below]), _tops, st.lists(_labels, max_size=4))


@LAW
@given(st.lists(KEYS), st.booleans())
def test_of_many_keys_each_has_the_group_that_it_has_alone(keys: list[bytes], in_order: bool) -> None:
    asked = sorted(keys) if in_order else keys
    assert list(GROUPS.each(asked)) == [(GROUPS.of(key), key) for key in asked]
