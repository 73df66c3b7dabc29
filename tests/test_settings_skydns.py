"""Settings for classic SkyDNS are valid with the v2 API only."""

from pathlib import Path

import pytest

from kube2etcd.errors import SettingsError
from kube2etcd.settings import HostPort, Settings, Skydns, load

V2 = {"etcd_api": "v2"}


def test_all_of_them(tmp_path: Path) -> None:
    wanted = Skydns(True, HostPort("", 5353), (HostPort("192.0.2.1", 53), HostPort("fd00::1", 5353)), 7)
    options = {
        "skydns_config": "true",
        "skydns_dns_addr": ":5353",
        "skydns_nameserver": ("192.0.2.1", "[fd00::1]:5353"),
        "skydns_min_ttl": "7",
    }
    assert load({**V2, **options}, {}).skydns == wanted
    file = tmp_path / "settings.yaml"
    file.write_text(
        "etcd: {api: v2}\n"
        "skydns: {config: true, dns_addr: ':5353', nameservers: [192.0.2.1, '[fd00::1]:5353'], min_ttl: 7}\n"
    )
    assert load({}, {}, file).skydns == wanted
    assert Settings().skydns == Skydns()


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"skydns_config": "true"}, "--skydns-config is for SkyDNS; write --etcd-api v2 as well"),
        ({**V2, "skydns_min_ttl": "5"}, "--skydns-min-ttl is written only with --skydns-config true"),
        (
            {**V2, "domains": ("dtk.io",)},
            "--domains needs CoreDNS: SkyDNS serves one domain; write --etcd-api v3",
        ),
        (
            {**V2, "skydns_config": "true", "skydns_nameserver": ("dns.example",)},
            "--skydns-nameserver is 'dns.example'; write the IP address of a DNS server",
        ),
        (
            {**V2, "skydns_config": "true", "skydns_nameserver": ("dns.example:53",)},
            "--skydns-nameserver is 'dns.example:53'; write the IP address of a DNS server",
        ),
    ],
)
def test_faults(options: dict[str, str], fault: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load(options, {})
    (found,) = raised.value.faults
    assert found.startswith(fault)
