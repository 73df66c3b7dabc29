import contextlib
import ipaddress
import random
from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from kube2etcd.errors import SettingsError
from kube2etcd.external import Domain
from kube2etcd.settings import (
    SETTINGS,
    Etcd,
    HostPort,
    Selector,
    Settings,
    ZoneSettings,
    load,
    load_all,
    parse_host_port,
    vm_zone,
)
from skydns_compat.names import Name


def faults(options: Mapping[str, Any], environ: Mapping[str, str], file: Path | None = None) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        load(options, environ, file)
    return list(raised.value.faults)


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(text: str) -> Path:
        file = tmp_path / "settings.yaml"
        file.write_text(text, encoding="utf-8")
        return file

    return write


def test_defaults() -> None:
    assert load({}, {}) == Settings()
    assert load({"etcd_server": (), "domain": None, "no_tenant_cluster_ip": False}, {}) == Settings()


VALUES = [
    ("domain", "Cluster.Example.", Name.parse("cluster.example")),
    ("ttl", "5", 5),
    ("owner_id", "blue", "blue"),
    ("pods", "Verified", "verified"),
    ("endpoint_names", "all", "all"),
    ("dns_server_ip", "10.96.0.10,fd00::a", ("10.96.0.10", "fd00::a")),
    ("etcd.servers", "http://a:1, http://b:2/", ("http://a:1", "http://b:2")),
    ("etcd.prefix", "/dns/", "/dns"),
    ("etcd.api", "v2", "v2"),
    ("cluster.kubeconfig", "a/b", "a/b"),
    ("cluster.context", "home", "home"),
    ("cluster.kube_master_url", "https://[::1]:6443/", "https://[::1]:6443"),
    ("listen", "127.0.0.1:0", HostPort("127.0.0.1", 0)),
    ("resync_period", "1.5m", 90.0),
    ("log_format", "json", "json"),
    ("log_level", "DEBUG", "debug"),
    ("vm.domain", "Sec.Example.com", "sec.example.com"),
    ("vm.allowed_networks", "10.0.0.0/8", (ipaddress.ip_network("10.0.0.0/8"),)),
    (
        "vm.reverse",
        "10.0.0.0/8,fd00::/8",
        (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")),
    ),
    ("domains", "a.example,b.example", (Domain.parse("a.example"), Domain.parse("b.example"))),
    ("corefile.dns_listen", "5300", HostPort("", 5300)),
    ("corefile.file", "/etc/coredns/Corefile", "/etc/coredns/Corefile"),
    ("corefile.imports", "", "/etc/coredns/custom/*.server"),
    ("corefile.imports", "/etc/my/*.conf", "/etc/my/*.conf"),
    ("corefile.cache", "0", 0),
    ("corefile.health_listen", "127.0.0.1:8090", HostPort("127.0.0.1", 8090)),
    ("corefile.ready_listen", "", None),
    ("corefile.metrics_listen", ":9999", HostPort("", 9999)),
    ("corefile.upstream", "192.0.2.1 192.0.2.2", "192.0.2.1 192.0.2.2"),
    ("corefile.upstream", "none", "none"),
    ("corefile.upstream", "tls://192.0.2.1 [fd00::1]:53 fd00::2", "tls://192.0.2.1 [fd00::1]:53 fd00::2"),
    ("client.namespace", "shop", "shop"),
    ("client.ndots", "0", 0),
    ("skydns.dns_addr", ":5353", HostPort("", 5353)),
    (
        "skydns.nameservers",
        "192.0.2.1,[fd00::1]:5353",
        (HostPort("192.0.2.1", 53), HostPort("fd00::1", 5353)),
    ),
    ("skydns.min_ttl", "7", 7),
]
#: SkyDNS's own settings are valid with these only.
SKYDNS = {"KUBE2ETCD_ETCD_API": "v2", "KUBE2ETCD_SKYDNS_CONFIG": "true"}


@pytest.mark.parametrize(("path", "text", "value"), VALUES, ids=[path for path, _, _ in VALUES])
def test_option_environment_and_file_agree(path: str, text: str, value: Any, write: Any) -> None:
    setting = next(setting for setting in SETTINGS if setting.path == path)
    option: Any = (text,) if setting.many else text
    environ = SKYDNS if path.startswith("skydns.") else {}
    found = attrgetter(path)
    assert found(load({setting.parameter: option}, environ)) == value
    assert found(load({}, {**environ, setting.variables[0]: text})) == value
    group, _, name = path.rpartition(".")
    body = f"{name}: {text!r}\n"
    assert found(load({}, environ, write(f"{group}:\n  {body}" if group else body))) == value


def test_option_overrides_environment_overrides_file(write: Any) -> None:
    file = write("domain: file.example\nttl: 1\nlog_level: error\n")
    environ = {"KUBE2ETCD_DOMAIN": "env.example", "KUBE2ETCD_TTL": "2", "DNS_DOMAIN": "dns.example"}
    settings = load({"domain": "option.example"}, environ, file)
    assert (str(settings.domain), settings.ttl, settings.log_level) == ("option.example", 2, "error")
    assert str(load({}, environ, file).domain) == "env.example"
    assert str(load({}, {"DNS_DOMAIN": "dns.example"}, file).domain) == "dns.example"


def test_list_is_replaced_not_extended() -> None:
    settings = load({"etcd_server": ("http://a:1",)}, {"KUBE2ETCD_ETCD_SERVER": "http://b:1"})
    assert settings.etcd == Etcd(servers=("http://a:1",))


def test_overridden_fault_is_ignored() -> None:
    assert load({"ttl": "9"}, {"KUBE2ETCD_TTL": "nine"}).ttl == 9


@pytest.mark.parametrize(("text", "expected"), [("true", False), ("1", False), ("YES", False), ("off", True)])
def test_flag_inverts_its_default(text: str, expected: bool, write: Any) -> None:
    assert load({}, {"KUBE2ETCD_NO_TENANT_CLUSTER_IP": text}).tenant_cluster_ip == expected
    assert not load({"no_tenant_cluster_ip": True}, {}).tenant_cluster_ip
    assert not load({}, {}, write("tenant_cluster_ip: false")).tenant_cluster_ip


def test_empty_vm_domain_is_the_zone_vm(write: Any) -> None:
    assert load({"vm_domain": ""}, {}).vm.domain == ""
    assert load({}, {"KUBE2ETCD_VM_DOMAIN": ""}).vm.domain == ""
    assert load({}, {}, write("vm: {domain: ''}")).vm.domain == ""
    assert load({}, {}, write("vm:\n")).vm.domain is None
    assert str(vm_zone("")) == "vm"
    assert str(vm_zone("sec.example")) == "vm.sec.example"


def test_allowed_networks_by_namespace(write: Any) -> None:
    ten, eleven = ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("11.0.0.0/8")
    vm = load({}, {}, write("vm: {allowed_networks: {dev: 10.0.0.0/8, none: []}}")).vm
    assert (vm.allowed_networks, vm.allowed_networks_in) == ((), {"dev": (ten,), "none": ()})
    file = write("vm: {allowed_networks: {dev: [10.0.0.0/8], '*': [11.0.0.0/8]}}")
    vm = load({}, {}, file).vm
    assert (vm.allowed_networks, vm.allowed_networks_in) == ((eleven,), {"dev": (ten,)})
    vm = load({"vm_allowed_networks": ("11.0.0.0/8",)}, {}, file).vm
    assert (vm.allowed_networks, vm.allowed_networks_in) == ((eleven,), {})


def test_empty_environment_value_is_ignored() -> None:
    assert load({}, {"KUBE2ETCD_TTL": "", "KUBE2ETCD_KUBECONFIG": " "}) == Settings()


def test_service_links_are_ignored() -> None:
    links = {
        "KUBE2ETCD_SERVICE_HOST": "10.0.0.1",
        "KUBE2ETCD_PORT": "tcp://10.0.0.1:8081",
        "KUBE2ETCD_PORT_8081_TCP_ADDR": "10.0.0.1",
        "KUBE2ETCD_LISTEN": "udp://10.0.0.2:53",
    }
    loaded = load_all({}, links)
    assert loaded.settings == Settings()
    assert [line.split()[0] for line in loaded.warnings] == ["KUBE2ETCD_LISTEN"]
    assert [line.split()[0] for line in loaded.remarks] == ["KUBE2ETCD_PORT", "environment"]


def test_misspelled_variable_causes_a_warning() -> None:
    loaded = load_all({}, {"KUBE2ETCD_DOMIAN": "x", "KUBE2ETCD_TTLS": "tcp://10.0.0.1:1", "KUBE2ETCD_X": "1"})
    [warning] = loaded.warnings
    assert warning == "KUBE2ETCD_DOMIAN is ignored: it is not a setting; did you mean KUBE2ETCD_DOMAIN?"
    # Service links of Services with names like ours.
    parts = ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_DNS", "PORT_53_TCP_PORT", "PORT_53_UDP_PROTO"]
    names = ("", "_DNS", "_WEBHOOK", "_HOSTS")
    assert load_all({}, {f"KUBE2ETCD{name}_{part}": "1" for name in names for part in parts}).warnings == ()


def test_faults_of_zones_name_their_position(write: Any) -> None:
    """Also after a zone that is left out."""
    file = write("zones: [{zone: a..b}, {zone: c.d}, {zone: c.d}]")
    found = faults({"domain": "c.d"}, {}, file)
    assert len(found) == 3
    assert found[1:] == [
        f"{file}: zones[{number}].zone and --domain are both the zone c.d; give each its own name"
        for number in (1, 2)
    ]


INVALID = [
    ("corefile_import", "/etc/coredns/mine", "with one * in it"),
    ("corefile_import", "custom/*", "a full path"),
    ("corefile_import", "/etc/a b/*", "without blanks"),
    ("domain", "a..b", "not a DNS name"),
    ("domain", "a" * 64, "64 characters"),
    ("domain", "stra\u00dfe.test", "xn--"),
    ("ttl", "0", "from 1 to 2147483647"),
    ("ttl", "2147483648", "from 1 to 2147483647"),
    ("ttl", "thirty", "'thirty'"),
    ("pods", "verifyed", "did you mean verified?"),
    ("dns_server_ip", "10.0.0.300", "'10.0.0.300'"),
    ("dns_server_ip", "fe80::1%eth0", "one IP address"),
    ("dns_server_ip", "[fd00::1]", "without brackets"),
    ("listen", "::1", "[::1]:8081"),
    ("listen", "host:70000", "65535"),
    ("listen", "[1.2.3.4]:80", "in brackets"),
    ("listen", "host", "HOST:PORT"),
    ("listen", "10.0.0.300:80", "HOST:PORT"),
    ("vm_reverse", "10.0.0.1/8", "10.10.0.0/16"),
    ("etcd_server", "127.0.0.1:2379", "http://127.0.0.1:2379"),
    ("etcd_server", "http://a:99999", "with a port up to 65535"),
    ("etcd_server", "a", "with http:// or https:// in front"),
    ("etcd_server", "http://::1:2379", "in brackets"),
    ("etcd_server", "http://stra\u00dfe:1", "URL"),
    ("etcd_server", "http://a:1?b=c", "without ? and #"),
    ("etcd_server", "http://a:1/v2", "without a path"),
    ("etcd_server", "http://a:0", "a bad host or port"),
    ("etcd_server", "http://a;b:1", "a bad host or port"),
    ("etcd_server", "http://[::1", "write a URL"),
    ("etcd_server", "unix:///run/etcd.sock", "write a URL"),
    ("etcd_server", "http://u:hidden@a:1", "user name or password"),
    ("etcd_server", "ftp://u:hidden@a:1", "ftp://***@a"),
    ("etcd_server", "u:hidden@a:1", "'***@a"),
    ("etcd_server", "http://u:hid/den@[a", "http://***@[a"),
    ("etcd_server", "http://a:1,https://b:1", "mixes http and https"),
    ("etcd_server", ",", "names no server"),
    ("etcd_prefix", "skydns", "/skydns"),
    ("etcd_prefix", "/", "/skydns"),
    ("etcd_prefix", "/one/two", "of one part"),
    ("etcd_cert", "c", "needs --etcd-key"),
    ("kube_master_url", "10.0.0.1:443", "https://10.96.0.1:443"),
    ("kubeconfig", "a\0b", "not a file name"),
    ("owner_id", "a b", "63 letters"),
    ("resync_period", "0", "such as 5m"),
    ("resync_period", "soon", "such as 5m"),
    ("no_tenant_cluster_ip", "perhaps", "true or false"),
    ("name_server_ip", "192.0.2.1", "needs --vm-domain"),
    ("vm_domain", ".".join(["a" * 62] * 4), "too long"),
    ("upstream", "a {", "resolv.conf"),
    ("upstream", "192.0.2.53 dns.example", "resolv.conf"),
    ("upstream", "192.0.2", "or none"),
    ("skydns_nameserver", "dns.example", "the IP address of a DNS server"),
    ("cache", "-1", "from 0"),
]


@pytest.mark.parametrize(
    ("parameter", "text", "hint"), INVALID, ids=[f"{p}-{t[:20]!r}" for p, t, _ in INVALID]
)
def test_invalid_value_is_one_fault_with_its_source_and_a_hint(parameter: str, text: str, hint: str) -> None:
    setting = next(setting for setting in SETTINGS if setting.parameter == parameter)
    for found, where in (
        (faults({parameter: (text,) if setting.many else text}, {}), f"--{setting.option}"),
        (faults({}, {setting.variables[0]: text}), setting.variables[0]),
    ):
        assert len(found) == 1
        assert found[0].startswith(where)
        assert hint in found[0]
        assert "hidden" not in found[0]


INVALID_FILES = [
    ("- a\n- b", "a list"),
    ("domain: [", "cannot be read as YAML"),
    ("domain: a.b\ndomain: c.d", "line 2, column 1: the key domain appears twice"),
    ("domain: a.b\n---\nttl: 5", "holds 2 documents; write one"),
    ("zones: &a [*a]", "a value contains itself"),
    ("ttl: " + "[" * 1000, "nested too deeply"),
    ("ttl: " + "9" * 5000, "not a valid int"),
    ("domian: x", "did you mean domain?"),
    ("etcd: {certfile: x}", "etcd.certfile is not a setting"),
    ("etcd: 5", "write a mapping"),
    ("etcd: http://u:hidden@a:1", "'http://***@a:1'; write a mapping"),
    ("5: x", "5 is not a setting"),
    ("on: x", "true is not a setting"),
    ('"a\\nb": x', r"'a\nb' is not a setting"),
    ("null: x", ": a value has no key (null); write the name of a setting"),
    ("etcd: {~: x}", ": etcd: a value has no key"),
    ("zones: [{zone: a.b, ~: x}]", "zones[0]: a value has no key"),
    ("vm: {allowed_networks: {~: 10.0.0.0/8}}", "allowed_networks: a value has no key"),
    ('vm: {allowed_networks: {dev: ""}}', "vm.allowed_networks.dev is empty; write networks, or [] for none"),
    ("vm: {allowed_networks: {on: 10.0.0.0/8}}", "the key true is true (yes or no); write text in quotes"),
    ("vm-domain: a.b", "vm-domain is not a setting; did you mean vm.domain?"),
    ("vm.domain: a.b", "vm.domain is not a setting; write domain: below vm:"),
    ("etcd: {etcd_server: x}", "etcd.etcd_server is not a setting; did you mean etcd.servers?"),
    ("kubecfg-file: x", "did you mean cluster.kubeconfig?"),
    ("ttl: true", "true (yes or no)"),
    ("ttl: [1]", "a list"),
    ("domain: 5", "text in quotes"),
    ("domain: {a: b}", "a mapping"),
    ("listen_page: []", "is a list; write text"),
    ("log_level: false", "false (yes or no)"),
    ("etcd: {servers: [7]}", "7; write text"),
    ("etcd: {cafile: ca, servers: ['http://a:1']}", "plain http"),
    ("vm: {allowed_networks: {A_B: 10.0.0.0/8}}", "allowed_networks: the key A_B is"),
    ("vm: {allowed_networks: {dev: [10.0.0.0/8, x]}}", "vm.allowed_networks.dev[1] is 'x'"),
    ("vm: {allowed_networks: {dev: x}}", "vm.allowed_networks.dev is 'x'"),
    ("zones: {a: b}", "list of zones"),
    ("zones: [5]", "zones[0] is 5"),
    ("zones: [{selector: a=b}]", "zones[0] has no name"),
    ("zones: [{zone: a.b, adresses: []}]", "did you mean addresses?"),
    ("zones: [{zone: a.b, addresses: []}]", "zones[0].addresses is empty; leave it out for the default"),
    ("zones: [{zone: a.b, addresses: ''}]", "zones[0].addresses is empty; leave it out"),
    ("zones: [{zone: a.b, namespaces: ' , '}]", "zones[0].namespaces is empty; leave it out"),
    ("zones: [{zone: a.b, namespaces: }]", "zones[0].namespaces is empty; write text"),
    ("zones: [{zone: a.b, selector: }]", "zones[0].selector is empty; write text"),
    ("zones: [{zone: a.b, ttl: }]", "zones[0].ttl is empty; write whole seconds"),
    ("zones: [{zone: }]", "zones[0].zone is empty"),
    ("zones: [{zone: a.b, addresses: [external, outer]}]", "zones[0].addresses[1]"),
    ("zones: [{zone: a.b, namespaces: [A_B]}]", "name of a namespace"),
    ("zones: [{zone: a.b, selector: ' '}]", "leave it out"),
    ("zones: [{zone: a.b, selector: 'a=b,=c'}]", "key in (a, b)"),
    ("zones: [{zone: a.b, name: '{pod}'}]", "{service}"),
    ("zones: [{zone: a.b, name: '{service'}]", "not a template"),
    ("zones: [{zone: a.b, ttl: 0}]", "zones[0].ttl is 0"),
    ("etcd_servers: x", "did you mean etcd.servers?"),
    ("servers: x", "did you mean etcd.servers?"),
    ("api: v2", "did you mean etcd.api?"),
    ("TTLS: 5", "did you mean ttl?"),
    ("zones: [{zone: CLUSTER.local}]", "are both the zone cluster.local"),
    ("zones: [{zone: svc.cluster.local}]", "would hide names of the cluster at svc.cluster.local"),
    ("vm: {domain: dns.cluster.local}", "vm.domain: the zone vm.dns.cluster.local would hide"),
    ("zones: [{zone: 10.in-addr.arpa}]", "is for PTR records"),
    ("domain: ip6.arpa", "domain: the zone ip6.arpa is for PTR records"),
    ("zones: [{zone: a.b, name: '{service!r}'}]", "write a template"),
    ("zones: [{zone: a.b, name: '{service:>1000000000}'}]", "write a template"),
    ('etcd: {cafile: "a }\\n x"}', "is not a file name"),
    ("vm: {domain: ''}\ndomains: [vm]", "are both the zone vm"),
    ("domains: [a..b]", "domains[0] cannot be used: 'a..b' is no domain"),
    ("domains: [k8s.any.example]", "the label 'any' is a wildcard"),
    ("domains: [ip6.arpa]", "has all reverse names"),
    ("domains: [a.b, .a.b, .cluster.local]", "domains and --domain are both the zone cluster.local"),
    (
        "zones: [{zone: a.b}]\ndomains: [apex.dns.a.b]",
        "would hide the apex and name servers of a.b at dns.a.b",
    ),
    ("vm: {domain: a.b}\nzones: [{zone: dns.vm.a.b}]", "would hide the apex and name servers of vm.a.b"),
    (
        "vm: {domain: a.b, name_server_ip: 192.0.2.53}\ndomains: [ns.vm.a.b]",
        "would hide the name server of vm.a.b at ns.vm.a.b",
    ),
    ("zones: [{zone: a.b}]\ndomains: [x.web.shop.a.b]", "below the names of objects in a.b"),
    ("zones: [{zone: a.b, name: '{service}'}, {zone: x.web.a.b}]", "below the names of objects in a.b"),
    ("vm: {domain: a.b}\ndomains: [.eth0.m.shop.vm.a.b]", "below the names of objects in vm.a.b"),
    (
        "domain: dns.a.b\nzones: [{zone: a.b}]",
        "domain: the zone dns.a.b would hide the apex and name servers of a.b at dns.a.b",
    ),
    ("domains: [x.svc.cluster.local]", "would hide names of the cluster at svc.cluster.local"),
    ("domains: [.dns-version.cluster.local]", "would hide names of the cluster at dns-version.cluster.local"),
    ("webhook: {cluster_ip: [192.0.2.1, 192.0.2.2]}", "two addresses of one family"),
    (
        "webhook: {state_prefix: /skydns/state}",
        "settings.yaml: webhook.state_prefix would lie among",
    ),
    ("webhook: {inside: true}\netcd: {prefix: /kube2etcd}", "--state-prefix /kube2etcd"),
    ("webhook: {inside: true, state_objects: dns}", "needs --dns-endpoints beside --webhook"),
    ("webhook: {inside: true}\netcd: {api: v2}", "needs CoreDNS and the v3 API"),
    ("webhook: {bind: 'a b'}", "write an address of this machine"),
]


@pytest.mark.parametrize(("text", "hint"), INVALID_FILES, ids=[text for text, _ in INVALID_FILES])
def test_invalid_file_is_one_fault(text: str, hint: str, write: Any) -> None:
    found = faults({}, {}, write(text))
    assert len(found) == 1
    assert hint in found[0]


def test_missing_file(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in faults({}, {}, tmp_path / "no.yaml")[0]


@pytest.mark.parametrize("text", ["", "# nothing\n", "zones:\n", "ttl:\n"])
def test_empty_file_sets_nothing(text: str, write: Any) -> None:
    assert load({}, {}, write(text)) == Settings()


def test_all_faults_are_reported_at_once(write: Any) -> None:
    file = write("domian: x\npods: no-such\nzones: [{zone: 'a..b', ttl: -1}]\n")
    found = faults({"ttl": "x", "listen": "y", "etcd_user": "u"}, {"KUBE2ETCD_LOG_LEVEL": "loud"}, file)
    assert len(found) == 8


def test_many_domains_are_not_compared_pairwise(monkeypatch: pytest.MonkeyPatch) -> None:
    def counted(name: Name, other: Name) -> bool:
        compared.append(name)
        return below(name, other)

    below, compared = Name.below, list[Name]()
    monkeypatch.setattr(Name, "below", counted)
    domains = tuple(f"d{number}.vm.a.b" for number in range(1000))
    load({"vm_domain": "a.b", "domains": domains}, {})
    assert len(compared) < 20 * len(domains)


def test_zones_of_services(write: Any) -> None:
    file = write(
        """
        zones:
          - zone: customerB.stage.local
            selector: environment=staging,tenant=customerB
          - zone: shop.example
            namespaces: [shop, checkout]
            addresses: [internal]
            name: "{service}"
            ttl: 5
            wildcards: true
        """
    )
    customer, shop = load({}, {}, file).zones
    selector = Selector.parse("environment=staging,tenant=customerB")
    assert customer == ZoneSettings(Name.parse("customerb.stage.local"), selector=selector)
    fields: dict[str, Any] = {"addresses": ("internal",), "name": "{service}", "ttl": 5, "wildcards": True}
    assert shop == ZoneSettings(Name.parse("shop.example"), ("shop", "checkout"), **fields)


@pytest.mark.parametrize("value", [":8081", "[::]:8081", "a-b.c:1", "8081", 8081])
def test_host_and_port_round_trip(value: str | int) -> None:
    assert str(parse_host_port(value)) == (value if ":" in str(value) else ":8081")


def test_random_files_raise_only_settings_errors(write: Any) -> None:
    rng = random.Random(1)
    leaves = ["5", "true", "null", "[]", "{}", "[1, a]", "{a: 1}", "'x'", "''", "1e400", "2026-01-01", "-0"]
    keys = [*sorted({setting.path.partition(".")[0] for setting in SETTINGS}), "zones", "other", "5", "null"]
    for _ in range(200):
        lines = [f"{key}: {rng.choice(leaves)}" for key in rng.sample(keys, 6)]
        lines.append(f"etcd: {{{rng.choice(['servers', 'cert', 'user', 'x'])}: {rng.choice(leaves)}}}")
        lines.append(
            f"zones: [{{zone: a.b, {rng.choice(['ttl', 'name', 'addresses'])}: {rng.choice(leaves)}}}]"
        )
        text = "\n".join({line.partition(":")[0]: line for line in lines}.values())
        with contextlib.suppress(SettingsError):
            load({}, {}, write(text))


COMBINATIONS = [
    ({"leader_elect": True, "etcd_api": "v2"}, "--leader-elect needs leases"),
    ({"no_cluster_zone": True}, "--no-cluster-zone leaves nothing to publish; name --vm-domain"),
    (
        {"no_cluster_zone": True, "vm_domain": "a.b", "etcd_api": "v2"},
        "--no-cluster-zone leaves SkyDNS nothing",
    ),
    ({"skydns_config": "true"}, "--skydns-config is for SkyDNS; write --etcd-api v2 as well"),
    ({"etcd_api": "v2", "skydns_min_ttl": "5"}, "--skydns-min-ttl is written only with --skydns-config true"),
    ({"etcd_api": "v2", "domains": ("dtk.io",)}, "--domains needs CoreDNS: SkyDNS serves one domain"),
]


@pytest.mark.parametrize(("options", "fault"), COMBINATIONS, ids=[fault for _, fault in COMBINATIONS])
def test_settings_that_exclude_or_need_each_other(options: dict[str, Any], fault: str) -> None:
    (found,) = faults(options, {})
    assert found.startswith(fault)
