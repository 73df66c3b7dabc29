"""The chart without Helm: its values, their schema and their table.

``python -m tests.addons.test_helm`` writes the table. `tests/stack/test_addon_helm.py` renders it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
import yaml

from kube2etcd import __version__
from kube2etcd.settings import Settings
from tests.addons.manifests import ADDONS

CHART = ADDONS / "helm"
GUIDE = ADDONS.parent / "docs" / "helm.md"
HEAD = "| value | default | meaning |\n|---|---|---|\n"


def values() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    return found


def schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
    return found


def documented() -> Iterator[tuple[str, str]]:
    """Path and comment of each value that has one."""
    above: list[str] = []
    comment = ""
    for line in (CHART / "values.yaml").read_text().splitlines():
        indent = (len(line) - len(line.lstrip())) // 2
        if line.lstrip().startswith("# -- "):
            comment = line.lstrip().removeprefix("# -- ")
        elif key := re.match(r" *(\w+):", line):
            above = [*above[:indent], key[1]]
            if comment:
                yield ".".join(above), comment
                comment = ""


def at(path: str) -> Any:
    found: Any = values()
    for part in path.split("."):
        found = found[part]
    return found


def paths(tree: dict[str, Any], above: str = "") -> Iterator[str]:
    """Every value down to the documented ones."""
    known = {path for path, _ in documented()}
    for key, value in tree.items():
        path = above + key
        if path in known or not isinstance(value, dict):
            yield path
        else:
            yield from paths(value, f"{path}.")


def table() -> str:
    rows = (f"| `{path}` | `{json.dumps(at(path))}` | {comment} |\n" for path, comment in documented())
    return HEAD + "".join(rows)


def test_every_value_has_a_comment() -> None:
    assert list(paths(values())) == [path for path, _ in documented()]


def test_the_guide_has_the_table() -> None:
    assert GUIDE.read_text().endswith(table())


def test_the_schema_knows_every_value_and_no_other() -> None:
    def same(tree: dict[str, Any], part: dict[str, Any], path: str) -> None:
        part = schema()["definitions"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part
        known = part.get("properties", {}).keys() - {"global"}
        if path in documented_paths or not known:
            return
        assert part["additionalProperties"] is False, path
        assert known == tree.keys(), path
        for key, value in tree.items():
            if isinstance(value, dict):
                same(value, part["properties"][key], f"{path}.{key}".strip("."))

    documented_paths = {path for path, _ in documented()}
    same(values(), schema(), "")


def test_the_schema_knows_every_setting() -> None:
    names = schema()["properties"]["settings"]["propertyNames"]["enum"]
    assert names == [one.name for one in fields(Settings)]


@pytest.mark.parametrize("key", ["version", "appVersion"])
def test_the_chart_has_the_version_of_the_package(key: str) -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())[key] == __version__


def test_the_custom_resource_is_that_of_the_manifest() -> None:
    chart = yaml.safe_load((CHART / "files" / "dnsendpoints.yaml").read_text())
    assert chart["metadata"]["annotations"].pop("helm.sh/resource-policy") == "keep"
    assert chart == yaml.safe_load((ADDONS / "external-dns" / "crd.yaml").read_text())


if __name__ == "__main__":
    GUIDE.write_text(GUIDE.read_text().partition(HEAD)[0] + table())
