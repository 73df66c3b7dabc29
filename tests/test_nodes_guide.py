"""The files in addons/nodes.md are what docker-flags prints for the guide's values."""

from __future__ import annotations

import configparser
import re
import shlex
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from kube2etcd.cli import main
from kube2etcd.inspect.docker_flags import ClientDns, daemon_json, kubelet, merged
from skydns_compat.names import Name, parse_address

GUIDE = (Path(__file__).parents[1] / "addons" / "nodes.md").read_text()
CLIENT = ClientDns((parse_address("10.0.0.10"),), Name.parse("kubernetes.local"))
CACHE = ClientDns((parse_address("169.254.20.10"),), CLIENT.domain)


def block(path: str) -> str:
    """What the guide writes into a file: the first block after its name."""
    match = re.search(rf"`{re.escape(path)}`.*?\n```[a-z]*\n(.*?)```", GUIDE, re.DOTALL)
    assert match, path
    return match[1]


def ini(path: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(block(path))
    return parser


def test_resolved_is_told_the_servers_and_the_domain() -> None:
    (server,) = CLIENT.servers
    assert dict(ini("/etc/systemd/resolved.conf.d/50-kubernetes.conf")["Resolve"]) == {
        "DNS": str(server),
        "Domains": f"~{CLIENT.domain}",
    }
    uplink = ini("/etc/systemd/network/10-uplink.network.d/50-dns.conf")
    assert dict(uplink["Network"]) == {"Domains": "~."}


def test_the_dns_pods_are_not_told_to_ask_themselves() -> None:
    words = block("/etc/kubernetes/upstream-resolv.conf").split()
    assert words[0] == "nameserver"
    assert parse_address(words[1]) not in (*CLIENT.servers, *CACHE.servers)
    drop_in = yaml.safe_load(block("/etc/kubernetes/kubelet.conf.d/60-upstream.conf"))
    assert drop_in.pop("resolvConf") == "/etc/kubernetes/upstream-resolv.conf"
    printed = yaml.safe_load(kubelet(CLIENT))
    assert drop_in == {name: printed[name] for name in ("apiVersion", "kind")}


def test_what_docker_flags_prints_is_printed_so() -> None:
    assert block("/etc/kubernetes/kubelet.conf.d/50-dns.conf") == kubelet(CACHE)
    assert block("/etc/docker/daemon.json") == daemon_json(CLIENT)


def test_the_cache_gets_the_same_values() -> None:
    marks = dict(re.findall(r's/__PILLAR__([A-Z_]+)__/([^/]+)/g"', GUIDE))
    assert marks == {
        "DNS__SERVER": str(CLIENT.servers[0]),
        "DNS__DOMAIN": str(CLIENT.domain),
        "LOCAL__DNS": str(CACHE.servers[0]),
    }


COMMANDS = re.findall(r"kube2etcd (docker-flags[^`\n]*)", GUIDE)


@pytest.mark.parametrize("command", [one for one in COMMANDS if "--dns-server-ip" in one])
def test_every_command_works(command: str, tmp_path: Path) -> None:
    file = tmp_path / "daemon.json"
    file.write_text('{"live-restore": true}')
    words = [str(file) if word.startswith("/etc/") else word for word in shlex.split(command)]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    if "--merge" in words:
        assert file.read_bytes() == merged(b'{"live-restore": true}', CLIENT)
    else:
        assert result.stdout == kubelet(CACHE)


def test_there_are_such_commands() -> None:
    assert sum("--dns-server-ip" in one for one in COMMANDS) == 2
