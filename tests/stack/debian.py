"""Unpacks programs of Debian packages into the cache without installing them."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.stack.build import cache_dir
from tests.stack.process import finished


class UnavailableError(RuntimeError):
    """The packages are not available here; the text says why."""


def unpacked(packages: Sequence[str]) -> Path:
    """A folder with the packages and those of their dependencies that this system lacks."""
    home = cache_dir() / "debian" / "-".join(sorted(packages))
    if home.exists():
        return home
    missing = [tool for tool in ("apt-get", "dpkg") if not shutil.which(tool)]
    if missing:
        raise UnavailableError(f"no {' and no '.join(missing)} here")
    home.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".debian-", dir=home.parent))
    try:
        (aside / "archives" / "partial").mkdir(parents=True)
        options = ["--download-only", "--no-install-recommends", "--yes", "-o", f"Dir::Cache={aside}"]
        _run("apt-get", "install", *options, *packages)
        for archive in sorted((aside / "archives").glob("*.deb")):
            _run("dpkg", "-x", str(archive), str(aside / "root"))
        (aside / "root").rename(home)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return home


def environment(home: Path) -> dict[str, str]:
    """The environment in which unpacked programs find their libraries."""
    folders = {str(library.parent) for library in home.rglob("*.so*")}
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(sorted(folders))}


def _run(*command: str) -> None:
    done = finished(*command, timeout=300)
    if done.returncode:
        raise UnavailableError(f"{command[0]}: {done.stderr.strip()[-300:]}")
