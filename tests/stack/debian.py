"""Unpacks Debian packages into the cache without installing them."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.stack.build import cache_dir
from tests.stack.process import atomic_directory, run_command


class UnavailableError(RuntimeError):
    """The packages are not available here; the text says why."""


def unpacked(packages: Sequence[str]) -> Path:
    """A directory with the packages and their missing dependencies."""
    home = cache_dir() / "debian" / "-".join(sorted(packages))
    if home.exists():
        return home
    missing = [tool for tool in ("apt-get", "dpkg") if not shutil.which(tool)]
    if missing:
        raise UnavailableError(f"no {' and no '.join(missing)} here")
    with atomic_directory(home) as root:
        cache = root.parent
        (cache / "archives" / "partial").mkdir(parents=True)
        options = ["--download-only", "--no-install-recommends", "--yes", "-o", f"Dir::Cache={cache}"]
        _run("apt-get", "install", *options, *packages)
        for archive in sorted((cache / "archives").glob("*.deb")):
            _run("dpkg", "-x", str(archive), str(root))
    return home


def environment(home: Path) -> dict[str, str]:
    """An environment in which unpacked programs find their libraries."""
    folders = {str(library.parent) for library in home.rglob("*.so*")}
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(sorted(folders))}


def _run(*command: str) -> None:
    done = run_command(*command, timeout=300)
    if done.returncode:
        raise UnavailableError(f"{command[0]}: {done.stderr.strip()[-300:]}")
