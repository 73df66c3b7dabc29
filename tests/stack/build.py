"""Builds the real servers that the tests and the demo run, once, into a cache outside the checkout.

Each server is a tool of a small Go module of its own under ``servers/`` because their requirements clash.
A built server is kept under a key made of everything that decides its bytes (go.mod, go.sum, flags, machine),
so a second run starts at once and a changed version builds again.
``python -m tests.stack.build [server...]`` does it by hand.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from tests.stack.toolchain import BuildError, find_go, go_environment, machine

HERE = Path(__file__).resolve().parent / "servers"

#: Told what is going on. A text that ends in an ellipsis is passing news, soon replaced by the next.
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Server:
    """One Go module under ``servers/`` and the programs that come out of it."""

    name: str
    programs: Mapping[str, str]  # file name of the program -> its Go package
    seconds: float  # rough time of a build from nothing on two cores, to tell how long the rest may take
    variables: Mapping[str, str] = field(default_factory=dict)  # Go variables set by the linker

    @property
    def module(self) -> Path:
        """The folder with go.mod and go.sum."""
        return HERE / self.name

    def flags(self) -> list[str]:
        """The build flags: nothing of this machine in the program, no debug tables."""
        ldflags = " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in self.variables.items())])
        return ["-mod=readonly", "-trimpath", "-buildvcs=false", f"-ldflags={ldflags}"]

    def key(self) -> str:
        """Changes whenever the program would."""
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
        """Where the built programs are kept."""
        return cache_dir() / "servers" / f"{self.name}-{self.key()}"

    def built(self) -> dict[str, Path] | None:
        """The built programs, or None where one is missing."""
        paths = {program: self.home() / program for program in self.programs}
        return paths if all(os.access(path, os.X_OK) for path in paths.values()) else None


_VERSION = "k8s.io/component-base/version"
_KUBERNETES = {f"{_VERSION}.gitMajor": "1", f"{_VERSION}.gitMinor": "36", f"{_VERSION}.gitVersion": "v1.36.3"}

#: Another server is one more line here and a folder with go.mod and go.sum.
SERVERS: tuple[Server, ...] = (
    Server("etcd", {"etcd": "go.etcd.io/etcd/server/v3", "etcdctl": "go.etcd.io/etcd/etcdctl/v3"}, 60),
    Server("coredns", {"coredns": "."}, 100),
    Server("apiserver", {"kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver"}, 200, _KUBERNETES),
    # The last etcd with the v2 API that the Go module proxy has (v3.4.13): what classic SkyDNS reads.
    Server("etcd34", {"etcd34": "go.etcd.io/etcd"}, 45),
    Server("externaldns", {"external-dns": "sigs.k8s.io/external-dns"}, 270),
)

#: What the benchmarks compare with: built only where it is named.
BENCH: tuple[Server, ...] = (Server("writer", {"etcd-writer": "."}, 30),)

#: The servers of a cluster's DNS: what the demo and the benchmarks need.
BRIDGE = ("etcd", "coredns", "apiserver")


def cache_dir() -> Path:
    """``$KUBE2ETCD_CACHE``, else the person's cache folder."""
    given = os.environ.get("KUBE2ETCD_CACHE")
    if given:
        return Path(given).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "kube2etcd"


def binaries(progress: Progress | None = None, names: Sequence[str] = ()) -> dict[str, Path]:
    """The programs by file name, built where they are missing; ``names`` of servers narrows them."""
    known = {server.name: server for server in (*SERVERS, *BENCH)}
    unknown = set(names) - set(known)
    if unknown:
        raise BuildError(f"no such server: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    wanted = [known[name] for name in names] if names else list(SERVERS)
    tell = progress or Console()
    if any(server.built() is None for server in wanted):
        with _only_one_builder(tell):
            missing = [server for server in wanted if server.built() is None]
            if missing:
                Builds(missing, tell).run()
    found: dict[str, Path] = {}
    for server in wanted:
        found |= server.built() or {}
    return found


def _speed() -> float:
    """The known durations are of two cores; more help, up to the parts that cannot be split."""
    return 2 / min(max(os.cpu_count() or 2, 1), 8)


@contextlib.contextmanager
def _only_one_builder(tell: Progress) -> Iterator[None]:
    """Two runs at once would only halve each other's speed; the second waits, then finds everything there."""
    (cache_dir() / "servers").mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with (cache_dir() / "servers" / ".lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                tell(f"another run builds servers; waiting for it, {time.monotonic() - began:.0f} s…")
                time.sleep(1.0)
        yield


class Builds:
    """Several builds, two at a time: go's last package and its linker keep one core busy, not two.

    The longest comes first, so that nothing is left to be built alone.
    """

    def __init__(self, servers: Sequence[Server], tell: Progress) -> None:
        self.tell = tell
        self.go = Path()
        self.builds = [_Build(server) for server in sorted(servers, key=lambda server: -server.seconds)]
        self.planned = sum(server.seconds for server in servers) * _speed()

    def run(self) -> None:
        self.go = find_go(cache_dir(), self.tell)
        names = ", ".join(build.server.name for build in self.builds)
        self.tell(f"building {names}: once, then kept in {cache_dir()}")
        began = time.monotonic()
        with ThreadPoolExecutor(max_workers=2) as pool:
            running = [pool.submit(build.run, self.go) for build in self.builds]
            try:
                for done in self._as_they_end(running, began):
                    self.tell(f"built {done.result()} after {time.monotonic() - began:.0f} s")
            except BaseException:
                for build, future in zip(self.builds, running, strict=True):
                    future.cancel()
                    build.stop()
                raise

    def _as_they_end(self, running: Sequence[Future[str]], began: float) -> Iterator[Future[str]]:
        waiting: set[Future[str]] = set(running)
        while waiting:
            ended, waiting = wait(waiting, timeout=1.0, return_when=FIRST_COMPLETED)
            yield from ended
            if waiting:
                self.tell(self._news(time.monotonic() - began))

    def _news(self, elapsed: float) -> str:
        whole = sum(build.server.seconds for build in self.builds)
        done = sum(build.server.seconds * build.done for build in self.builds) / whole
        rest = elapsed / done * (1.0 - done) if done >= 0.1 else max(self.planned - elapsed, 0.0)
        doing = "; ".join(build.doing for build in self.builds if build.doing)
        return f"{done:.0%}, {elapsed:.0f} s, roughly {_duration(rest)} left: {doing}…"


class _Build:
    """One server's build: modules fetched, packages counted, programs built aside and moved in at the end."""

    #: What the linker leaves of a build when the last package is compiled.
    LINKING = 0.05

    def __init__(self, server: Server) -> None:
        self.server = server
        self.doing = ""
        self.done = 0.0
        self._tail: list[str] = []
        self._fetched = self._total = self._compiled = 0
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False

    def run(self, go: Path) -> str:
        """Build all programs; returns the server's name."""
        packages = list(self.server.programs.values())
        self.doing = f"{self.server.name} asks for its modules"
        self._total = len(self._go(go, ["list", "-mod=readonly", "-deps", *packages]))
        home = self.server.home()
        home.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{self.server.name}-", dir=home.parent))
        try:
            for program, package in self.server.programs.items():
                self._go(go, ["build", "-v", *self.server.flags(), "-o", str(aside / program), package])
            aside.chmod(0o755)
            shutil.rmtree(home, ignore_errors=True)
            aside.rename(home)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        self.doing, self.done = "", 1.0
        return self.server.name

    def stop(self) -> None:
        """End what runs."""
        self._stopped = True
        if self._process is not None:
            self._process.kill()

    def _go(self, go: Path, arguments: list[str]) -> list[str]:
        """Run go; returns the lines of its standard output."""
        self._process = process = subprocess.Popen(
            [str(go), *arguments],
            cwd=self.server.module,
            env=go_environment(go, cache_dir()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        if self._stopped:
            process.kill()
        assert process.stdout is not None
        assert process.stderr is not None
        reader = threading.Thread(target=self._listen, args=(process.stderr,), daemon=True)
        reader.start()
        with process:
            output = [line.rstrip() for line in process.stdout]
            reader.join()
        if process.returncode != 0:
            raise BuildError(self._why(arguments))
        return output

    def _listen(self, lines: Iterator[str]) -> None:
        for line in lines:
            self._tail = [*self._tail[-29:], line.rstrip()]
            if line.startswith("go: downloading"):
                self._fetched += 1
                self.doing = f"{self.server.name}: {self._fetched} modules fetched"
            elif not line.startswith(("go:", "#")) and self._total:
                self._compiled += 1
                self.done = min(self._compiled / self._total, 1.0) * (1.0 - self.LINKING)
                self.doing = f"{self.server.name}: package {self._compiled} of at most {self._total}"

    def _why(self, arguments: list[str]) -> str:
        last = "\n".join(f"    {line}" for line in self._tail) or "    (no output)"
        return (
            f"building {self.server.name} failed (go {arguments[0]}); its last lines:\n{last}\n"
            "What to try: is the Go module proxy reachable (environment GOPROXY, HTTPS_PROXY)? "
            f"Are there 5 GB free for {cache_dir()} and Go's own caches? "
            "A broken download goes away with 'go clean -modcache'. "
            f"Then again: python -m tests.stack.build {self.server.name}"
        )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


class Console:
    """Progress on standard error: passing news in place on a terminal, else every 15 seconds (a CI log)."""

    def __init__(self) -> None:
        self.terminal = sys.stderr.isatty()
        self.told = 0.0

    def __call__(self, text: str) -> None:
        passing = text.endswith("…")
        if self.terminal:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r\x1b[K{text[:width]}" if passing else f"\r\x1b[K{text}\n")
        elif not passing or time.monotonic() - self.told >= 15.0:
            self.told = time.monotonic()
            sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def main(arguments: Sequence[str]) -> int:
    """Build the named servers, all where none is named, and print where they are."""
    if any(argument.startswith("-") for argument in arguments):
        print(f"usage: python -m tests.stack.build [{'|'.join(server.name for server in SERVERS)}]...")
        return 0 if set(arguments) <= {"-h", "--help"} else 2
    try:
        found = binaries(None, arguments)
    except BuildError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    for program, path in found.items():
        print(f"{program}\t{path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
