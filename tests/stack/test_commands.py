"""Commands that exit by themselves, and the start of `run`."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import shlex
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import dns.rcode
import pytest

from tests.stack.bridge import call, clean_environment
from tests.stack.coredns import coredns_for
from tests.stack.faults import Run, both_apis
from tests.stack.harness import LOOPBACK, ApiServer, Binaries, CoreDns, Etcd, free_port, wait_for
from tests.stack.objects import endpoints, external, port, service, services
from tests.stack.process import run_command

SHOP = str(Path(__file__).parents[2] / "examples" / "shop.yaml")


def run_in_a_terminal(command: Sequence[str], columns: int, **environ: str) -> str:
    """The output of a command on a terminal, stdout and stderr."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    seen = b""
    with subprocess.Popen(
        command, env=clean_environment() | {"TERM": "xterm"} | environ, stdout=theirs, stderr=theirs
    ):
        os.close(theirs)
        with contextlib.suppress(OSError):  # the command has exited
            while part := os.read(ours, 65536):
                seen += part
    os.close(ours)
    return seen.decode()


@both_apis
def test_resync_applies_the_dry_run_plan_once(apiserver: ApiServer, etcd: Etcd, servers: list[str]) -> None:
    apiserver.apply_all(services(5))
    before = etcd.revision()
    dry = call("resync", "--dry-run", *servers)
    assert (dry.returncode, dry.stderr) == (2, "")
    lines = dry.stdout.splitlines()
    row = r"^\+ s000\.default\.svc\.\S+ +A +\S+ +services/default/s000$"
    assert re.search(row, dry.stdout, re.MULTILINE)
    assert "/skydns/local/cluster/svc/default/s000" in call("resync", "--dry-run", "--keys", *servers).stdout
    assert etcd.revision() == before, "a dry run writes nothing"
    planned = json.loads(call("resync", "--dry-run", "--output", "json", *servers).stdout)
    counted = planned["records"]
    assert counted["added"] == counted["total"] == len(call("records", *servers).stdout.splitlines()) - 1
    assert lines[-1] == (
        f"{counted['total']} added, 0 changed, 0 deleted of {counted['total']} records; nothing written;"
        f" checksum {planned['checksum']}"
    )
    # Another plan than the one shown is not applied.
    apiserver.apply(service("late"))
    late = call("resync", "--checksum", planned["checksum"], *servers)
    assert (late.returncode, late.stdout, etcd.revision()) == (3, "", before)
    assert re.search(
        rf"no longer {planned['checksum']}, it is [0-9a-f]{{16}} with \d+ changes: nothing", late.stderr
    )
    apiserver.delete(service("late"))
    wet = call("resync", "--checksum", planned["checksum"], *servers)
    assert (wet.returncode, wet.stderr) == (0, "")
    assert wet.stdout.splitlines()[:-1] == lines[:-1]
    after = etcd.revision()
    again = call("resync", "--output", "json", *servers)
    assert (again.returncode, json.loads(again.stdout)["equal"]) == (0, True)
    assert call("resync", "--dry-run", *servers).returncode == 0
    assert etcd.revision() == after, "nothing is written without a difference"
    theirs = "/skydns/local/cluster/svc/default/theirs"
    etcd.put(theirs, "{")
    pruned = json.loads(call("resync", "--prune-foreign", "--output", "json", *servers).stdout)
    assert (pruned["deleted"], theirs in etcd.dump("/skydns")) == ([theirs], False)


def test_dry_run_of_manifests_needs_no_api_server(etcd: Etcd) -> None:
    done = call("resync", "--dry-run", "--etcd-server", etcd.url, "--objects", SHOP)
    assert done.returncode == 2
    assert "+ web.shop.svc.cluster.local. " in done.stdout
    assert "\x1b" not in done.stdout
    assert etcd.dump("/skydns") == {}
    command = [sys.executable, "-m", "kube2etcd", "resync", "--dry-run", "--etcd-server", etcd.url]
    colored = run_in_a_terminal([*command, "--objects", SHOP], 200)
    assert re.search(r"\x1b\[32m\+ web\.shop\.svc\.cluster\.local\. {2,}A {2,}10\.96\.20\.10 ", colored)
    plain = run_in_a_terminal([*command, "--objects", SHOP], 40, NO_COLOR="1")
    assert "\r\n+ web.shop.svc.cluster.local.  A  10.96.20.10  services/shop/web\r\n" in plain
    assert "\x1b" not in plain
    # A pipe may close early.
    script = f"{shlex.join([*command, '--objects', SHOP])} | head -n 1; exit ${{PIPESTATUS[0]}}"
    first = run_command("bash", "-c", script, env=clean_environment())
    assert (first.returncode in (1, 2), first.stdout.count("\n"), first.stderr) == (True, 1, "")


@both_apis
def test_resync_holds_mass_deletions(apiserver: ApiServer, etcd: Etcd, servers: list[str]) -> None:
    apiserver.apply_all(services(40))
    assert call("resync", *servers).returncode == 0
    apiserver.delete_all(services(40))
    dry = call("resync", "--dry-run", *servers)
    assert "(held)" in dry.stdout
    assert "keys held until a second listing agrees" in dry.stdout
    done = call("resync", "--checksum", dry.stdout.split()[-1], *servers)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n- ") == dry.stdout.count("\n- ")
    assert not [key for key in etcd.dump("/skydns") if "/svc/default/s0" in key]


@both_apis
def test_records_and_explain_around_a_resync(apiserver: ApiServer, etcd: Etcd, servers: list[str]) -> None:
    apiserver.apply(service("alone"))
    listed = call("records", *servers, "--object", "service/default/alone", "--output", "json")
    rows = json.loads(listed.stdout)
    assert {row["name"] for row in rows if row["type"] == "A"} == {"alone.default.svc.cluster.local."}
    name = "alone.default.svc.cluster.local"
    assert "etcd does not match the cluster here" in call("explain", name, "A", *servers).stdout
    assert call("resync", *servers).returncode == 0
    explained = call("explain", name, "A", *servers).stdout
    assert "A: NOERROR" in explained
    assert "comes from services/default/alone" in explained
    assert "does not match" not in explained


ZONE = "cluster.local"
OTHER_TYPES = ("SRV", "TXT", "NS", "MX")
#: Objects with each kind of name that a zone file can hold.
ZONE_OBJECTS = [
    service("one"),
    service("two", ports=[{"name": "a", "port": 1, "protocol": "UDP"}, {"name": "b", "port": 2}]),
    service("head", clusterIP="None"),
    endpoints("head", "10.9.0.1", "10.9.0.2"),
    endpoints("head", "fd00::9", number=1),
    external("inside", f"one.default.svc.{ZONE}"),
    external("outside", "www.example.org"),
]


def test_zone_file_answers_match_the_keys(
    apiserver: ApiServer, etcd: Etcd, servers: list[str], binaries: Binaries, tmp_path: Path
) -> None:
    apiserver.apply_all(ZONE_OBJECTS)
    published = ("--dns-server-ip", "10.0.0.10", *servers)
    assert call("resync", *published).returncode == 0
    written = call("records", "--zone", ZONE, "--output", "zone", *published)
    assert (written.returncode, written.stderr) == (0, "")
    file = tmp_path / "zone"
    file.write_text(written.stdout)
    text = f"{ZONE}:{{port}} {{\n    bind {LOOPBACK}\n    file {file} {ZONE}\n}}\n"
    listed = json.loads(call("records", "--zone", ZONE, "--output", "json", *published).stdout)
    names = {one["name"] for one in listed if one["type"] != "NODATA"} | {f"gone.default.svc.{ZONE}."}
    aliases = {one["name"] for one in listed if one["type"] == "CNAME"}
    with (
        coredns_for(tmp_path, binaries, "--etcd-server", etcd.url) as keys,
        CoreDns(tmp_path, binaries, text, name="file") as from_file,
    ):

        def answer(server: CoreDns, name: str, rtype: str) -> list[str]:
            message = server.ask(name, rtype, tcp=True)
            records = [line for one in message.answer for line in one.to_text().splitlines()]
            if not records:
                return [dns.rcode.to_text(message.rcode())]
            # The etcd plugin omits an alias within the zone whose target has no records.
            dangling = rtype != "CNAME" and re.search(rf" CNAME \S+{ZONE}\.$", records[-1])
            return ["NOERROR"] if dangling else sorted(records)

        wait_for(lambda: keys.addresses(f"one.default.svc.{ZONE}"), "the keys", 20)
        for name, rtype in product(sorted(names), ("A", "AAAA", "CNAME", *OTHER_TYPES)):
            if (name.startswith("_") and rtype in ("A", "AAAA")) or (
                name in aliases and rtype in OTHER_TYPES
            ):
                continue  # docs/records.md
            assert answer(from_file, name, rtype) == answer(keys, name, rtype), (name, rtype)
        assert answer(from_file, f"{ZONE}.", "NS") == answer(keys, f"{ZONE}.", "NS")
        first, second = (answer(one, f"{ZONE}.", "SOA")[0].split() for one in (from_file, keys))
        assert first[:6] + first[7:] == second[:6] + second[7:], "all but the serial"


def test_records_watch_prints_changes_until_its_reader_closes(apiserver: ApiServer, tmp_path: Path) -> None:
    apiserver.apply_all(services(3))
    command = [sys.executable, "-m", "kube2etcd", "records", "--watch"]
    command += ["--kubeconfig", str(apiserver.kubeconfig())]
    errors = tmp_path / "stderr"
    pipe = subprocess.PIPE
    with (
        errors.open("w") as stderr,
        subprocess.Popen(command, env=clean_environment(), stdout=pipe, stderr=stderr, text=True) as watch,
    ):
        assert watch.stdout is not None
        try:
            first, _, _ = select.select([watch.stdout], [], [], 0)
            assert not first, "only changes are printed"
            deadline = time.monotonic() + 30
            while not select.select([watch.stdout], [], [], 0.2)[0] and time.monotonic() < deadline:
                apiserver.apply(service("tick", ports=[port(f"p{time.monotonic_ns() % 1000}", 1)]))
            line = watch.stdout.readline()
            assert re.match(r"\d{4}-\S+Z [+-] \S*tick\.default\.svc\.cluster\.local\. \d+ IN ", line), line
            apiserver.delete(service("s001"))
            while not re.search(r" - s001\.default\.svc\.\S+ 30 IN A \S+ ; services/default/s001$", line):
                line = watch.stdout.readline().rstrip("\n")
                assert line, errors.read_text()
            watch.stdout.close()
            watch.wait(10)
            assert errors.read_text() == ""
        finally:
            watch.kill()


@pytest.mark.parametrize("command", ["resync", "resync --dry-run", "records"])
def test_unreachable_server_is_one_line_on_stderr(command: str, apiserver: ApiServer, etcd: Etcd) -> None:
    nowhere = f"{LOOPBACK}:{free_port()}"
    away = [["--kube-master-url", f"https://{nowhere}", "--etcd-server", etcd.url]]
    if command != "records":
        away.append(["--kubeconfig", str(apiserver.kubeconfig()), "--etcd-server", f"http://{nowhere}"])
    for options in away:
        done = call(*command.split(), *options)
        assert (done.returncode, nowhere in done.stderr, done.stderr.count("\n")) == (1, True, 1), done.stderr


def test_run_starts_without_etcd_and_waits_for_it(apiserver: ApiServer, etcd: Etcd, run: Run) -> None:
    etcd.stop()
    apiserver.apply(service("early"))
    bridge = run(ready=False)
    bridge.wait_readyz("cannot be reached", 10)
    assert bridge.get("/livez").status_code == 200
    assert bridge.get("/readyz").status_code == 503
    etcd.start()
    bridge.wait_ready()
    assert [key for key in etcd.dump("/skydns") if key.endswith("/default/early")]
