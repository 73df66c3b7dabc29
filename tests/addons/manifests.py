"""The addons' manifests, with the values of the guide filled in."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ADDONS = Path(__file__).parents[2] / "addons"
Object = dict[str, Any]

#: The values of the guide; the first three are those of the first addon's README.
VALUES = {
    "DNS_DOMAIN": "kubernetes.local",
    "DNS_REPLICAS": "2",
    "DNS_SERVER_IP": "10.0.0.10",
    "DOMAIN": "sec.example.com",
    "NAME_SERVER_IP": "198.51.100.53",
    "ETCD_0": "10.0.0.20",
    "ETCD_1": "10.0.0.21",
    "ETCD_2": "10.0.0.22",
}
_PLACEHOLDER = re.compile(r"{[A-Z][A-Z0-9_]*}")


def manifests() -> list[Path]:
    """Every manifest, without the desktop addon's examples and values, and Helm's templates."""
    found = [*ADDONS.rglob("*.yaml"), *ADDONS.rglob("*.yaml.in")]
    return sorted(path for path in found if path.relative_to(ADDONS).parts[0] not in ("desktop", "helm"))


def fill(manifest: Path | str, values: Mapping[str, str] = VALUES) -> str:
    """The manifest after the guide's ``sed``, which replaces the placeholders by these values."""
    path = ADDONS / manifest
    if path.suffix != ".in":
        return path.read_text()
    return sed(path, *(f"s/{{{mark}}}/{value}/g" for mark, value in values.items()))


def sed(manifest: Path | str, *expressions: str) -> str:
    """The text after ``sed -e … -e …``."""
    arguments = [word for expression in expressions for word in ("-e", expression)]
    command = ["sed", *arguments, str(ADDONS / manifest)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout


def leftover_placeholders(text: str) -> list[str]:
    return _PLACEHOLDER.findall(text)


def objects(text: str) -> list[Object]:
    return [one for one in yaml.safe_load_all(text) if one is not None]


def filled(manifest: Path | str, values: Mapping[str, str] = VALUES) -> list[Object]:
    """The objects of a manifest, with these values filled in."""
    return objects(fill(manifest, values))


def of_kind(found: Iterable[Object], kind: str) -> list[Object]:
    return [one for one in found if one["kind"] == kind]


def pods(found: Iterable[Object]) -> Iterator[Object]:
    for one in found:
        if "template" in one.get("spec", {}):
            yield one["spec"]["template"]


def containers(template: Object) -> list[Object]:
    """All containers of a pod template, in starting order."""
    spec = template["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]
