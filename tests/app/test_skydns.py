"""What is different where classic SkyDNS is the reader."""

from __future__ import annotations

from pathlib import Path

import pytest

from kube2etcd.app import build, skydns
from kube2etcd.app.offline import from_files
from kube2etcd.errors import SettingsError
from kube2etcd.inspect.explain import Explainer
from kube2etcd.settings import Settings, load
from skydns_compat.layout_skydns import SkydnsLayout
from skydns_compat.names import Name

SHOP = str(Path(__file__).parents[2] / "examples" / "shop.yaml")


def v2(**options: object) -> Settings:
    return load({"etcd_api": "v2", **options}, {})


def test_who_reads_decides_about_layout_and_pods() -> None:
    assert isinstance(skydns.layout(v2()), SkydnsLayout)
    assert not isinstance(skydns.layout(Settings()), SkydnsLayout)
    assert [skydns.pods(v2(pods=pods)) for pods in ("disabled", "insecure", "verified")] == [
        "disabled",
        "disabled",
        "verified",
    ]
    assert skydns.pods(Settings()) == "insecure"
    assert skydns.reads(Settings()) is None


def test_a_corefile_is_for_coredns() -> None:
    skydns.check_corefile(Settings())
    with pytest.raises(SettingsError, match="SkyDNS has no Corefile"):
        skydns.check_corefile(v2())


@pytest.mark.parametrize(
    ("address", "written"),
    [(":53", b'"dns_addr":"0.0.0.0:53"'), ("[::1]:53", b'"dns_addr":"[::1]:53"'), (None, b'"ttl":30')],
)
def test_settings_of_the_server(address: str | None, written: bytes) -> None:
    publisher = from_files(v2(skydns_config="true", skydns_dns_addr=address), [SHOP])
    assert written in publisher.desired[b"/skydns/config"]
    assert b"/skydns/config" not in from_files(v2(), [SHOP]).desired


@pytest.mark.parametrize(
    ("name", "rtype", "rcode", "reason"),
    [
        ("web.shop.svc.cluster.local", "A", "NOERROR", "comes from services/shop/web"),
        ("_http._tcp.web.shop.svc.cluster.local", "SRV", "NOERROR", "comes from services/shop/web"),
        ("10.20.96.10.in-addr.arpa", "PTR", "NOERROR", "comes from services/shop/web"),
        ("gone.shop.svc.cluster.local", "A", "NXDOMAIN", "there is no Service shop/gone"),
        ("10-1-2-3.shop.pod.cluster.local", "A", "NXDOMAIN", "names of pods are switched off"),
        ("www.example", "A", "REFUSED", "is not in cluster.local"),
    ],
)
def test_explain_asks_skydns(name: str, rtype: str, rcode: str, reason: str) -> None:
    publisher = from_files(v2(), [SHOP])
    explainer = Explainer(publisher, [], dict(publisher.desired), skydns.reads(v2()))
    (found,) = explainer.explain(Name.parse(name), rtype)
    assert found.rcode == rcode
    assert any(reason in one for one in found.reasons), found.reasons
    assert not any("not equal" in one for one in found.reasons)


def test_both_readers_agree_about_what_both_can_say() -> None:
    from skydns_compat.corefile import blocks

    coredns = from_files(Settings(), [SHOP])
    other = from_files(v2(), [SHOP])
    one = Explainer(coredns, blocks(build.corefile(Settings())))
    two = Explainer(other, [], None, skydns.reads(v2()))
    for name in ("web.shop.svc", "db.shop.svc", "db-0.db.shop.svc", "gone.shop.svc", "shop.svc"):
        for rtype in ("A", "AAAA"):
            asked = Name.parse(f"{name}.cluster.local")
            ((a,), (b,)) = one.explain(asked, rtype), two.explain(asked, rtype)
            found = [(each.rcode, {rr.split()[-1] for rr in each.answers}) for each in (a, b)]
            assert found[0] == found[1], (name, rtype)
