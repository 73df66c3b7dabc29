"""The Corefile's text: every rule of the data is in it, every setting has its line, and braces close."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from skydns_compat.corefile import Block, CorefileSettings, Subzone, blocks, corefile
from skydns_compat.names import Name
from skydns_compat.reader_served import as_python

PLAIN = CorefileSettings(Name.parse("cluster.local"))
VM = Subzone(Name.parse("vm.example"), 2, 0, listen="127.0.0.1:5353", name_server=True)
SHOP = Subzone(Name.parse("shop.example"), 1, ordered=True)
OPEN = Subzone(Name.parse("open.example"), 2, None, wildcards=True)

VARIANTS = {
    "plain": PLAIN,
    "pods insecure": replace(PLAIN, pods="insecure"),
    "pods verified": replace(PLAIN, pods="verified"),
    "alone": replace(PLAIN, upstream="none"),
    "bare": replace(PLAIN, cache=0, health="", ready="", prometheus=""),
    "zones beside": replace(PLAIN, subzones=(VM, SHOP, OPEN)),
    "no cluster zone": replace(PLAIN, subzones=(VM, SHOP), cluster=False, reverse=()),
}


@pytest.fixture(params=VARIANTS)
def settings(request: pytest.FixtureRequest) -> CorefileSettings:
    return VARIANTS[request.param]


def rules(settings: CorefileSettings) -> list[str]:
    """The lines without comments and indentation."""
    return [
        line.strip() for line in corefile(settings).splitlines() if line.strip() and line.strip()[0] != "#"
    ]


def patterns(block: Block) -> list[str]:
    return [
        *(one.pattern for one in block.rewrites),
        *(one.back[0] for one in block.rewrites if one.back),
        *(pattern for one in block.templates for pattern in one.patterns),
    ]


def test_every_pattern_is_in_the_text_and_is_one_word(settings: CorefileSettings) -> None:
    text = " ".join(corefile(settings).split())
    for block in blocks(settings):
        for pattern in patterns(block):
            assert f" {pattern} " in text
            assert " " not in pattern
            re.compile(as_python(pattern))
            # What RE2 has not: looking around and back.
            assert not re.search(r"\(\?[=!<](?!P)|\\[1-9]|\(\?P=", pattern)


def test_replacements_name_groups_that_are_there(settings: CorefileSettings) -> None:
    for rewrite in (one for block in blocks(settings) for one in block.rewrites):
        for pattern, replacement in (
            (rewrite.pattern, rewrite.replacement),
            *([rewrite.back] if rewrite.back else []),
        ):
            groups = re.compile(as_python(pattern)).groups
            assert all(1 <= int(number) <= groups for number in re.findall(r"{(\d)}", replacement))


def test_answers_name_groups_that_are_there(settings: CorefileSettings) -> None:
    for template in (one for block in blocks(settings) for one in block.templates):
        wanted = set(re.findall(r"\.Group\.(\w+)", template.answer))
        named = {name for pattern in template.patterns for name in re.compile(as_python(pattern)).groupindex}
        assert not template.answer or wanted >= named


def test_braces_close(settings: CorefileSettings) -> None:
    depth = 0
    for line in rules(settings):
        depth += line.endswith(" {") - (line == "}")
        assert 0 <= depth <= 2
    assert depth == 0


def test_templates_pass_on_what_they_do_not_match(settings: CorefileSettings) -> None:
    lines = rules(settings)
    count = sum(line.startswith("template ") for line in lines)
    own = sum(block.fallthrough for block in blocks(settings))
    assert lines.count("fallthrough") == count + own


def test_every_block_asks_etcd(settings: CorefileSettings) -> None:
    lines = rules(settings)
    found = [line for line in lines if line.startswith("etcd ")]
    assert found == [f"etcd {' '.join(map(str, block.backend))} {{" for block in blocks(settings)]
    assert lines.count("path /skydns") == lines.count("endpoint http://127.0.0.1:2379") == len(found)


def test_no_zone_is_served_twice(settings: CorefileSettings) -> None:
    zones = [zone for block in blocks(settings) for zone in block.zones]
    assert len(set(zones)) == len(zones)


def test_doors_are_opened_once(settings: CorefileSettings) -> None:
    lines = rules(settings)
    for door in ("health", "ready"):
        assert sum(line.startswith(f"{door} ") for line in lines) == bool(getattr(settings, door))
    assert lines.count("reload 2s 1s") == 1


@pytest.mark.parametrize(
    ("change", "present", "absent"),
    [
        pytest.param(
            {}, ["cache 30 {", "denial 9984 5", "forward . /etc/resolv.conf", ".:53 {"], ["bind"], id="plain"
        ),
        pytest.param({"cache": 0}, [], ["cache", "denial"], id="no cache"),
        pytest.param({"cache": 3}, ["cache 3 {", "denial 9984 3"], [], id="a short cache"),
        pytest.param({"upstream": "none"}, [], ["forward", "loop", ".:53"], id="no upstream"),
        pytest.param({"upstream": "192.0.2.53"}, ["forward . 192.0.2.53", "loop"], [], id="upstream"),
        pytest.param({"listen": "10.0.0.10:5300"}, ["bind 10.0.0.10", ".:5300 {"], [], id="an address"),
        pytest.param({"listen": "[fd00::1]:53"}, ["bind fd00::1", ".:53 {"], [], id="an IPv6 address"),
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
        pytest.param({"subzones": (VM,)}, ["vm.example:5353 {", "bind 127.0.0.1"], [], id="door"),
    ],
)
def test_settings(change: dict[str, Any], present: list[str], absent: list[str]) -> None:
    lines = rules(replace(PLAIN, **change))
    for line in present:
        assert line in lines
    for word in absent:
        assert not [line for line in lines if line == word or line.startswith((f"{word} ", f"{word}:"))]


def test_the_order_of_addresses_is_kept_where_it_is_asked_for() -> None:
    text = corefile(replace(PLAIN, subzones=(SHOP,)))
    block = text[text.index("shop.example:53 {") :].split("\n}\n")[0]
    assert "loadbalance" not in block


def test_without_the_cluster_zone_nothing_names_it() -> None:
    text = corefile(VARIANTS["no cluster zone"])
    assert "kube2etcd corefile --no-cluster-zone" in text
    assert "cluster.local" not in text
    assert "arpa" not in text


def test_the_text_says_how_it_was_made() -> None:
    assert corefile(PLAIN).startswith("# Made by: kube2etcd corefile --domain cluster.local\n")


def test_a_word_with_blanks_or_brackets_stays_one_word() -> None:
    odd = replace(
        PLAIN, etcd_cert="/my certs/a.crt", etcd_key="/k{1}", etcd_cafile="/ca.crt", etcd_user='a "b"'
    )
    found = rules(odd)
    assert 'tls "/my certs/a.crt" "/k{1}" /ca.crt' in found
    assert 'credentials "a \\"b\\"" {$ETCD_PASSWORD}' in found
