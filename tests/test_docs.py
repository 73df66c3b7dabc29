"""The documents agree with the code."""

import configparser
import importlib
import re
import shlex
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from kube2etcd.cli import main
from kube2etcd.inspect.docker_flags import ClientDns, daemon_json, kubelet, merged
from skydns_compat.names import Name, parse_address
from tests.stack.known_differences import KNOWN
from tests.stack.questions import TYPES

ROOT = Path(__file__).parent.parent


def test_every_difference_from_the_kubernetes_plugin_is_in_the_readme() -> None:
    text = (ROOT / "skydns-compat" / "README.md").read_text()
    _, _, table = text.partition("| difference | types | reason |\n|---|---|---|\n")
    listed = re.findall(r"^\| (.+) \| (.+) \| .+ \|$", table.partition("\n\n")[0], re.MULTILINE)
    assert listed == [(one.name, "all" if one.types == TYPES else ", ".join(one.types)) for one in KNOWN]


def test_every_guarantee_names_tests_that_exist() -> None:
    text = (ROOT / "skydns-compat" / "README.md").read_text()
    table = [line for line in text[text.index("## What is promised") :].splitlines() if line.startswith("| ")]
    assert {f"G{number}" for number in range(1, 13)} <= {line.split("|")[1].strip() for line in table}
    named = set(re.findall(r"`(test_\w+\.py)`", "\n".join(table)))
    assert len(named) > 12
    assert {name for name in named if not (ROOT / "tests" / "stack" / name).is_file()} == set()
    guarantees = {path.name for path in (ROOT / "tests" / "stack").glob("test_guarantee_*.py")}
    assert guarantees <= named


def test_commands_and_options_in_documents_exist() -> None:
    seen = set()
    for document in sorted(ROOT.glob("**/*.md")):
        hidden = any(part.startswith(".") for part in document.relative_to(ROOT).parts)
        if hidden or document.name == "CHANGELOG.md":
            continue
        for name, rest in re.findall(
            r"(?<![\w./-])kube2etcd ([a-z][a-z-]*)([^`|#\n]*)", document.read_text()
        ):
            if not (command := main.commands.get(name)):
                # Prose: "kube2etcd watches …".  A command has an option behind it, or nothing.
                assert " --" not in rest, f"{document}: there is no command {name}"
                continue
            seen.add(name)
            known = {option for one in command.params for option in one.opts}
            options = set(re.findall(r"(?<=\s)--[a-z][a-z-]*", rest))
            assert options <= known | {"--help"}, f"{document}: kube2etcd {name}{rest}"
    assert seen == set(main.commands), "a command that no document shows"


def test_readme_fits_on_a_page() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 60


def examples() -> list[tuple[str, str, str]]:
    """Guide, command and the output below it."""
    return [
        (guide.name, command, output)
        for guide in sorted((ROOT / "docs").glob("*.md"))
        for block in re.findall(r"```console\n(.*?)```", guide.read_text(), re.DOTALL)
        for command, output in re.findall(r"^\$ kube2etcd (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
    ]


@pytest.mark.parametrize(("guide", "command", "output"), examples())
def test_console_examples(guide: str, command: str, output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert CliRunner().invoke(main, shlex.split(command)).output == output, (
        f"docs/{guide}: kube2etcd {command}"
    )


def test_every_guide_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    guides = {guide.name for guide in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert guides <= set(re.findall(r"\((\w[\w.-]*\.md)\)", index))


DOCUMENT = Path(__file__).parent.parent / "docs" / "bounds.md"
ROWS = re.findall(r"^\| [^|]+ \| ([^|]+) \| [^|]+ \| `([\w.]+)` \|$", DOCUMENT.read_text(), re.MULTILINE)


@pytest.mark.parametrize(("limit", "constant"), ROWS, ids=[constant for _, constant in ROWS])
def test_documented_limit_is_that_of_the_code(limit: str, constant: str) -> None:
    module, _, name = constant.rpartition(".")
    number = re.search(r"[\d.]+", limit)
    assert number is not None
    assert getattr(importlib.import_module(module), name) == float(number[0])


def test_every_documented_limit_is_checked() -> None:
    assert len(ROWS) == DOCUMENT.read_text().count("\n| ") - 1


GUIDE = (Path(__file__).parents[1] / "addons" / "nodes.md").read_text()
CLIENT = ClientDns((parse_address("10.0.0.10"),), Name.parse("kubernetes.local"))
CACHE = ClientDns((parse_address("169.254.20.10"),), CLIENT.domain)


def block(path: str) -> str:
    """The content of a file in the guide: the first block after its name."""
    match = re.search(rf"`{re.escape(path)}`.*?\n```[a-z]*\n(.*?)```", GUIDE, re.DOTALL)
    assert match, path
    return match[1]


def ini(path: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(block(path))
    return parser


def test_guide_configures_resolved_with_server_and_domain() -> None:
    (server,) = CLIENT.servers
    assert dict(ini("/etc/systemd/resolved.conf.d/50-kubernetes.conf")["Resolve"]) == {
        "DNS": str(server),
        "Domains": f"~{CLIENT.domain}",
    }
    uplink = ini("/etc/systemd/network/10-uplink.network.d/50-dns.conf")
    assert dict(uplink["Network"]) == {"Domains": "~."}


def test_guide_gives_dns_pods_another_upstream() -> None:
    words = block("/etc/kubernetes/upstream-resolv.conf").split()
    assert words[0] == "nameserver"
    assert parse_address(words[1]) not in (*CLIENT.servers, *CACHE.servers)
    drop_in = yaml.safe_load(block("/etc/kubernetes/kubelet.conf.d/60-upstream.conf"))
    assert drop_in.pop("resolvConf") == "/etc/kubernetes/upstream-resolv.conf"
    printed = yaml.safe_load(kubelet(CLIENT))
    assert drop_in == {name: printed[name] for name in ("apiVersion", "kind")}


def test_guide_shows_the_output_of_docker_flags() -> None:
    assert block("/etc/kubernetes/kubelet.conf.d/50-dns.conf") == kubelet(CACHE)
    assert block("/etc/docker/daemon.json") == daemon_json(CLIENT)


def test_guide_gives_the_node_cache_the_same_values() -> None:
    marks = dict(re.findall(r's/__PILLAR__([A-Z_]+)__/([^/]+)/g"', GUIDE))
    assert marks == {
        "DNS__SERVER": str(CLIENT.servers[0]),
        "DNS__DOMAIN": str(CLIENT.domain),
        "LOCAL__DNS": str(CACHE.servers[0]),
    }


COMMANDS = re.findall(r"kube2etcd (docker-flags[^`\n]*)", GUIDE)


@pytest.mark.parametrize("command", [one for one in COMMANDS if "--dns-server-ip" in one])
def test_commands_of_the_guide_work(command: str, tmp_path: Path) -> None:
    file = tmp_path / "daemon.json"
    file.write_text('{"live-restore": true}')
    words = [str(file) if word.startswith("/etc/") else word for word in shlex.split(command)]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    if "--merge" in words:
        assert file.read_bytes() == merged(b'{"live-restore": true}', CLIENT)
    else:
        assert result.stdout == kubelet(CACHE)


def test_guide_has_commands() -> None:
    assert sum("--dns-server-ip" in one for one in COMMANDS) == 2
