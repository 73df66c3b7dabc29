"""kube2etcd at work on one machine, with nothing installed: ``python -m tests.stack.demo``.

Starts a real kube-apiserver and its etcd, the pod-local etcd, the bridge, and CoreDNS with the Corefile
from ``kube2etcd corefile``; applies ``demo_objects.yaml``, asks over DNS and shows question, answer and the
object behind it. Then it waits for your own questions. ``--once`` exits after the table, with 0 if every
answer was right.
"""

import argparse
import contextlib
import os
import shlex
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype
import yaml

from tests.stack.build import BRIDGE, console
from tests.stack.coredns import corefile, rdata_or_rcode, upstream_corefile
from tests.stack.harness import (
    LOOPBACK,
    ApiServer,
    Bridge,
    BuildError,
    CoreDns,
    DeadlineError,
    Etcd,
    KubeError,
    Server,
    binaries,
    free_port,
    wait_for,
)
from tests.stack.objects import vmi_crd
from tests.stack.process import is_free

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
OBJECTS = HERE / "demo_objects.yaml"
DOMAIN = "cluster.local"
DNS_SERVICE = "10.0.0.10"
SVC = f"shop.svc.{DOMAIN}"


class DemoError(Exception):
    """An error that the user can fix; the text says how."""


@dataclass(frozen=True)
class Expected:
    """A question, the right answer, and the reason.

    ``answer``: rdata, separated by ``; ``, or NODATA or NXDOMAIN.
    """

    name: str
    rtype: str
    answer: str
    behind: str

    def met(self, seen: Sequence[str]) -> bool:
        """Whether this is the answer, in any order."""
        return sorted(seen) == sorted(self.answer.split("; "))


QUESTIONS: Sequence[Expected] = (
    Expected(f"web.{SVC}", "A", "10.0.0.20", "Service web: its cluster address"),
    Expected(f"web.{SVC}", "AAAA", "fd00:10::20", "Service web: the second family"),
    Expected(f"_http._tcp.web.{SVC}", "SRV", f"0 50 80 web.{SVC}.", "Service web: port http"),
    Expected(f"web.{SVC}", "SRV", f"0 25 80 web.{SVC}.; 0 25 9090 web.{SVC}.", "Service web: all its ports"),
    Expected(f"web.{SVC}", "TXT", "NODATA", "Service web: exists, has no text"),
    Expected("20.0.0.10.in-addr.arpa", "PTR", f"web.{SVC}.", "Service web: its address backwards"),
    Expected(f"db.{SVC}", "A", "172.16.0.10; 172.16.0.12", "headless Service db: ready endpoints only"),
    Expected(f"db-0.db.{SVC}", "A", "172.16.0.10", "EndpointSlice db-1: hostname db-0"),
    Expected(f"db-1.db.{SVC}", "A", "NXDOMAIN", "EndpointSlice db-1: hostname db-1 is not ready"),
    Expected(f"172-16-0-12.db.{SVC}", "A", "172.16.0.12", "EndpointSlice db-1: endpoint without hostname"),
    Expected(
        f"_sql._tcp.db.{SVC}",
        "SRV",
        f"0 50 5432 db-0.db.{SVC}.; 0 50 5432 172-16-0-12.db.{SVC}.",
        "headless Service db: port sql per endpoint",
    ),
    Expected("10.0.16.172.in-addr.arpa", "PTR", f"db-0.db.{SVC}.", "EndpointSlice db-1: backwards"),
    Expected(f"payments.{SVC}", "CNAME", "payments.example.", "ExternalName Service payments"),
    Expected(f"payments.{SVC}", "A", "payments.example.; 192.0.2.80", "the same, followed to the outside"),
    Expected(f"legacy.{SVC}", "CNAME", "NXDOMAIN", "Service legacy: left out, an alias cannot be an address"),
    Expected(f"any.{SVC}", "A", "NXDOMAIN", "Service any: left out, any is a wildcard to CoreDNS"),
    Expected(f"*.{SVC}", "A", "NXDOMAIN", "no wildcards"),
    Expected(f"none.{SVC}", "A", "NXDOMAIN", "no such Service"),
    Expected(SVC, "A", "NODATA", "Namespace shop: exists"),
    Expected(f"none.svc.{DOMAIN}", "A", "NXDOMAIN", "no such Namespace"),
    Expected(f"172-16-0-30.shop.pod.{DOMAIN}", "A", "172.16.0.30", "Pod worker"),
    Expected(f"172-16-0-31.shop.pod.{DOMAIN}", "A", "NXDOMAIN", "no Pod has this address"),
    Expected(
        "nic1.vmi-sec.secondary-test.vm", "A", "10.10.0.5", "VirtualMachineInstance vmi-sec: interface nic1"
    ),
    Expected("vmi-sec.secondary-test.vm", "A", "10.10.0.5", "the same: its first secondary interface"),
    Expected("default.vmi-sec.secondary-test.vm", "A", "NXDOMAIN", "the pod network is not for the vm zone"),
    Expected(f"dns-version.{DOMAIN}", "TXT", '"1.1.0"', "the specification's version"),
    Expected(
        f"kubernetes.default.svc.{DOMAIN}", "A", "10.0.0.1", "Service kubernetes, made by the API server"
    ),
)


class Stack:
    """All servers, started in order and stopped in reverse."""

    def __init__(self, directory: Path, programs: Mapping[str, Path], port: int) -> None:
        self.directory, self.programs, self.port = directory, programs, port
        api_etcd, self.etcd = (Etcd(directory, programs, name=name) for name in ("api-etcd", "pod-etcd"))
        self.api = ApiServer(directory / "apiserver", programs, api_etcd.url)
        world = CoreDns(directory, programs, upstream_corefile("payments.example"), name="outside")
        self.options = ["--domain", DOMAIN, *self.etcd.options, "--pods", "verified", "--vm-domain", ""]
        cluster = ["--kubeconfig", str(self.api.kubeconfig()), "--dns-server-ip", DNS_SERVICE]
        self.bridge = Bridge(directory, [*self.options, *cluster])
        text = corefile(port, *self.options, "--upstream", f"{LOOPBACK}:{world.port}")
        self.dns = CoreDns(directory, programs, text, port=port)
        self.servers: list[Server] = [api_etcd, self.api, self.etcd, world, self.bridge, self.dns]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Start all, each once the ones before are up."""
        with contextlib.ExitStack() as exits:
            for server in self.servers:
                console(f"starting {server.name}…")
                exits.enter_context(server)
                if server is self.api:
                    self.api.apply(vmi_crd())
                if server is self.bridge:
                    self.bridge.wait_ready()
            yield

    def apply(self) -> None:
        """Apply the objects, as ``kubectl apply`` would."""
        objects = list(yaml.safe_load_all(OBJECTS.read_text()))
        console(f"applying {len(objects)} objects…")
        self.api.apply_all(objects)


def answered(dns_server: CoreDns, question: Expected) -> Sequence[str]:
    """The server's answer in order, as in `Expected`."""
    try:
        return rdata_or_rcode(dns_server.ask(question.name, question.rtype))
    except dns.exception.Timeout:
        return ["no answer"]


def ask_all(dns_server: CoreDns, deadline_s: float = 15.0) -> list[Sequence[str]]:
    """All answers, as soon as they are right or at the deadline."""
    answers: list[Sequence[str]] = []

    def all_right() -> bool:
        answers[:] = [answered(dns_server, question) for question in QUESTIONS]
        return all(question.met(seen) for seen, question in zip(answers, QUESTIONS, strict=True))

    with contextlib.suppress(DeadlineError):
        wait_for(all_right, "the right answers", deadline_s, dns_server)
    return answers


def table(answers: Sequence[Sequence[str]]) -> str:
    """A table of question, type, answer and object; one line per record."""
    rows: list[tuple[str, str, str, str]] = [("question", "type", "answer", "behind it")]
    for question, seen in zip(QUESTIONS, answers, strict=True):
        behind = question.behind
        if not question.met(seen):
            behind = f"WRONG, should be {question.answer}: {behind}"
        first, *others = seen
        rows.append((question.name, question.rtype, first, behind))
        rows += [("", "", other, "") for other in others]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    rows.insert(1, ("-" * widths[0], "-" * widths[1], "-" * widths[2], "-" * len("behind it")))
    lines = []
    for row in rows:
        cells = [cell.ljust(size) for cell, size in zip(row, widths, strict=False)]
        lines.append("  ".join([*cells, row[3]]).rstrip())
    return "\n".join(lines)


def by_hand(stack: Stack) -> str:
    kubeconfig = stack.api.directory / "kubeconfig"
    service = (
        '{"apiVersion":"v1","kind":"Service","metadata":{"name":"mine"},'
        '"spec":{"clusterIP":"10.0.0.99","ports":[{"name":"http","port":80}]}}'
    )
    options = shlex.join([*stack.options, "--kubeconfig", str(kubeconfig)])
    return f"""
Ask:     dig @{LOOPBACK} -p {stack.port} +noall +answer _http._tcp.web.{SVC} SRV
Change:  curl -s --cacert {stack.api.ca_file} -H 'Authorization: Bearer {stack.api.token}' \\
           -H 'Content-Type: application/json' -d '{service}' \\
           {stack.api.url}/api/v1/namespaces/shop/services
         dig @{LOOPBACK} -p {stack.port} +short mine.{SVC}
    or:  kubectl --kubeconfig {kubeconfig} apply -f FILE
Why:     {sys.executable} -m kube2etcd explain legacy.{SVC} {options}
Keys:    {stack.programs["etcdctl"]} --endpoints={stack.etcd.url} get --prefix /skydns
Logs:    {stack.directory}
"""


def wait_for_the_end(stack: Stack) -> None:
    """Wait for Ctrl-C; fails if a server exits."""
    while True:
        for server in stack.servers:
            if not server.alive:
                raise DemoError(f"{server.name} has exited with {server.exit_code}:\n{server.log_tail()}")
        threading.Event().wait(0.5)


def run(port: int, once: bool, out: TextIO) -> int:
    """Run the demo; stops all servers before it returns."""
    if port and not is_free(port):
        raise DemoError(
            f"port {port} of {LOOPBACK} is in use; choose another with --port, or omit it to use any free one"
        )
    programs = binaries(names=BRIDGE)
    with tempfile.TemporaryDirectory(prefix="kube2etcd-demo-", ignore_cleanup_errors=True) as directory:
        stack = Stack(Path(directory), programs, port or free_port())
        with stack.running():
            stack.apply()
            console("asking…")
            answers = ask_all(stack.dns)
            print(f"\n{table(answers)}", file=out)
            wrong = [
                f"{question.name} {question.rtype}"
                for question, seen in zip(QUESTIONS, answers, strict=True)
                if not question.met(seen)
            ]
            verdict = f"WRONG: {', '.join(wrong)}" if wrong else f"all {len(answers)} answers are right"
            print(f"\n{verdict}", file=out, flush=True)
            if once:
                return 1 if wrong else 0
            print(by_hand(stack), file=out)
            print("Everything runs until Ctrl-C.", file=out, flush=True)
            try:
                wait_for_the_end(stack)
            finally:
                console("stopping…")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments and run; print errors without a traceback."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.stack.demo", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--once", action="store_true", help="end after the table; 0 if all was right")
    parser.add_argument("--port", type=int, default=0, help="where DNS answers on 127.0.0.1 (any free one)")
    given = parser.parse_args(arguments)
    try:
        return run(given.port, given.once, sys.stdout)
    except KeyboardInterrupt:
        return 130 if given.once else 0
    except (DemoError, AssertionError, BuildError, KubeError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    # Children find the packages of this checkout, installed or not.
    found = [str(ROOT), str(ROOT / "skydns-compat"), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, found))
    # SIGTERM and SIGHUP clean up as Ctrl-C does, which a shell may have set to be ignored.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    sys.exit(main())
