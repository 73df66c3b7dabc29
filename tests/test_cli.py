import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kube2etcd import __version__
from kube2etcd.cli import main
from kube2etcd.cli.group import EPILOGS
from kube2etcd.settings import SETTINGS, TOPICS

SHOP = str(Path(__file__).parents[1] / "examples" / "shop.yaml")
RECORDS = ("records", "--objects", SHOP)
DOCKER = ("docker-flags", "--dns-server-ip", "10.0.0.10")
WEB = "web.shop.svc.cluster.local"


def call(*args: str, **environ: str) -> Result:
    result = CliRunner().invoke(main, args, env=environ)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def test_version() -> None:
    assert call("--version").output == f"kube2etcd, version {__version__}\n"


COMMANDS = ["run", "resync", "records", "explain", "check", "corefile", "docker-flags", "webhook"]


@pytest.mark.parametrize("command", COMMANDS)
def test_command_accepts_common_options_and_shows_those_it_uses(command: str) -> None:
    """So one list of options can be passed to every command."""
    result = call(command, "--help")
    assert result.exit_code == 0
    shown = set(re.findall(r"--[a-z-]+", result.stdout))
    accepted = {option for one in main.commands[command].params for option in one.opts}
    for setting in SETTINGS:
        used = not setting.commands or command in setting.commands
        assert (f"--{setting.option}" in shown) == used, setting.option
        assert (f"--{setting.option}" in accepted) == (setting.common or used), setting.option
    assert "--config" in shown
    assert ("--kubecfg-file" in shown) == ("--kubeconfig" in shown)


def test_help_shows_defaults() -> None:
    def shown(command: str, option: str) -> str:
        text = " ".join(call(command, "--help").stdout.split())
        return re.split(r" --[a-z]", text.split(f"--{option} ", 1)[1])[0]

    assert shown("run", "etcd-server").endswith("[default: http://127.0.0.1:2379]")
    assert shown("webhook", "etcd-server") == "URL etcd server; may be repeated.", (
        "none given means none here"
    )
    assert shown("run", "skydns-config").endswith("[default: false]")
    assert "[default: table]" in shown("records", "output")


def test_help_lists_no_argument_among_the_options() -> None:
    options = call("explain", "--help").stdout.partition("\nOptions:\n")[2].partition("\n\n")[0]
    assert all(line.startswith(("  -", "    ")) for line in options.splitlines()), options


def test_help_is_grouped_by_topic() -> None:
    text = call("run", "--help").stdout
    headings = re.findall(r"^([A-Z]?[\w ]+):$", text, re.MULTILINE)
    topics = [topic for topic in TOPICS if topic != "Resolvers"]
    assert headings == ["Options", *topics, "Examples", "Exit codes"]
    section = text.split("\nAPI server:\n")[1].split("\n\n")[0]
    options = ["--kubeconfig", "--kubecfg-file", "--context", "--kube-master-url"]
    assert re.findall(r"--[a-z-]+", section) == options


@pytest.mark.parametrize("command", EPILOGS)
def test_examples_of_a_command_parse(command: str) -> None:
    examples = re.findall(r"^  kube2etcd (.+)$", call(command, "--help").stdout, re.MULTILINE)
    assert len(examples) >= 3
    for example in examples:
        name, *args = example.split()
        assert name == command
        main.commands[name].make_context(name, args)


def test_shell_completion() -> None:
    result = CliRunner().invoke(main, [], prog_name="kube2etcd", env={"_KUBE2ETCD_COMPLETE": "bash_source"})
    assert result.exit_code == 0
    assert "_KUBE2ETCD_COMPLETE=bash_complete" in result.stdout


def test_commands_of_settings_are_commands() -> None:
    used = {command for setting in SETTINGS for command in setting.commands}
    assert used == main.commands.keys() - {"wait"}


def test_variables_of_options_of_single_commands_are_known() -> None:
    environ = {"KUBE2ETCD_DRY_RUN": "1", "KUBE2ETCD_OUTPUT": "json", "KUBE2ETCD_X": "1"}
    stderr = call("corefile", "--log-level", "debug", **environ).stderr
    assert stderr.endswith("environment variables that are not settings are ignored: KUBE2ETCD_X\n")


def test_unused_variables_are_ignored(tmp_path: Path) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text("vm: {domain: example.test}\nwebhook: {port: 5001}\nskydns: {}\ncorefile: {cache: 5}\n")
    plain = call("docker-flags", "--dns-server-ip", "10.0.0.10")
    full = call(
        *("docker-flags", "--dns-server-ip", "10.0.0.10", "--config", str(config)),
        *("--etcd-server", "http://etcd:2379", "--pods", "verified"),
        KUBE2ETCD_PORT="5001",
        KUBE2ETCD_VM_REVERSE="10.0.0.0/8",
        KUBE2ETCD_STATE_FILE="/var/lib/x.json",
        KUBE2ETCD_UPSTREAM="192.0.2.1",
    )
    assert (full.exit_code, full.stdout, full.stderr) == (0, plain.stdout, "")
    assert call("docker-flags", "--upstream", "192.0.2.1").exit_code == 2


def test_records_as_a_table_name_their_objects() -> None:
    lines = call(*RECORDS).stdout.splitlines()
    assert lines[0].split() == ["NAME", "TYPE", "TTL", "DATA", "OBJECT"]
    assert [f"{WEB}.", "A", "30", "10.96.20.10", "services/shop/web"] in [line.split() for line in lines]


FILTERS = [
    (["--type", "cname"], {"payments.shop.svc.cluster.local."}),
    (["--zone", "in-addr.arpa", "--object", "service/shop/web"], {"10.20.96.10.in-addr.arpa."}),
    (["--object", "ns/shop"], {"shop.svc.cluster.local.", "shop.pod.cluster.local."}),
]


@pytest.mark.parametrize(("args", "names"), FILTERS, ids=[" ".join(args) for args, _ in FILTERS])
def test_records_are_filtered(args: list[str], names: set[str]) -> None:
    found = json.loads(call(*RECORDS, "--output", "json", *args).stdout)
    assert {one["name"] for one in found} == names


def test_records_as_json() -> None:
    [found] = json.loads(call(*RECORDS, "--output", "json", "--type", "TXT").stdout)
    object_ = {"kind": "zones", "namespace": "", "name": "cluster.local"}
    record = {"name": "dns-version.cluster.local.", "type": "TXT", "ttl": 28800, "data": '"1.1.0"'}
    assert found == {**record, "object": object_}


def test_records_as_a_zone_file() -> None:
    lines = call(*RECORDS, "--output", "zone").stdout.splitlines()
    assert f"{WEB}. 30 IN A 10.96.20.10 ; services/shop/web" in lines
    assert f"_http._tcp.{WEB}. 30 IN SRV 0 100 80 {WEB}. ; services/shop/web" in lines
    assert "; shop.svc.cluster.local. exists without data ; namespaces/shop" in lines
    assert not any(".arpa. " in line for line in lines)


def test_zone_file_without_ns_says_so() -> None:
    command = (*RECORDS, "--output", "zone")
    assert call(*command).stderr == "Note: no NS record without --dns-server-ip\n"
    vms = call(*command, "--vm-domain", "", "--zone", "vm")
    assert vms.stderr == "Note: no NS record without --name-server-ip\n"
    with_server = call(*command, "--dns-server-ip", "10.0.0.10")
    assert with_server.stderr == ""
    assert "cluster.local. 30 IN NS ns.dns.cluster.local." in with_server.stdout.splitlines()


def test_several_files_after_one_option(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text("{apiVersion: v1, kind: Service, metadata: {name: api}, spec: {clusterIP: 10.0.0.9}}")

    def shown(*objects: str) -> str:
        return call("records", "--type", "A", *objects, "--output", "zone").stdout

    both = shown("--objects", SHOP, str(other))
    assert "10.96.20.10" in both
    assert "api.default.svc.cluster.local. 30 IN A 10.0.0.9" in both
    assert shown("--objects", SHOP, "--objects", str(other)) == both
    assert "10.0.0.9" in shown("--objects", str(tmp_path))


def test_settings_reach_the_records(tmp_path: Path) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text("domain: one.example\nttl: 7\n")
    args = (*RECORDS, "--type", "A", "--output", "zone")
    assert "web.shop.svc.one.example. 7 IN A" in call(*args, "--config", str(config)).stdout
    assert "web.shop.svc.one.example. 8 IN A" in call(*args, "--ttl", "8", "--config", str(config)).stdout
    assert "svc.two.example. 7" in call(*args, KUBE2ETCD_CONFIG=str(config), DNS_DOMAIN="two.example").stdout


INVALID = [
    ([*RECORDS, "--ttl", "0", "--domain", "a..b"], 2, ["--ttl is '0'", "--domain is"]),
    (["records", "--objects", "no/such.yaml"], 1, ["no/such.yaml cannot be read: No such file"]),
    ([*RECORDS, "--object", "web"], 2, ["KIND/NAMESPACE/NAME"]),
    ([*RECORDS, "--object", ""], 2, ["KIND/NAMESPACE/NAME"]),
    ([*RECORDS, "--zone", "a..b"], 2, ["--zone 'a..b' is not a DNS name: ''"]),
    ([*RECORDS, "--zone", ""], 2, ["--zone '' is not a DNS name"]),
    ([*RECORDS, "--type", "A5"], 2, ["'A5' is not a record type; write one of A, AAAA"]),
    (["records", "--objects", ""], 1, ["--objects is empty"]),
    (["records", "--config", "no/such.yaml", "--objects", SHOP], 2, ["no/such.yaml cannot be read"]),
    (["records", "--config", "", "--objects", SHOP], 2, ["--config is empty"]),
    (["records", SHOP], 2, [f"manifests are named by --objects {SHOP}"]),
    (["resync", "--bogus", "--config", SHOP], 1, ["Did you mean '--pods'?\n"]),
    (["records", "--output", "yaml", "--config", SHOP], 2, ["'table', 'json', 'zone'.\n"]),
    (["records", "--config", SHOP, "extra"], 2, ["unexpected extra argument (extra)\n"]),
    (["records", "no/such.yaml"], 2, ["unexpected extra argument (no/such.yaml)\n"]),
    (["docker-flags"], 2, ["no DNS server is set; write --dns-server-ip"]),
    ([*DOCKER, "--dns-server-ip", "10.0.0.1,10.0.0.2,10.0.0.3"], 2, ["4 servers; resolvers use 3"]),
    ([*DOCKER, "--namespace", "A_b"], 2, ["write the name of a namespace"]),
    ([*DOCKER, "--format", "yaml"], 2, ["'yaml' is not one of"]),
    ([*DOCKER, "--format", "kubelet", "--merge", "x"], 2, ["not kubelet"]),
    ([*DOCKER, "--merge", "no/such"], 2, ["cannot be changed: there is no folder no;"]),
    ([*DOCKER, "--merge", "a\0b"], 2, ["cannot be changed"]),
    ([*DOCKER, "--merge", ""], 2, ["--merge is empty"]),
    (["wait", "a..b"], 2, ["'a..b' is not a DNS name"]),
    (["wait", "a.b", "NONSENSE"], 2, ["is not a record type"]),
    (["wait", "a.b", "--timeout", "soon"], 2, ["--timeout is 'soon'; write seconds"]),
    (["wait", "a.b", "--server", "h:x"], 2, ["h:x"]),
    (["wait", "a.b", "--server", ""], 2, ["--server "]),
    (["wait", "a.b", "--for", ""], 2, ["--for "]),
    (["explain", "web.shop", "--bridge", ":1", "--objects", "x.yaml"], 2, ["exclude each other"]),
    (["explain", "--objects", SHOP], 2, ["write the NAME"]),
    (["explain", "a..b", "--objects", SHOP], 2, ["'a..b' is not a DNS name"]),
    (["explain", WEB, "A5", "--objects", SHOP], 2, ["'A5' is not a record type"]),
    (["resync", "--objects", SHOP], 1, ["--objects needs --dry-run"]),
    (["resync", "--checksum", "0123456789abcdeg"], 1, ["write the 16 digits that --dry-run shows"]),
    (["resync", "--dry-run", "--checksum", "0" * 16], 1, ["--checksum and --dry-run exclude"]),
    (["resync", "--dry-run", "--no-such"], 1, ["No such option"]),
    (["resync", "--dry-run", "--ttl", "0"], 1, ["--ttl is '0'"]),
    (["resync", "--dry-run", "--kubeconfig", "no/such"], 1, ["no kubeconfig at no/such"]),
    (["records", "--objects"], 2, ["requires an argument"]),
    (["corefile", "--cache", "many"], 2, ["--cache is 'many'"]),
    (
        ["webhook", "--etcd-server", "http://127.0.0.1:1", "--corefile", "/nowhere/Corefile"],
        2,
        ["--corefile"],
    ),
    (
        ["webhook", "--etcd-server", "http://127.0.0.1:1", "--corefile-import", "/etc/none"],
        2,
        ["--corefile-import"],
    ),
    (["records", "--dns-endpoints", "--objects", SHOP], 2, ["--dns-endpoints needs --domains"]),
    (["run", "--no-such"], 2, ["No such option"]),
]


def test_invalid_variable_is_named() -> None:
    """And options that were not given are not."""
    result = call("resync", KUBE2ETCD_DRY_RUN="maybe")
    assert result.exit_code == 1
    assert "for 'KUBE2ETCD_DRY_RUN'" in result.stderr
    assert "for '--output'" in call("check", "--output", "x").stderr
    assert "Error: KUBE2ETCD_SERVER is 'x'; write" in call("wait", WEB, KUBE2ETCD_SERVER="x").stderr
    assert "Error: --server is 'x'; write" in call("wait", WEB, "--server", "x").stderr


def test_filters_that_match_nothing_are_reported() -> None:
    result = call(*RECORDS, "--zone", "other.test", "--output", "json")
    assert json.loads(result.stdout) == []
    assert re.fullmatch(r"Note: none of \d+ records match --zone, --type and --object\n", result.stderr)


def test_terminal_without_unicode() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "kube2etcd", "corefile", "--help"],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=False,
    )
    assert (found.returncode, found.stderr) == (0, b"")
    assert b"FILE|IP\\u2026" in found.stdout


@pytest.mark.parametrize(("args", "code", "hints"), INVALID, ids=[" ".join(args) for args, _, _ in INVALID])
def test_usage_errors(args: list[str], code: int, hints: list[str]) -> None:
    result = call(*args)
    assert result.exit_code == code
    assert result.stdout == ""
    for hint in hints:
        assert hint in result.stderr


@pytest.mark.parametrize("argument", ["corefile", "--help", "--version"])
def test_full_disk(argument: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "kube2etcd", argument], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 1
    assert b"the output cannot be written: No space left" in done.stderr
    assert b"Traceback" not in done.stderr


def test_an_interrupt_is_no_answer() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(30)
        at = f"127.0.0.1:{server.getsockname()[1]}"
        command = [sys.executable, "-m", "kube2etcd", "wait", WEB, "--server", at]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as waiting:
            server.recv(512)
            waiting.send_signal(signal.SIGINT)
            assert waiting.communicate(timeout=30) == (b"", b"")
    assert waiting.returncode == -signal.SIGINT


@pytest.mark.parametrize(("code", "name"), [(0, WEB), (1, f"no.{WEB}")], ids=["resolves", "does not"])
@pytest.mark.parametrize("closed", ["| true", "2>&1 | true", ">&-", ">&- 2>&-"])
def test_closed_output_keeps_the_exit_code(closed: str, code: int, name: str) -> None:
    command = f"{sys.executable} -m kube2etcd explain {name} --objects {SHOP} {closed}"
    script = f"{command}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


@pytest.mark.parametrize("args", [" ".join(RECORDS), "corefile"], ids=["records", "corefile"])
def test_closed_pipes(args: str) -> None:
    script = f"{sys.executable} -m kube2etcd {args} 2>&- | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1)


def test_check_reports_api_server_and_etcd_independently(tmp_path: Path) -> None:
    found = call(
        *("check", "--kubeconfig", str(tmp_path / "none"), "--output", "json"),
        *("--etcd-server", "https://127.0.0.1:1", "--etcd-cafile", str(tmp_path / "none.crt")),
    )
    assert found.exit_code == 1
    [api, etcd] = json.loads(found.stdout)
    assert (api["what"], api["verdict"]) == ("API server", "fault")
    assert "no kubeconfig at" in api["text"]
    assert (etcd["what"], etcd["verdict"]) == ("etcd", "fault")
    assert "none.crt" in etcd["text"]


def test_service_links_are_ignored() -> None:
    result = call(*RECORDS, KUBE2ETCD_PORT="tcp://10.0.0.1:1", KUBE2ETCD_TTL="tcp://x")
    assert result.exit_code == 0
    assert "KUBE2ETCD_TTL is ignored" in result.stderr
    assert "KUBE2ETCD_PORT" not in result.stderr


#: Exit code, arguments and hints; tests/inspect/test_explain.py tests answers and reasons.
EXPLANATIONS = [
    (0, [WEB.upper() + "."], ["A: NOERROR", "AAAA: NOERROR", "SRV: NOERROR"]),
    (0, ["fd00:10:96::2010"], [f"PTR {WEB}."]),
    (0, ["10-1-2-3.shop.pod.cluster.local"], ["10.1.2.3", "computed from the name"]),
    (1, [WEB, "txt"], ["NODATA", "has A, AAAA, SRV only"]),
    (1, ["10-1-2.shop.pod.cluster.local"], ["NXDOMAIN", "not an address of this type"]),
    (1, ["10-1-2-3.shop.pod.cluster.local", "--pods", "disabled"], ["NXDOMAIN", "--pods disabled"]),
    (2, ["10.96.20.99"], ["no Service or endpoint with a name in DNS has the address 10.96.20.99"]),
    (2, ["payments.shop.svc.cluster.local", "A"], ["CNAME api.payments.example.", "ExternalName"]),
]


@pytest.mark.parametrize(
    ("code", "args", "hints"), EXPLANATIONS, ids=[" ".join(args) for _, args, _ in EXPLANATIONS]
)
def test_explain(code: int, args: list[str], hints: list[str]) -> None:
    result = call("explain", *args, "--objects", SHOP)
    assert result.exit_code == code
    assert result.stderr == ""
    for hint in hints:
        assert hint in result.stdout


def test_explain_as_json() -> None:
    found = json.loads(call("explain", "10.96.20.10", "--objects", SHOP, "--output", "json").stdout)
    assert [(one["type"], one["rcode"]) for one in found] == [("PTR", "NOERROR")]
    assert found[0]["answers"] == [f"10.20.96.10.in-addr.arpa. 30 IN PTR {WEB}."]


def test_malformed_object_affects_only_itself(tmp_path: Path) -> None:
    manifests = tmp_path / "malformed.yaml"
    manifests.write_text(
        Path(SHOP).read_text()
        + "---\napiVersion: v1\nkind: Service\n"
        + "metadata: {name: malformed, namespace: shop}\nspec: {ports: 5}\n"
        + "---\nkind: ConfigMap\n"
    )
    result = call("explain", "malformed.shop.svc.cluster.local", "--objects", str(manifests))
    assert result.exit_code == 1
    assert "the Service shop/malformed cannot be read" in result.stdout
    assert len(result.stderr.splitlines()) == 1
    assert "documents that cannot be read: 1" in result.stderr
    assert "shop/malformed" in call("records", "--objects", str(manifests)).stderr
    assert "10.96.20.10" in call("explain", WEB, "A", "--objects", str(manifests)).stdout


def test_objects_from_standard_input() -> None:
    result = CliRunner().invoke(main, ["records", "--objects", "-"], input=Path(SHOP).read_text())
    assert "10.96.20.10" in result.stdout


def test_corefile_is_written_to_standard_output() -> None:
    options = "--dns-listen 127.0.0.1:5300 --upstream 192.0.2.1 --cache 0 --etcd-prefix /x"
    result = call("corefile", *options.split())
    assert result.exit_code == 0
    for line in ("bind 127.0.0.1", "forward . 192.0.2.1", "path /x"):
        assert line in result.stdout
    assert "cache " not in result.stdout


@pytest.mark.parametrize(
    ("option", "plugin", "port"),
    [("health", "health", 8080), ("ready", "ready", 8181), ("metrics", "prometheus", 9153)],
)
def test_listeners_of_coredns(option: str, plugin: str, port: int) -> None:
    assert f"{plugin} :{port}" in call("corefile").stdout
    moved = call("corefile", f"--{option}-listen", f"127.0.0.1:{port + 1}").stdout
    assert f"{plugin} 127.0.0.1:{port + 1}" in moved
    assert f"{plugin} " not in call("corefile", f"--{option}-listen", "").stdout


def test_manifests_need_no_client_imports() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from kube2etcd.cli import main;"
        f"CliRunner().invoke(main, ['records', '--objects', {SHOP!r}]);"
        "print([name for name in ('grpc', 'etcd3', 'kubernetes') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
