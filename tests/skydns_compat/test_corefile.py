"""The Corefile's text contains every rule and setting, and is well-formed."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st
from msgspec.structs import replace

from skydns_compat.corefile import Block, CorefileSettings, Subzone, blocks, corefile
from skydns_compat.names import Name
from skydns_compat.reader import Entries
from skydns_compat.reader_served import served_answer

PLAIN = CorefileSettings(Name.parse("cluster.local"))
VM = Subzone(Name.parse("vm.example"), 2, 0, listen="127.0.0.1:5353", name_server=True)
SHOP = Subzone(Name.parse("shop.example"), 1, ordered=True)
NESTED = Subzone(Name.parse("shop.cluster.local"))
OPEN = Subzone(Name.parse("open.example"), 2, None, wildcards=True)

VARIANTS = {
    "plain": PLAIN,
    "pods insecure": replace(PLAIN, pods="insecure"),
    "pods verified": replace(PLAIN, pods="verified"),
    "no upstream": replace(PLAIN, upstream="none"),
    "no cache, probes or metrics": replace(PLAIN, cache=0, health="", ready="", prometheus=""),
    "further zones": replace(PLAIN, subzones=(VM, SHOP, OPEN)),
    "nested zone": replace(PLAIN, subzones=(NESTED,)),
    "external": replace(PLAIN, subzones=(SHOP,), external=(Name.parse("dtk.io"),)),
    "no cluster zone": replace(PLAIN, subzones=(VM, SHOP), cluster=False, reverse=()),
}
INSECURE = blocks(replace(PLAIN, pods="insecure"))


@pytest.fixture(params=VARIANTS)
def settings(request: pytest.FixtureRequest) -> CorefileSettings:
    return VARIANTS[request.param]


def rules(settings: CorefileSettings) -> list[str]:
    return [
        line.strip() for line in corefile(settings).splitlines() if line.strip() and line.strip()[0] != "#"
    ]


def patterns(block: Block) -> list[str]:
    return [
        *(one.pattern for one in block.rewrites if not one.suffix),
        *(pattern for one in block.rewrites for _, pattern, _ in one.answers),
        *(pattern for one in block.templates for pattern in one.patterns),
    ]


def test_patterns_are_in_the_text_and_have_the_groups_used(settings: CorefileSettings) -> None:
    text = " ".join(corefile(settings).split())
    for block in blocks(settings):
        for rewrite in (one for one in block.rewrites if not one.suffix):
            pairs = [(rewrite.pattern, rewrite.replacement), *(answer[1:] for answer in rewrite.answers)]
            for pattern, replacement in pairs:
                groups = re.compile(pattern).groups
                assert all(1 <= int(number) <= groups for number in re.findall(r"{(\d)}", replacement))
        for pattern in patterns(block):
            assert f" {pattern} " in text
            assert " " not in pattern
            re.compile(pattern)
            # RE2 has neither lookaround nor backreferences.
            assert not re.search(r"\(\?[=!<](?!P)|\\[1-9]|\(\?P=", pattern)


@pytest.mark.parametrize("pods", ["disabled", "insecure", "verified"])
def test_length_is_limited(pods: str) -> None:
    def lines(**more: Any) -> int:
        return corefile(replace(PLAIN, pods=pods, **more)).count("\n")

    external = Name.parse("dtk.io")
    assert lines() <= 110
    assert lines(subzones=(VM,)) <= 110 + 45
    assert lines(subzones=(VM, SHOP, OPEN, NESTED), external=(external,)) <= 110 + 5 * 45


def test_one_server_block_per_zone_and_one_view() -> None:
    found = blocks(replace(PLAIN, subzones=(VM, SHOP, NESTED), upstream="none"))
    zones = [zone for block in found for zone in block.zones if not block.only]
    assert len(set(zones)) == len(zones)
    assert [block.only for block in found if block.only] == ["PTR"]


def test_ds_is_answered_by_the_parent_zone() -> None:
    cluster, nested, vm, *_ = blocks(replace(PLAIN, subzones=(NESTED, VM)))
    assert [(one.rtype, one.rcode, one.zone) for one in cluster.templates[:1]] == [
        ("DS", "NOERROR", NESTED.zone)
    ]
    for block in (nested, vm):
        assert not [one for one in block.templates if one.rtype == "DS"]


@settings_of_hypothesis(max_examples=300)
@given(st.lists(st.sampled_from(["", "0", "1", "f00d", "10", "255", "256", "01", "g", "12345"]), max_size=10))
def test_pod_name_is_answered_if_its_label_is_an_address(groups: list[str]) -> None:
    """As by Go's net.ParseIP, which CoreDNS's kubernetes plugin uses."""
    label = "-".join(groups) or "x"
    rtype, separator = ("A", ".") if label.count("-") == 3 and "--" not in label else ("AAAA", ":")
    found = served_answer(Entries({}), INSECURE, f"{label}.shop.pod.cluster.local", rtype)
    try:
        address = ipaddress.ip_address(label.replace("-", separator))
    except ValueError:
        assert found.rcode == "NXDOMAIN"
    else:
        assert [one.data for one in found.answers] == [str(address)]


def test_text_is_well_formed(settings: CorefileSettings) -> None:
    """Braces close, snippets match their imports, and singleton plugins appear once.

    Without ``fallthrough`` a template answers SERVFAIL for every other name.
    """
    lines = rules(settings)
    heads: list[str] = []
    falls_through = False
    for line in lines:
        falls_through |= line in ("fallthrough", "import negative")
        if line == "}":
            head = heads.pop()
            assert falls_through or not head.startswith("template ")
        elif line.endswith(" {"):
            heads.append(line)
            falls_through = False
        assert len(heads) <= 2
    assert not heads
    snippets = {line[1:-3] for line in lines if line.startswith("(")}
    assert snippets == {line.split()[1] for line in lines if line.startswith("import ")}
    etcd_lines = [line for line in lines if line.startswith("etcd ")]
    assert etcd_lines == [f"etcd {' '.join(map(str, one.zones))} {{" for one in blocks(settings) if one.etcd]
    for probe in ("health", "ready"):
        assert sum(line.startswith(f"{probe} ") for line in lines) == bool(getattr(settings, probe))
    for line in ("path /skydns", "endpoint http://127.0.0.1:2379", "reload 2s 1s"):
        assert lines.count(line) == 1


@pytest.mark.parametrize(
    ("change", "present", "absent"),
    [
        pytest.param(
            {}, ["cache 30 {", "denial 9984 5", "forward . /etc/resolv.conf", ".:53 {"], ["bind"], id="plain"
        ),
        pytest.param({"cache": 0}, [], ["cache", "denial"], id="no cache"),
        pytest.param({"cache": 3}, ["cache 3 {", "denial 9984 3"], [], id="short cache"),
        pytest.param({"upstream": "none"}, [], ["forward", "loop", ".:53"], id="no upstream"),
        pytest.param({"upstream": "192.0.2.53"}, ["forward . 192.0.2.53", "loop"], [], id="upstream"),
        pytest.param({"listen": "10.0.0.10:5300"}, ["bind 10.0.0.10", ".:5300 {"], [], id="listener address"),
        pytest.param({"listen": "[fd00::1]:53"}, ["bind fd00::1", ".:53 {"], [], id="IPv6 listener address"),
        pytest.param({"prometheus": ""}, [], ["prometheus"], id="no metrics"),
        pytest.param({"health": "", "ready": ""}, ["reload 2s 1s"], ["health", "ready"], id="no probes"),
        pytest.param({"etcd_prefix": "/names"}, ["path /names"], ["path /skydns"], id="prefix"),
        pytest.param(
            {"etcd_servers": ("http://a:1", "http://b:2")},
            ["endpoint http://a:1 http://b:2"],
            [],
            id="servers",
        ),
        pytest.param({"etcd_cafile": "/ca"}, ["tls /ca"], ["credentials"], id="CA"),
        pytest.param(
            {"etcd_cafile": "/ca", "etcd_cert": "/c", "etcd_key": "/k"}, ["tls /c /k /ca"], [], id="mTLS"
        ),
        pytest.param({"etcd_user": "dns"}, ["credentials dns {$ETCD_PASSWORD}"], ["tls"], id="user"),
        pytest.param({"subzones": (SHOP,)}, ["shop.example:53 {", "etcd shop.example {"], [], id="zone"),
        pytest.param({"subzones": (VM,)}, ["vm.example:5353 {", "bind 127.0.0.1"], [], id="listener"),
    ],
)
def test_settings(change: dict[str, Any], present: list[str], absent: list[str]) -> None:
    lines = rules(replace(PLAIN, **change))
    for line in present:
        assert line in lines
    for word in absent:
        assert not [line for line in lines if line == word or line.startswith((f"{word} ", f"{word}:"))]


def test_ordered_zones_do_not_shuffle_addresses() -> None:
    text = corefile(replace(PLAIN, subzones=(SHOP,)))
    block = text[text.index("shop.example:53 {") :].split("\n}\n")[0]
    assert "import ordered" in block
    assert "import common" not in block
    assert "loadbalance" not in text[text.index("(ordered) {") :].split("\n}\n")[0]


def test_text_names_the_command() -> None:
    assert corefile(PLAIN).startswith("# Made by: kube2etcd corefile --domain cluster.local\n")
    text = corefile(VARIANTS["no cluster zone"])
    assert text.startswith("# Made by: kube2etcd corefile --no-cluster-zone\n")
    assert not re.search(r"cluster\.local|arpa", text)


def test_arguments_with_spaces_or_braces_are_quoted() -> None:
    settings = replace(
        PLAIN, etcd_cert="/my certs/a.crt", etcd_key="/k{1}", etcd_cafile="/ca.crt", etcd_user='a "b"'
    )
    found = rules(settings)
    assert 'tls "/my certs/a.crt" "/k{1}" /ca.crt' in found
    assert 'credentials "a \\"b\\"" {$ETCD_PASSWORD}' in found
