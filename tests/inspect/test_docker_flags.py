from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from kube2etcd.atomic import version
from kube2etcd.cli import main
from kube2etcd.errors import SettingsError
from kube2etcd.inspect.docker_flags import FORMATS, ClientDns, DaemonJsonError, daemon_json, merged
from skydns_compat.names import Name, parse_address

DOMAIN = Name.parse("kubernetes.local")
SEARCH = ["default.svc.kubernetes.local", "svc.kubernetes.local", "kubernetes.local"]
AS_JSON = b'["default.svc.kubernetes.local", "svc.kubernetes.local", "kubernetes.local"]'
KEYS = {"dns": ["10.0.0.10"], "dns-search": SEARCH}


def client(*servers: str, domain: Name = DOMAIN, namespace: str = "default", ndots: int | None = None) -> Any:
    addresses = tuple(parse_address(server) for server in servers or ("10.0.0.10",))
    return ClientDns(addresses, domain, namespace, ndots)


SEARCH_FLAGS = "--dns-search svc.kubernetes.local --dns-search kubernetes.local"
FULL = client("10.0.0.10", "fd00::a", namespace="shop", ndots=5)
RESOLV_CONF = """\
# Made by: kube2etcd docker-flags --format resolv.conf
search shop.svc.kubernetes.local svc.kubernetes.local kubernetes.local
nameserver 10.0.0.10
nameserver fd00::a
options ndots:5
"""
KUBELET = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "clusterDNS": ["10.0.0.10", "fd00::"],
    "clusterDomain": "1.10",
}


def test_formats() -> None:
    assert FORMATS["flags"](client()) == (
        f"--dns 10.0.0.10 --dns-search default.svc.kubernetes.local {SEARCH_FLAGS}\n"
    )
    assert FORMATS["flags"](FULL) == (
        f"--dns 10.0.0.10 --dns fd00::a --dns-search shop.svc.kubernetes.local {SEARCH_FLAGS}"
        " --dns-opt ndots:5\n"
    )
    assert json.loads(FORMATS["daemon.json"](client())) == KEYS
    full = json.loads(daemon_json(client("10.0.0.10", "fd00::a", ndots=0)))
    assert full == {"dns": ["10.0.0.10", "fd00::a"], "dns-search": SEARCH, "dns-opts": ["ndots:0"]}
    numeric = client("10.0.0.10", "fd00::", domain=Name.parse("1.10"), ndots=5)
    assert yaml.safe_load(FORMATS["kubelet"](numeric)) == KUBELET, "strings are quoted"
    assert FORMATS["resolv.conf"](FULL) == RESOLV_CONF
    assert "options" not in FORMATS["resolv.conf"](client())


@pytest.mark.parametrize(
    ("servers", "domain", "message"),
    [
        (["10.0.0.1"], ".".join(["a" * 60] * 4), "too long to prepend default"),
        *((["10.0.0.1", one], "a", "is not a server's address") for one in ("0.0.0.0", "::", "224.0.0.251")),
        (["ff02::fb"], "a", "is not a server's address"),
    ],
)
def test_unusable_servers_and_domains_are_refused(servers: list[str], domain: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        client(*servers, domain=Name.parse(domain))


@pytest.mark.parametrize("server", ["127.0.0.53", "::1"])
def test_loopback_servers_are_refused_for_containers(server: str) -> None:
    for form in ("flags", "daemon.json", "kubelet"):
        with pytest.raises(SettingsError, match="the container itself"):
            FORMATS[form](client(server))
    assert f"nameserver {server}\n" in FORMATS["resolv.conf"](client(server))


# --- merge


DIGITS = b"9" * 5000
MERGED = {
    "tabs, numbers and escapes as typed": (
        b'{\n\t"log-level": "warn",\n\t"big": 1e400, "same": 1.0,\n\t"u": "\\u00e9/\\/"\n}\n',
        b'{\n\t"log-level": "warn",\n\t"big": 1e400, "same": 1.0,\n\t"u": "\\u00e9/\\/",\n\t'
        b'"dns": ["10.0.0.10"],\n\t"dns-search": ' + AS_JSON + b"\n}\n",
    ),
    "replaced in place": (
        b'{"dns": [\n    "8.8.8.8"\n  ], "dns-search" : null, "z": {"dns": 1}}',
        b'{"dns": ["10.0.0.10"], "dns-search" : ' + AS_JSON + b', "z": {"dns": 1}}',
    ),
    "one line": (b'{"a":1}', b'{"a":1, "dns": ["10.0.0.10"], "dns-search": ' + AS_JSON + b"}"),
    "CRLF and other duplicate keys": (
        b'{\r\n  "dns": [],\r\n  "a": "",\r\n  "a": 2}',
        b'{\r\n  "dns": ["10.0.0.10"],\r\n  "a": "",\r\n  "a": 2,\r\n  "dns-search": ' + AS_JSON + b"}",
    ),
    "very long integer": (
        b'{"a": ' + DIGITS + b"}",
        b'{"a": ' + DIGITS + b', "dns": ["10.0.0.10"], "dns-search": ' + AS_JSON + b"}",
    ),
    "blank": (b" \r\n", daemon_json(client()).encode()),
    "empty object": (b"{ }\n", daemon_json(client()).encode()),
    "byte order mark": (b"\xef\xbb\xbf", b"\xef\xbb\xbf" + daemon_json(client()).encode()),
}


@pytest.mark.parametrize(("before", "after"), MERGED.values(), ids=MERGED)
def test_merge_keeps_all_other_bytes(before: bytes, after: bytes) -> None:
    assert merged(before, client()).decode() == after.decode()
    assert merged(after, client()) == after


@pytest.mark.parametrize(
    ("before", "options"),
    [
        ({}, ["ndots:5"]),
        ({"dns-opts": None}, ["ndots:5"]),
        ({"dns-opts": ["timeout:1", "ndots:2", "rotate"]}, ["timeout:1", "rotate", "ndots:5"]),
        ({"dns-opts": ["ndots:5", "rotate"]}, ["ndots:5", "rotate"]),
    ],
)
def test_merge_keeps_other_resolver_options(before: dict[str, Any], options: list[str]) -> None:
    text = json.dumps(before).encode()
    assert json.loads(merged(text, client(ndots=5))) == {**KEYS, "dns-opts": options}
    assert json.loads(merged(text, client())) == {**before, **KEYS}


UNUSABLE = [
    (b'{\n  "dns": ["8.8.8.8",]\n}', "is not JSON: line 2, column"),
    (b'{"a": 1} // no', "is not JSON: line 1, column 10"),
    (b'{"a": NaN}', "is not JSON: NaN is not a number"),
    (b"\xff\xfe{\x00}\x00", "is not JSON: it is not UTF-8"),
    (b"[]", "is not a JSON object"),
    (b'{"a":' + b"[" * 100_000, "nested too deeply"),
    (b'{"dns": [], "d\\u006es": []}', 'has "dns" twice'),
    (b'{"dns-opts": "ndots:1"}', "is not a list of strings"),
    (b'{"dns-opts": [1]}', "is not a list of strings"),
]


@pytest.mark.parametrize(("before", "message"), UNUSABLE, ids=[message for _, message in UNUSABLE])
def test_unusable_daemon_json_is_refused(before: bytes, message: str) -> None:
    with pytest.raises(DaemonJsonError, match=message):
        merged(before, client(ndots=5))


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_names = st.sampled_from(["dns", "dns-search", "log-opts", "hosts"]) | st.text(max_size=5)


@given(
    st.dictionaries(_names, _values, max_size=6),
    st.sampled_from([None, 1, 4, "\t"]),
    st.booleans(),
    st.sampled_from([("10.0.0.10",), ("10.0.0.10", "fd00::a")]),
)
def test_merge_keeps_all_other_values(
    before: dict[str, Any], indent: Any, ascii_only: bool, servers: tuple[str, ...]
) -> None:
    text = json.dumps(before, indent=indent, ensure_ascii=ascii_only).encode(errors="replace")
    settings = client(*servers)
    once = merged(text, settings)
    assert list(json.loads(once).items())[: len(before)] == [
        (key, [*map(str, settings.servers)] if key == "dns" else SEARCH if key == "dns-search" else value)
        for key, value in json.loads(text).items()
    ]
    assert json.loads(once).keys() == {*json.loads(text), "dns", "dns-search"}
    assert merged(once, settings) == once


# --- command


def call(*args: str, **environ: str | None) -> tuple[int, str, str]:
    clean = {"KUBE2ETCD_DNS_SERVER_IP": None, "KUBE2ETCD_DOMAIN": None, "DNS_DOMAIN": None}
    result = CliRunner().invoke(main, ["docker-flags", *args], env={**clean, **environ})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_every_option_has_an_environment_variable(form: str) -> None:
    args = ["--dns-server-ip", "10.0.0.10", "--dns-server-ip", "fd00::a", "--domain", "Kubernetes.Local."]
    args += ["--namespace", "shop", "--ndots", "5"]
    assert call(*args, "--format", form) == (0, FORMATS[form](FULL), "")
    assert call(*args) == (0, FORMATS["flags"](FULL), "")
    environ = {
        "KUBE2ETCD_DNS_SERVER_IP": "10.0.0.10,fd00::a",
        "KUBE2ETCD_DOMAIN": "kubernetes.local",
        "KUBE2ETCD_NAMESPACE": "shop",
        "KUBE2ETCD_NDOTS": "5",
        "KUBE2ETCD_FORMAT": form,
    }
    assert call(**environ) == (0, FORMATS[form](FULL), "")


def test_help_shows_the_search_list_in_order() -> None:
    code, text, _ = call("--help")
    assert code == 0
    places = [text.index(f"\n    {name} ") for name in ("default.svc.DOMAIN", "svc.DOMAIN", "DOMAIN")]
    assert places == sorted(places)


def test_merge_writes_only_changes(tmp_path: Any) -> None:
    file = tmp_path / "daemon.json"
    file.write_bytes(b'{"debug": true}\n')
    args = ("--dns-server-ip", "10.0.0.10", "--domain", "kubernetes.local", "--merge", str(file))
    assert call(*args) == (0, "", f"{file}: written; restart docker\n")
    assert json.loads(file.read_bytes()) == {"debug": True, **KEYS}
    before = version(file)
    assert call(*args, "--format", "daemon.json") == (0, "", f"{file}: nothing to change\n")
    assert version(file) == before


def test_merge_leaves_a_malformed_file_unchanged(tmp_path: Any) -> None:
    file = tmp_path / "daemon.json"
    file.write_bytes(b'{"debug": true,}\n')
    before = version(file)
    code, out, err = call("--dns-server-ip", "10.0.0.10", "--merge", str(file))
    assert (code, out) == (2, "")
    assert f"--merge: {file} is not JSON: line 1, column 16" in err
    assert err.endswith("nothing is changed\n")
    assert version(file) == before
    assert [one.name for one in tmp_path.iterdir()] == ["daemon.json"]
