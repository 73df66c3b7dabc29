"""The lists that grow stale when modules are renamed: what coverage leaves out, and what is packaged."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent
SETUP = configparser.ConfigParser()
SETUP.read(TOP / "setup.cfg")


@pytest.mark.parametrize("shell", SETUP["coverage:run"]["omit"].split())
def test_each_thin_shell_is_there(shell: str) -> None:
    assert list(TOP.glob(shell)), "renamed or deleted? Take it out of [coverage:run] omit"


def test_every_package_is_installed() -> None:
    packages = {
        ".".join(file.parent.relative_to(base).parts)
        for base in (TOP, TOP / "skydns-compat")
        for package in ("kube2etcd", "skydns_compat")
        for file in (base / package).rglob("__init__.py")
    }
    assert packages == set(SETUP["options"]["packages"].split())
