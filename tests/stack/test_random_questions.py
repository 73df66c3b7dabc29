"""Random questions to CoreDNS on our keys and to the kubernetes plugin, directly and through resolvers.

3,000 questions with a fixed seed; with ``--hypothesis-profile=thorough`` (`tox -e thorough`) 20,000 with a
random one. A difference must have a reason below.
"""

import contextlib
import json
import random
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dns.exception
import dns.rcode
import pytest

from tests.stack import coredns, debian
from tests.stack.compare import Answer, Report
from tests.stack.harness import LOOPBACK, ApiServer, Binaries, CoreDns, Etcd, Process, free_port, wait_for
from tests.stack.known_differences import KnownDifference, classified
from tests.stack.node import with_bind_mounts
from tests.stack.pair import Pair, running_pair
from tests.stack.questions import Question, dashed, questions
from tests.stack.random_cluster import random_cluster
from tests.stack.random_questions import TYPES, RandomQuestion, ask, random_questions, response_differences

QUICK, THOROUGH = 3_000, 20_000


def reason(why: str, types: Iterable[str] = TYPES, names: str = ".*", what: str = ".*") -> KnownDifference:
    """A reason for differences of these types and names, in ``what``."""
    return KnownDifference(name=why, types=tuple(types), names=names, what=what)


#: As skydns-compat/README.md lists them.
REASONS = (
    reason("RFC 8482: ANY is answered with HINFO, by the plugin `any`", types=["ANY"]),
    reason("the label any is a wildcard of the etcd plugin, and no name of ours", names=r"(.*\.)?any\..*"),
    reason("the plugin takes * for no name at all and for any name", names=r"(.*\.)?\*\..*"),
    reason(
        "RFC 8020: a name above others exists",
        names=r"((dns-version|(ns\.)?dns|svc|pod|[^.]+\.(svc|pod)|_(tcp|udp|sctp)\.[^.]+\.[^.]+\.svc)\.)?"
        r"cluster\.local\.",
        what="NXDOMAIN became NOERROR",
    ),
    reason(
        "no specification has ports without underscores",
        names=r"(_?[^_.]+\._?(tcp|udp|sctp)|_[^.]+\.(tcp|udp|sctp))\.[^.]+\.[^.]+\.svc\..*",
        what="NOERROR became NXDOMAIN",
    ),
    reason(
        "only PTR is answered from keys in reverse zones, other types go to the upstream",
        types=set(TYPES) - {"PTR"},
        names=r"(.*\.)?(in-addr|ip6)\.arpa\.",
    ),
    reason(
        "the plugin gives PTR to names that it then denies, several for one address, and passes over labels",
        types=["PTR"],
        names=r"(.*\.)?(in-addr|ip6)\.arpa\.",
        what="NOERROR became NXDOMAIN|answer|Timeout became .*|NOERROR became NXDOMAIN.*",
    ),
    reason(
        "the plugin takes _ for every port and every protocol, we take it for a port without a name",
        names=r"(_\._(tcp|udp|sctp)|_[^.]*\._)\..*",
        what="NOERROR became NXDOMAIN|answer",
    ),
    reason(
        "labels before a pod's name are passed over, by us however many they are; the SRV target keeps them",
        names=r".+\.[^.]+\.[^.]+\.pod\.cluster\.local\.",
        what="answer|NXDOMAIN became NOERROR",
    ),
    reason(
        "the etcd plugin gives the one host of a key for TXT and PTR too",
        types=["TXT", "PTR"],
        what="an answer.*",
    ),
)


@pytest.fixture(scope="module")
def pair(
    binaries: Binaries, shared_apiserver: ApiServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    directory = tmp_path_factory.mktemp("pair")
    shared_apiserver.reset()
    with (
        Etcd(directory, binaries) as etcd,
        running_pair(binaries, directory, shared_apiserver, etcd, pods="verified") as running,
    ):
        for one in random_cluster(7, 16):
            shared_apiserver.apply(one)
        running.catch_up()
        yield running


@pytest.fixture(scope="module")
def known(pair: Pair) -> list[str]:
    return list(dict.fromkeys(question.name for question in questions(pair.objects())))


def test_answers_match_the_plugin(
    pair: Pair, known: list[str], pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    thorough = pytestconfig.getoption("--hypothesis-profile") == "thorough"
    seed = random.SystemRandom().randrange(2**32) if thorough else 1
    asked = random_questions(known, THOROUGH if thorough else QUICK, random.Random(seed))

    def both(item: tuple[int, RandomQuestion]) -> tuple[RandomQuestion, Answer, Answer]:
        number, one = item
        return one, ask(pair.oracle.port, one, number), ask(pair.ours.port, one, number)

    instead = "|".join(sorted(_labels_of_any_endpoints(pair)) or ["none"])
    of_any = reason("not the plugin's name", names=f"({instead})\\..*", what="NXDOMAIN became NOERROR.*")
    report, answered = Report(response_differences), 0
    with ThreadPoolExecutor(4) as pool:
        for one, theirs, ours in pool.map(both, enumerate(asked)):
            answered += bool(ours.answer)
            report.add(Question(one.name.to_text(), one.rdtype, one.transport), theirs, ours)
    classified(report, f"random questions, seed {seed}", capsys, (*REASONS, of_any))
    assert answered > QUICK / 50, "few random names exist, but some"


def _labels_of_any_endpoints(pair: Pair) -> set[str]:
    """Labels of endpoints whose hostname is ``any``, which are named after their address."""
    slices = pair.apiserver.list("discovery.k8s.io/v1", "EndpointSlice")
    return {
        dashed(address)
        for one in slices
        for endpoint in one.get("endpoints") or []
        if endpoint.get("hostname") == "any"
        for address in endpoint["addresses"]
    }


def _unbound(home: Path, port: int, ours: int, file: Path) -> list[str]:
    """With strict QNAME minimisation, which stops at a wrong NXDOMAIN of any ancestor."""
    zones = ("cluster.local", "10.in-addr.arpa", "172.in-addr.arpa", "d.f.ip6.arpa")
    lines = [
        *(
            "server:",
            f"port: {port}",
            f"interface: {LOOPBACK}",
            "do-daemonize: no",
            "do-not-query-localhost: no",
        ),
        *("use-syslog: no", 'chroot: ""', 'username: ""', f'directory: "{file.parent}"', 'pidfile: ""'),
        *("qname-minimisation: yes", "qname-minimisation-strict: yes", 'module-config: "iterator"'),
        *("unblock-lan-zones: yes", "insecure-lan-zones: yes", "aggressive-nsec: no", "msg-cache-size: 0"),
        *("harden-below-nxdomain: yes", "use-caps-for-id: yes"),
    ]
    for zone in zones:
        lines += ["stub-zone:", f'name: "{zone}"', f"stub-addr: {LOOPBACK}@{ours}"]
    lines += ["forward-zone:", 'name: "."', f"forward-addr: {LOOPBACK}@{ours}"]
    file.write_text("\n".join(lines) + "\n")
    return [str(home / "usr/sbin/unbound"), "-d", "-c", str(file)]


def _dnsmasq(home: Path, port: int, ours: int, _file: Path) -> list[str]:
    options = ["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--cache-size=0"]
    where = [f"--port={port}", f"--listen-address={LOOPBACK}", "--bind-interfaces", "--user=", "--pid-file="]
    return [str(home / "usr/sbin/dnsmasq"), *options, *where, f"--server={LOOPBACK}#{ours}"]


#: systemd-resolved with private account files and a private /run.
RESOLVED = """
set -e
mount -t tmpfs none /run
mkdir -p /run/systemd/resolved.conf.d /run/systemd/resolve
for file in passwd group; do cp /etc/$file /run/$file; done
echo systemd-resolve:x:995:995::/:/usr/sbin/nologin >> /run/passwd
echo systemd-resolve:x:995: >> /run/group
for file in passwd group; do mount --bind /run/$file /etc/$file; done
chown 995:995 /run/systemd/resolve
cp "$2" /run/systemd/resolved.conf.d/test.conf
exec "$1"
"""


def _resolved(home: Path, port: int, ours: int, file: Path) -> list[str]:
    settings = [f"DNS={LOOPBACK}:{ours}", "Domains=~.", "DNSStubListener=no", "DNSSEC=no", "LLMNR=no"]
    settings += [f"DNSStubListenerExtra={LOOPBACK}:{port}", "MulticastDNS=no", "ReadEtcHosts=no"]
    file.write_text("\n".join(["[Resolve]", *settings]) + "\n")
    program = str(home / "lib/systemd/systemd-resolved")
    return ["unshare", "--mount", "sh", "-c", RESOLVED, "sh", program, str(file)]


#: By Debian package: the command from (unpacked root, its port, CoreDNS's port, configuration file).
RESOLVERS: dict[str, Callable[[Path, int, int, Path], list[str]]] = {
    "unbound": _unbound,
    "dnsmasq-base": _dnsmasq,
    "systemd-resolved": _resolved,
}


def _unpacked(*packages: str) -> Path:
    try:
        return debian.unpacked(packages)
    except debian.UnavailableError as error:
        pytest.skip(f"no Debian packages of {', '.join(packages)}: {error}")


@pytest.mark.parametrize("package", RESOLVERS)
def test_answers_survive_a_resolver(pair: Pair, known: list[str], package: str, tmp_path: Path) -> None:
    """Answers through it equal direct ones, or the plugin's through it."""
    home = _unpacked(package)
    with contextlib.ExitStack() as exits:
        ports = []
        for server in (pair.ours, pair.oracle):
            folder, port = tmp_path / server.name, free_port()
            folder.mkdir()
            command = RESOLVERS[package](home, port, server.port, folder / "conf")
            process = Process(package, command, folder, env=debian.environment(home))
            exits.callback(process.kill)
            process.start()
            wait_for(lambda port=port: _is_up(port), package, 20, process)  # type: ignore[misc]
            ports.append(port)
        wrong = {}
        for name in random.Random(3).sample(known, min(400, len(known))):
            if _differs_on_purpose(name):
                continue
            # A wrong NXDOMAIN for DS makes a caching resolver deny all types of the name.
            for rdtype in ("PTR",) if name.lower().endswith("arpa.") else ("DS", "A", "SRV"):
                direct, through = (_answer(port, name, rdtype) for port in (pair.ours.port, ports[0]))
                if through not in (direct, _answer(ports[1], name, rdtype)):
                    wrong[f"{name} {rdtype}"] = f"{direct} became {through}"
    assert not wrong, json.dumps(wrong, indent=1)


def _differs_on_purpose(name: str) -> bool:
    """Names where we differ from the plugin on purpose: wildcards, and names above a port."""
    return bool(re.search(r"\*|(^|\.)any\.|^_[^.]*\.[^.]+\.[^.]+\.svc\.", name.lower()))


def _answer(port: int, name: str, rdtype: str, address: str = LOOPBACK) -> tuple[str, frozenset[str]]:
    """The rcode, or the name of a query's error, and the rdata of the requested type."""
    try:
        answer = coredns.ask(name, rdtype, port, at=address)
    except (dns.exception.DNSException, OSError) as error:
        return type(error).__name__, frozenset()
    wanted = answer.question[0].rdtype
    data = {item.to_text().lower() for rrset in answer.answer for item in rrset if rrset.rdtype == wanted}
    return dns.rcode.to_text(answer.rcode()), frozenset(data)


def _is_up(port: int, address: str = LOOPBACK) -> bool:
    return _answer(port, "kubernetes.default.svc.cluster.local.", "A", address)[0] == "NOERROR"


LOOK_UP = r"""
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
int main(int count, char **names) {
    for (int at = 1; at < count; at++) {
        struct addrinfo hints, *found, *one;
        memset(&hints, 0, sizeof hints);
        hints.ai_socktype = SOCK_STREAM;
        int code = getaddrinfo(names[at], 0, &hints, &found);
        printf("%s", names[at]);
        if (code == EAI_NONAME || code == -5 /* EAI_NODATA */) printf(" none");
        else if (code) printf(" error %d", code);
        else for (one = found; one; one = one->ai_next) {
            char text[64] = "";
            void *address = one->ai_family == AF_INET
                ? (void *)&((struct sockaddr_in *)one->ai_addr)->sin_addr
                : (void *)&((struct sockaddr_in6 *)one->ai_addr)->sin6_addr;
            printf(" %s", inet_ntop(one->ai_family, address, text, sizeof text));
        }
        printf("\n");
    }
}
"""


def _glibc(source: Path) -> list[str]:
    return ["gcc", str(source)]


def _musl(source: Path) -> list[str]:
    home = _unpacked("musl-dev")
    library = home / "usr/lib/x86_64-linux-musl"
    start, end = [str(library / name) for name in ("crt1.o", "crti.o")], str(library / "crtn.o")
    headers = ["-nostdinc", "-isystem", str(home / "usr/include/x86_64-linux-musl"), "-nostdlib", "-static"]
    return ["gcc", *headers, *start, str(source), str(library / "libc.a"), "-lgcc", "-lgcc_eh", end]


@pytest.mark.parametrize("library", [_glibc, _musl], ids=["glibc", "musl"])
def test_getaddrinfo_finds_the_published_addresses(
    pair: Pair, known: list[str], library: Callable[[Path], list[str]], binaries: Binaries, tmp_path: Path
) -> None:
    source, program = tmp_path / "look_up.c", tmp_path / "look_up"
    source.write_text(LOOK_UP)
    try:
        subprocess.run([*library(source), "-o", str(program)], check=True, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no C compiler here")
    # libc only asks at port 53: a loopback address of our own.
    address = "127.53.0.7"
    text = coredns.corefile(53, *pair.options, "--dns-listen", f"{address}:53")
    resolv = tmp_path / "resolv.conf"
    resolv.write_text(f"nameserver {address}\n")
    server = CoreDns(tmp_path, binaries, text, name="port-53")
    names = [
        name
        for name in known
        if name.endswith(".svc.cluster.local.")
        and re.fullmatch(r"[a-z0-9.-]+", name)
        and ".any." not in f".{name}"
    ]
    names = random.Random(4).sample(names, 100)
    command = with_bind_mounts({"/etc/resolv.conf": resolv}, [str(program), *names])
    server.launch()
    try:
        wait_for(lambda: _is_up(53, address), "CoreDNS at port 53", 20, server)
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    finally:
        server.kill()
    wrong = {}
    for line in done.stdout.splitlines():
        name, *found = line.split()
        expected: set[str] = set()
        for rdtype in ("A", "AAAA"):
            expected |= _answer(pair.ours.port, name, rdtype)[1]
        if set(found) - {"none"} != expected:
            wrong[name] = f"{sorted(expected)} became {found}"
    assert not wrong, json.dumps(wrong, indent=1)
