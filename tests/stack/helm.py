"""Runs the real Helm."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.addons.manifests import ADDONS


def helm(binaries: Mapping[str, Path], *arguments: str, kubeconfig: Path | None = None) -> str:
    """What Helm prints, run in the checkout; a RuntimeError with its words where it fails."""
    home = str(kubeconfig.parent) if kubeconfig else "/nonexistent"
    environment = {
        "HELM_CACHE_HOME": f"{home}/helm",
        "HELM_CONFIG_HOME": f"{home}/helm",
        "HELM_DATA_HOME": f"{home}/helm",
        "KUBECONFIG": str(kubeconfig or ""),
        "HOME": home,
    }
    command = [str(binaries["helm"]), *arguments]
    done = subprocess.run(
        command,
        cwd=ADDONS.parent,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout
