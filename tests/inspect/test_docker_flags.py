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


# --- The four forms


def test_flags_on_one_line() -> None:
    wide = "--dns-search svc.kubernetes.local --dns-search kubernetes.local"
    plain, everything = client(), client("10.0.0.10", "fd00::a", namespace="shop", ndots=5)
    assert FORMATS["flags"](plain) == f"--dns 10.0.0.10 --dns-search default.svc.kubernetes.local {wide}\n"
    assert FORMATS["flags"](everything) == (
        f"--dns 10.0.0.10 --dns fd00::a --dns-search shop.svc.kubernetes.local {wide} --dns-opt ndots:5\n"
    )


def test_daemon_json_holds_lists() -> None:
    assert json.loads(FORMATS["daemon.json"](client())) == KEYS
    everything = json.loads(daemon_json(client("10.0.0.10", "fd00::a", ndots=0)))
    assert everything == {"dns": ["10.0.0.10", "fd00::a"], "dns-search": SEARCH, "dns-opts": ["ndots:0"]}


def test_kubelet_texts_are_quoted() -> None:
    text = FORMATS["kubelet"](client("10.0.0.10", "fd00::", domain=Name.parse("1.10"), ndots=5))
    assert yaml.safe_load(text) == {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "clusterDNS": ["10.0.0.10", "fd00::"],
        "clusterDomain": "1.10",
    }


def test_resolv_conf_line_by_line() -> None:
    assert FORMATS["resolv.conf"](client("fd00::a", "10.0.0.10", ndots=5)).splitlines()[1:] == [
        "search default.svc.kubernetes.local svc.kubernetes.local kubernetes.local",
        "nameserver fd00::a",
        "nameserver 10.0.0.10",
        "options ndots:5",
    ]
    assert "options" not in FORMATS["resolv.conf"](client())


def test_what_no_resolver_can_use_is_refused() -> None:
    with pytest.raises(SettingsError, match="--dns-server-ip"):
        ClientDns((), DOMAIN)
    with pytest.raises(SettingsError, match="4 servers; resolvers read 3"):
        client("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4")
    long = Name.parse(".".join(["a" * 60] * 4))
    with pytest.raises(SettingsError, match="too long to have default"):
        client(domain=long)


@pytest.mark.parametrize("server", ["0.0.0.0", "::", "224.0.0.251", "ff02::fb"])
def test_a_server_has_an_address_of_its_own(server: str) -> None:
    with pytest.raises(SettingsError, match="is no server's address"):
        client("10.0.0.10", server)


@pytest.mark.parametrize("server", ["127.0.0.53", "::1"])
def test_a_container_is_not_told_to_ask_itself(server: str) -> None:
    for form in ("flags", "daemon.json", "kubelet"):
        with pytest.raises(SettingsError, match="the container itself"):
            FORMATS[form](client(server))
    assert f"nameserver {server}\n" in FORMATS["resolv.conf"](client(server))


# --- The merge


MERGED = [
    pytest.param(
        b'{\n\t"log-level": "warn",\n\t"big": 1e400, "same": 1.0,\n\t"u": "\\u00e9/\\/"\n}\n',
        b'{\n\t"log-level": "warn",\n\t"big": 1e400, "same": 1.0,\n\t"u": "\\u00e9/\\/",\n\t'
        b'"dns": ["10.0.0.10"],\n\t"dns-search": ' + AS_JSON + b"\n}\n",
        id="tabs, numbers and escapes as typed",
    ),
    pytest.param(
        b'{"dns": [\n    "8.8.8.8"\n  ], "dns-search" : null, "z": {"dns": 1}}',
        b'{"dns": ["10.0.0.10"], "dns-search" : ' + AS_JSON + b', "z": {"dns": 1}}',
        id="replaced in their places",
    ),
    pytest.param(b'{"a":1}', b'{"a":1, "dns": ["10.0.0.10"], "dns-search": ' + AS_JSON + b"}", id="one line"),
    pytest.param(
        b'{\r\n  "dns": [],\r\n  "a": "",\r\n  "a": 2}',
        b'{\r\n  "dns": ["10.0.0.10"],\r\n  "a": "",\r\n  "a": 2,\r\n  "dns-search": ' + AS_JSON + b"}",
        id="CRLF, and others' keys twice",
    ),
    pytest.param(b" \r\n", daemon_json(client()).encode(), id="blank"),
    pytest.param(b"{ }\n", daemon_json(client()).encode(), id="an empty object"),
    pytest.param(
        b"\xef\xbb\xbf", b"\xef\xbb\xbf" + daemon_json(client()).encode(), id="a mark of byte order"
    ),
]


@pytest.mark.parametrize(("before", "after"), MERGED)
def test_the_rest_stays_as_it_was(before: bytes, after: bytes) -> None:
    assert merged(before, client()).decode() == after.decode()
    assert merged(after, client()) == after


OPTIONS = [
    ({}, ["ndots:5"]),
    ({"dns-opts": None}, ["ndots:5"]),
    ({"dns-opts": ["timeout:1", "ndots:2", "rotate"]}, ["timeout:1", "rotate", "ndots:5"]),
    ({"dns-opts": ["ndots:5", "rotate"]}, ["ndots:5", "rotate"]),
]


@pytest.mark.parametrize(("before", "options"), OPTIONS)
def test_other_options_of_the_resolver_stay(before: dict[str, Any], options: list[str]) -> None:
    text = json.dumps(before).encode()
    assert json.loads(merged(text, client(ndots=5))) == {**KEYS, "dns-opts": options}
    assert json.loads(merged(text, client())) == {**before, **KEYS}


UNUSABLE = [
    (b'{\n  "dns": ["8.8.8.8",]\n}', "is not JSON: line 2, column"),
    (b'{"a": 1} // no', "is not JSON: line 1, column 10"),
    (b'{"a": NaN}', "is not JSON: NaN is no number"),
    (b"\xff\xfe{\x00}\x00", "is not JSON: it is not UTF-8"),
    (b"[]", "is not a JSON object"),
    (b'{"a":' + b"[" * 100_000, "nested too deeply"),
    (b'{"dns": [], "d\\u006es": []}', 'has "dns" twice'),
    (b'{"dns-opts": "ndots:1"}', "is no list of texts"),
    (b'{"dns-opts": [1]}', "is no list of texts"),
]


@pytest.mark.parametrize(("before", "message"), UNUSABLE, ids=[message for _, message in UNUSABLE])
def test_what_is_no_daemon_json_is_a_sentence(before: bytes, message: str) -> None:
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
def test_after_a_merge_all_keys_mean_what_they_meant(
    before: dict[str, Any], indent: Any, ascii_only: bool, servers: tuple[str, ...]
) -> None:
    text = json.dumps(before, indent=indent, ensure_ascii=ascii_only).encode(errors="replace")
    told = client(*servers)
    once = merged(text, told)
    assert list(json.loads(once).items())[: len(before)] == [
        (key, [*map(str, told.servers)] if key == "dns" else SEARCH if key == "dns-search" else value)
        for key, value in json.loads(text).items()
    ]
    assert json.loads(once).keys() == {*json.loads(text), "dns", "dns-search"}
    assert merged(once, told) == once


def test_an_integer_of_any_length_is_none_of_ours() -> None:
    digits = b"9" * 5000
    assert digits in merged(b'{"a": ' + digits + b"}", client())


# --- The command


def call(*args: str, **environ: str | None) -> tuple[int, str, str]:
    clean = {"KUBE2ETCD_DNS_SERVER_IP": None, "KUBE2ETCD_DOMAIN": None, "DNS_DOMAIN": None}
    result = CliRunner().invoke(main, ["docker-flags", *args], env={**clean, **environ})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_every_option_has_a_twin_in_the_environment(form: str) -> None:
    told = client("10.0.0.10", "fd00::a", namespace="shop", ndots=5)
    args = ["--dns-server-ip", "10.0.0.10", "--dns-server-ip", "fd00::a", "--domain", "Kubernetes.Local."]
    args += ["--namespace", "shop", "--ndots", "5", "--format", form]
    assert call(*args) == (0, FORMATS[form](told), "")
    assert call(*args[:-2]) == (0, FORMATS["flags"](told), "")
    environ = {
        "KUBE2ETCD_DNS_SERVER_IP": "10.0.0.10,fd00::a",
        "KUBE2ETCD_DOMAIN": "kubernetes.local",
        "KUBE2ETCD_NAMESPACE": "shop",
        "KUBE2ETCD_NDOTS": "5",
        "KUBE2ETCD_FORMAT": form,
    }
    assert call(**environ) == (0, FORMATS[form](told), "")


def test_help_says_the_order_and_the_set() -> None:
    code, text, _ = call("--help")
    assert code == 0
    places = [text.index(f"\n    {name} ") for name in ("default.svc.DOMAIN", "svc.DOMAIN", "DOMAIN")]
    assert places == sorted(places)


WRONG = [
    ([], "no DNS server is given; write --dns-server-ip"),
    (["--dns-server-ip", "10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4"], "resolvers read 3"),
    (["--dns-server-ip", "10.0.0.1", "--namespace", "A b"], "write the name of a namespace"),
    (["--dns-server-ip", "10.0.0.1", "--format", "yaml"], "'yaml' is not one of"),
    (["--dns-server-ip", "10.0.0.1", "--format", "kubelet", "--merge", "x"], "not kubelet"),
    (
        ["--dns-server-ip", "10.0.0.1", "--merge", "no/such"],
        "cannot be changed: there is no folder no;",
    ),
    (["--dns-server-ip", "10.0.0.1", "--merge", "a\0b"], "cannot be changed"),
]


@pytest.mark.parametrize(("args", "message"), WRONG, ids=[message for _, message in WRONG])
def test_usage_errors_of_docker_flags(args: list[str], message: str) -> None:
    code, out, err = call(*args)
    assert (code, out) == (2, "")
    assert message in err


def test_merge_writes_once_and_says_so(tmp_path: Any) -> None:
    file = tmp_path / "daemon.json"
    file.write_bytes(b'{"debug": true}\n')
    args = ("--dns-server-ip", "10.0.0.10", "--domain", "kubernetes.local", "--merge", str(file))
    assert call(*args) == (0, "", f"{file}: written; restart docker\n")
    assert json.loads(file.read_bytes()) == {"debug": True, **KEYS}
    before = version(file)
    assert call(*args, "--format", "daemon.json") == (0, "", f"{file}: nothing to change\n")
    assert version(file) == before


def test_merge_leaves_a_broken_file_alone(tmp_path: Any) -> None:
    file = tmp_path / "daemon.json"
    file.write_bytes(b'{"debug": true,}\n')
    before = version(file)
    code, out, err = call("--dns-server-ip", "10.0.0.10", "--merge", str(file))
    assert (code, out) == (2, "")
    assert f"--merge: {file} is not JSON: line 1, column 16" in err
    assert err.endswith("nothing is changed\n")
    assert version(file) == before
    assert [one.name for one in tmp_path.iterdir()] == ["daemon.json"]
