"""Runs the real Helm."""

from collections.abc import Mapping
from pathlib import Path

from tests.addons.manifests import ADDONS
from tests.stack.process import run_command


def helm(binaries: Mapping[str, Path], *arguments: str, kubeconfig: Path | None = None) -> str:
    """Run Helm in the checkout; returns its stdout, or raises a RuntimeError with its stderr."""
    home = str(kubeconfig.parent) if kubeconfig else "/nonexistent"
    environment = {f"HELM_{kind}_HOME": f"{home}/helm" for kind in ("CACHE", "CONFIG", "DATA")}
    environment |= {"KUBECONFIG": str(kubeconfig or ""), "HOME": home}
    program = str(binaries["helm"])
    done = run_command(program, *arguments, cwd=ADDONS.parent, env=environment, timeout=120)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout
