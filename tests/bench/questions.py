"""``python -m tests.bench.questions``: queries per second against the kubernetes plugin, and their cost.

2,000 Services, half of them headless with ten endpoints each, on one etcd; dnsperf asks the two servers in
turn, so that ratios hold on a busy machine. Both have kubeadm's plugins (errors, prometheus, loadbalance,
cache 30).
"""

import argparse
import contextlib
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.bench.measure import cpu, dnsperf
from tests.bench.prepared import (
    CLUSTER,
    ENDPOINTS,
    PAGE_SIZE,
    ClusterSize,
    PreparedApi,
    endpoint_slice,
    name_of,
)
from tests.stack.bridge import kube2etcd
from tests.stack.coredns import corefile, plugin_corefile
from tests.stack.harness import LOOPBACK, CoreDns, Etcd, binaries, free_port, http

#: The first thousand have a cluster IP, the others are headless.
SERVICES, HEADLESS = 2_000, 1_000


def endpoint_name(number: int) -> str:
    """The name of the first endpoint of a headless Service."""
    address: str = endpoint_slice(number, ENDPOINTS)["endpoints"][0]["addresses"][0]
    return f"{address.replace('.', '-')}.{name_of(number)}"


def question_sets() -> dict[str, list[str]]:
    """Questions by title."""
    with_address, headless = range(SERVICES - HEADLESS), range(SERVICES - HEADLESS, SERVICES)
    outside = [f"{name}.example.com" for name in ("www", "api", "cdn", "login", "mail", "static")]
    searched = [f"{name}.bench-{at}.{CLUSTER}" for name in outside for at in range(SERVICES // PAGE_SIZE)]
    searched += [f"{name}.cluster.local." for name in outside] * (SERVICES // PAGE_SIZE)
    every = [f"{name_of(at)} {rtype}" for at in range(SERVICES) for rtype in ("A", "AAAA")]
    return {
        "hot names": [f"{name_of(at)} A" for at in range(50)],
        "20,000 questions for all names": (every * 4)[:20_000],
        "SRV of all named ports": [f"_http._tcp.{name_of(at)} SRV" for at in range(SERVICES)],
        "headless": [f"{name_of(at)} A" for at in headless],
        "AAAA without data": [f"{name_of(at)} AAAA" for at in with_address],
        "search list": [f"{name} A" for name in searched],
        "existing": [f"{name_of(at)} A" for at in with_address],
        "existing, headless": [f"{name_of(at)} A" for at in headless],
    }


#: Questions, whether answers are cached, and the minimum ratio.
COMPARISONS = (
    ("hot names", True, 0.9),
    ("20,000 questions for all names", True, 0.9),
    ("headless", True, 0.9),
    ("SRV of all named ports", True, 0.0),
    ("AAAA without data", True, 0.9),
    ("search list", False, 0.9),
    ("existing", False, 0.3),
    ("existing, headless", False, 0.0),
)
#: Plugins whose lines are removed from the Corefile, one at a time.
COREFILE_LINES = ("loadbalance", "prometheus", "errors", "any", "rewrite", "template")


class Rate(NamedTuple):
    """Answers per second, and the CPU of server and etcd per answer."""

    each_second: float
    microseconds: float


@dataclass
class Servers:
    """The servers that are compared, and files of questions."""

    folder: Path
    programs: Mapping[str, Path]
    etcd: Etcd
    api_url: str

    def plugin(self, cached: bool) -> CoreDns:
        beside = (f"prometheus {LOOPBACK}:{free_port()}", "loadbalance", *(["cache 30"] if cached else []))
        text = plugin_corefile(f"endpoint {self.api_url}", *beside)
        return CoreDns(self.folder, self.programs, text, name=f"plugin-{cached}")

    def ours(self, cached: bool, without: str = "") -> CoreDns:
        """CoreDNS on the keys, with our Corefile, or without one plugin's lines."""
        port, metrics = free_port(), free_port()
        more = ("--metrics-listen", f"{LOOPBACK}:{metrics}", "--pods", "insecure")
        text = corefile(port, "--etcd-server", self.etcd.url, *more, "--cache", "30" if cached else "0")
        name = f"ours-{cached}-{without}"
        return CoreDns(self.folder, self.programs, without_plugin(text, without), port=port, name=name)

    def rate(self, server: CoreDns, asked: str, seconds: float) -> Rate:
        """Measure the rate of these questions, and their cost for the server and etcd."""
        file = self.folder / re.sub(r"\W+", "-", asked)
        file.write_text("\n".join(question_sets()[asked]) + "\n")
        pids = (server.pid, self.etcd.pid)
        before = sum(map(cpu, pids))
        each_second, count = dnsperf(server.port, file, seconds)
        return Rate(each_second, 1e6 * (sum(map(cpu, pids)) - before) / max(1.0, count))


def without_plugin(text: str, plugin: str) -> str:
    """The Corefile without one plugin's lines and blocks."""
    kept, depth = [], 0
    for line in text.splitlines():
        if depth:
            depth += line.endswith("{") - (line.strip() == "}")
        elif plugin and line.strip().split(" ")[0] == plugin:
            depth = int(line.endswith("{"))
        else:
            kept.append(line)
    return "\n".join(kept) + "\n"


@contextlib.contextmanager
def running(*servers: CoreDns) -> Iterator[None]:
    with contextlib.ExitStack() as exits:
        for server in servers:
            exits.enter_context(server)
            server.expect(name_of(0), "A", "10.0.0.1", deadline_s=60)
        yield


def compare(servers: Servers, rounds: int, seconds: float) -> Iterator[str]:
    """The table against the kubernetes plugin; a first run of each file does not count."""
    yield "| questions | cache | kubernetes plugin | ours | ratio | goal | CPU: plugin | ours, etcd |"
    yield "|---|---|---|---|---|---|---|---|"
    for cached in (True, False):
        pair = (servers.plugin(cached), servers.ours(cached))
        with running(*pair):
            for asked, wants_cache, goal in COMPARISONS:
                if wants_cache != cached:
                    continue
                for server in pair:
                    servers.rate(server, asked, seconds)
                found = [[servers.rate(server, asked, seconds) for server in pair] for _ in range(rounds)]
                theirs, ours = (
                    Rate(*map(median, zip(*rates, strict=True))) for rates in zip(*found, strict=True)
                )
                ratio = median(mine.each_second / its.each_second for its, mine in found)
                yield (
                    f"| {asked} | {'30 s' if cached else 'none'} | {theirs.each_second:,.0f}/s "
                    f"| {ours.each_second:,.0f}/s | {ratio:.2f} x | {f'{goal} x' if goal else '-'} "
                    f"| {theirs.microseconds:.0f} us | {ours.microseconds:.0f} us |"
                )


def costs(servers: Servers, rounds: int, seconds: float) -> Iterator[str]:
    """The table of each plugin's cost: CPU per question with its lines minus without."""
    yield "| lines | hot name, cached | miss of the search list, not cached | existing name, not cached |"
    yield "|---|---|---|---|"
    kinds = ((True, "hot names"), (False, "search list"), (False, "existing"))
    whole = {cached: servers.ours(cached) for cached in (True, False)}
    with running(*whole.values()):
        for line in COREFILE_LINES:
            cells = []
            for cached, asked in kinds:
                other = servers.ours(cached, line)
                with running(other):
                    servers.rate(other, asked, seconds / 2)
                    both = (whole[cached], other)
                    pairs = [
                        [servers.rate(one, asked, seconds).microseconds for one in both]
                        for _ in range(rounds)
                    ]
                cells.append(f"{median(with_ - without for with_, without in pairs):+.1f} us")
            yield f"| `{line}` | {' | '.join(cells)} |"


def etcd_reads(servers: Servers) -> Iterator[str]:
    """The table of etcd reads per question, and of keys below its name."""
    yield "| question | reads | keys below its name |"
    yield "|---|---|---|"
    headless = name_of(SERVICES - 1)
    server = servers.ours(False)
    with running(server):
        for what, name, rtype in (
            ("Service", name_of(0), "A"),
            ("Service, other family", name_of(0), "AAAA"),
            ("named port", f"_http._tcp.{name_of(0)}", "SRV"),
            ("headless Service, ten endpoints", headless, "A"),
            ("its named port", f"_http._tcp.{headless}", "SRV"),
            ("endpoint", endpoint_name(SERVICES - 1), "A"),
            ("Namespace", f"bench-0.{CLUSTER}", "A"),
            ("no such Service", f"gone.bench-0.{CLUSTER}", "A"),
            ("outside name with a Namespace's suffix", f"www.example.com.bench-0.{CLUSTER}", "A"),
            ("outside name with the zone", "www.example.com.cluster.local.", "A"),
            ("apex", "cluster.local.", "SRV"),
        ):
            keys = len(servers.etcd.dump("/".join(["/skydns", *reversed(name.rstrip(".").split(".")), ""])))
            before = range_count(servers.etcd)
            for _ in range(10):
                server.ask(name, rtype, tcp=True)
            yield f"| {what}: {rtype} | {(range_count(servers.etcd) - before) / 10:g} | {keys} |"


def range_count(etcd: Etcd) -> float:
    """The number of Range requests that etcd has answered."""
    text = http("GET", f"{etcd.url}/metrics").text
    lines = [line for line in text.splitlines() if line.startswith("grpc_server_handled_total{")]
    return sum(float(line.split()[-1]) for line in lines if 'grpc_method="Range"' in line)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.questions", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each round")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="kube2etcd-bench-") as folder, PreparedApi() as api:
        programs = binaries()
        with Etcd(Path(folder), programs) as etcd:
            api.fill(ClusterSize(services=SERVICES, cluster_ips=SERVICES - HEADLESS))
            kube2etcd("resync", "--kube-master-url", api.url, "--etcd-server", etcd.url)
            servers = Servers(Path(folder), programs, etcd, api.url)
            for title, lines in (
                (
                    "Questions a second beside the kubernetes plugin",
                    compare(servers, given.rounds, given.seconds),
                ),
                ("What a plugin's lines cost", costs(servers, given.rounds, given.seconds)),
                ("Reads of etcd for a question", etcd_reads(servers)),
            ):
                print(f"\n## {title}\n")
                for line in lines:
                    print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
