"""Builds the real servers and tools that the tests and the demo run, once, into a cache outside the checkout.

Each has a Go module of its own under ``servers/``, because their requirements conflict. Elsewhere the modules
name the same versions, so that Go compiles a package once for all: CoreDNS shares three quarters of its
packages with kube-apiserver. ``test_servers.py`` checks it. The cache key of a server is everything that
determines its bytes (go.mod, go.sum, flags, machine), so only a change is built again.
``python -m tests.stack.build [server...]`` builds by hand.
"""

import contextlib
import fcntl
import hashlib
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.stack.process import atomic_directory
from tests.stack.toolchain import BuildError, find_go, go_environment, machine

HERE = Path(__file__).resolve().parent / "servers"

#: The programs by their file names.
Binaries = dict[str, Path]

#: Called with each line of progress.
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Server:
    """A Go module under ``servers/`` and its programs."""

    name: str
    programs: Mapping[str, str]  # file name -> Go package
    variables: Mapping[str, str] = field(default_factory=dict)  # set by the linker
    tags: str = ""

    @property
    def module(self) -> Path:
        return HERE / self.name

    def flags(self) -> list[str]:
        """Build flags: reproducible, and without debug tables, which take time."""
        ldflags = " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in self.variables.items())])
        plain = ["-mod=readonly", f"-tags={self.tags}", "-trimpath", "-buildvcs=false"]
        return [*plain, "-gcflags=all=-dwarf=false", f"-ldflags={ldflags}"]

    def key(self) -> str:
        digest = hashlib.sha256()
        for part in (
            (self.module / "go.mod").read_bytes(),
            (self.module / "go.sum").read_bytes(),
            *(path.read_bytes() for path in sorted(self.module.glob("*.go"))),
            repr((machine(), sorted(self.programs.items()), self.flags())).encode(),
        ):
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.hexdigest()[:16]

    def home(self) -> Path:
        return cache_dir() / "servers" / f"{self.name}-{self.key()}"

    def built(self) -> dict[str, Path] | None:
        """The built programs, or None if one is missing."""
        paths = {program: self.home() / program for program in self.programs}
        return paths if all(os.access(path, os.X_OK) for path in paths.values()) else None


_VERSION = "k8s.io/component-base/version"
_KUBERNETES = {f"{_VERSION}.gitMajor": "1", f"{_VERSION}.gitMinor": "36", f"{_VERSION}.gitVersion": "v1.36.3"}
_HELM = {
    "helm.sh/helm/v3/internal/version.version": "v3.21.4",
    "helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor": "1",
    "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor": "36",
}

#: A new server is a line here and a directory with go.mod and go.sum. The slowest build comes first.
SERVERS: tuple[Server, ...] = (
    Server("apiserver", {"kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver"}, _KUBERNETES),
    Server("coredns", {"coredns": "."}),
    Server("etcd", {"etcd": "go.etcd.io/etcd/server/v3", "etcdctl": "go.etcd.io/etcd/etcdctl/v3"}),
    Server("externaldns", {"external-dns": "sigs.k8s.io/external-dns"}),
    # Installs addons/helm. The last release with the Kubernetes modules of the API server above.
    Server("helm", {"helm": "helm.sh/helm/v3/cmd/helm"}, _HELM),
    # Runs the unit tests of the alerts, which need no service discovery.
    Server("promtool", {"promtool": "github.com/prometheus/prometheus/cmd/promtool"}, tags="remove_all_sd"),
    # v3.4.13, the last etcd in the Go module proxy with the v2 API, which classic SkyDNS reads.
    Server("etcd34", {"etcd34": "go.etcd.io/etcd"}),
)

#: For the benchmarks; built only by name.
BENCH: tuple[Server, ...] = (Server("writer", {"etcd-writer": "."}),)

#: The servers of the demo and the benchmarks.
BRIDGE = ("apiserver", "coredns", "etcd")


def cache_dir() -> Path:
    given = os.environ.get("KUBE2ETCD_CACHE")
    if given:
        return Path(given).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "kube2etcd"


def console(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def binaries(progress: Progress = console, names: Sequence[str] = ()) -> dict[str, Path]:
    """The programs by file name, of the servers ``names`` or all; missing ones are built."""
    known = {server.name: server for server in (*SERVERS, *BENCH)}
    unknown = set(names) - set(known)
    if unknown:
        raise BuildError(f"no such server: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    wanted = [server for server in known.values() if server.name in names] if names else list(SERVERS)
    if any(server.built() is None for server in wanted):
        with _build_lock():
            missing = [server for server in wanted if server.built() is None]
            if missing:
                build_all(missing, progress)
    found: dict[str, Path] = {}
    for server in wanted:
        found |= server.built() or {}
    return found


@contextlib.contextmanager
def _build_lock() -> Iterator[None]:
    """Lock out concurrent builds: the second run waits, then finds everything built."""
    (cache_dir() / "servers").mkdir(parents=True, exist_ok=True)
    with (cache_dir() / "servers" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build_all(servers: Sequence[Server], report: Progress) -> None:
    """Build servers in turn, so that each finds the packages of the others in Go's cache."""
    go, began = find_go(cache_dir(), report), time.monotonic()
    report(f"building {', '.join(server.name for server in servers)}: once, then kept in {cache_dir()}")
    for server in servers:
        compiled, reported = 0, began
        for compiled, _ in enumerate(_build(server, go), 1):
            if time.monotonic() - reported > 15:
                reported = time.monotonic()
                report(f"{server.name}: {compiled} packages, after {reported - began:.0f} s")
        report(f"built {server.name} of {compiled} packages, after {time.monotonic() - began:.0f} s")


def _build(server: Server, go: Path) -> Iterator[str]:
    """Build its programs, then move them in place; yields each package once fetched or compiled."""
    with atomic_directory(server.home()) as staging:
        for program, package in server.programs.items():
            tail: deque[str] = deque(maxlen=30)
            with subprocess.Popen(
                [str(go), "build", "-v", *server.flags(), "-o", str(staging / program), package],
                cwd=server.module,
                env=go_environment(go, cache_dir()),
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            ) as process:
                assert process.stderr is not None
                try:
                    for line in process.stderr:
                        tail.append(line.rstrip())
                        yield line
                except BaseException:
                    process.kill()
                    raise
            if process.returncode:
                raise BuildError(_build_failure(server, tail))


def _build_failure(server: Server, output: Iterable[str]) -> str:
    last = "\n".join(f"    {line}" for line in output) or "    (no output)"
    return (
        f"building {server.name} failed; its last lines:\n{last}\n"
        "What to try: is the Go module proxy reachable (environment GOPROXY, HTTPS_PROXY)? "
        f"Are there 5 GB free for {cache_dir()} and Go's own caches? "
        "A broken download goes away with 'go clean -modcache'. "
        f"Then again: python -m tests.stack.build {server.name}"
    )


def main(arguments: Sequence[str]) -> int:
    """Build the named servers, or all, and print their paths."""
    if any(argument.startswith("-") for argument in arguments):
        print(f"usage: python -m tests.stack.build [{'|'.join(server.name for server in SERVERS)}]...")
        return 0 if set(arguments) <= {"-h", "--help"} else 2
    try:
        found = binaries(names=arguments)
    except BuildError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    for program, path in found.items():
        print(f"{program}\t{path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
