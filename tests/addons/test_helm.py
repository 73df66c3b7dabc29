"""The chart without Helm: values, their schema and their table in the guide.

``python -m tests.addons.test_helm`` writes the table, and the schema of ``settings``.
`tests/stack/test_addon_helm.py` renders it.
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
from kube2etcd.settings import ZONE_FIELDS, Settings
from kube2etcd.settings.model import BY_PATH, GROUPS
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


def value_at(path: str) -> Any:
    found: Any = values()
    for part in path.split("."):
        found = found[part]
    return found


def paths(tree: dict[str, Any], above: str = "") -> Iterator[str]:
    """The path of every value; a documented mapping counts as one value."""
    known = {path for path, _ in documented()}
    for key, value in tree.items():
        path = above + key
        if path in known or not isinstance(value, dict):
            yield path
        else:
            yield from paths(value, f"{path}.")


def table() -> str:
    rows = (f"| `{path}` | `{json.dumps(value_at(path))}` | {comment} |\n" for path, comment in documented())
    return HEAD + "".join(rows)


def test_every_value_has_a_comment() -> None:
    assert list(paths(values())) == [path for path, _ in documented()]


def test_guide_has_the_table_of_values() -> None:
    assert GUIDE.read_text().endswith(table())


def test_schema_has_exactly_the_values() -> None:
    def compare(tree: dict[str, Any], part: dict[str, Any], path: str) -> None:
        part = schema()["definitions"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part
        known = part.get("properties", {}).keys() - {"global"}
        if path in documented_paths or not known:
            return
        assert part["additionalProperties"] is False, path
        assert known == tree.keys(), path
        for key, value in tree.items():
            if isinstance(value, dict):
                compare(value, part["properties"][key], f"{path}.{key}".strip("."))

    documented_paths = {path for path, _ in documented()}
    compare(values(), schema(), "")


def setting_schema(path: str) -> dict[str, Any]:
    """JSON Schema of a key of the settings file."""
    if path in GROUPS:
        keys = [one.name for one in fields(GROUPS[path]) if f"{path}.{one.name}" in BY_PATH]
        return mapping({key: setting_schema(f"{path}.{key}") for key in keys})
    if path == "zones":
        zone = mapping({key: one.form for key, one in ZONE_FIELDS.items()}, required=["zone"])
        return {"type": "array", "items": zone}
    found = BY_PATH[path].form
    if path == "vm.allowed_networks":
        found["anyOf"].append({"type": "object", "additionalProperties": {"anyOf": found["anyOf"][:2]}})
    return found


def mapping(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, **more, "properties": properties}


def settings_schema() -> str:
    """The schema of ``settings``, one line per key."""
    lines = [
        f"        {json.dumps(one.name)}: {json.dumps(setting_schema(one.name))}" for one in fields(Settings)
    ]
    head = '    "settings": {\n      "type": "object",\n      "additionalProperties": false,\n'
    head += '      "properties": {\n'
    return head + ",\n".join(lines) + "\n      }\n    },\n"


def test_schema_has_every_setting_with_its_type() -> None:
    assert settings_schema() in (CHART / "values.schema.json").read_text(), (
        "run python -m tests.addons.test_helm"
    )


@pytest.mark.parametrize("key", ["version", "appVersion"])
def test_chart_version_is_that_of_the_package(key: str) -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())[key] == __version__


def test_crd_equals_that_of_the_manifests() -> None:
    chart = yaml.safe_load((CHART / "files" / "dnsendpoints.yaml").read_text())
    assert chart["metadata"]["annotations"].pop("helm.sh/resource-policy") == "keep"
    assert chart == yaml.safe_load((ADDONS / "external-dns" / "crd.yaml").read_text())


if __name__ == "__main__":
    file = CHART / "values.schema.json"
    before, _, rest = file.read_text().partition('    "settings": {\n')
    file.write_text(before + settings_schema() + rest[rest.index('    "service": {') :])
    GUIDE.write_text(GUIDE.read_text().partition(HEAD)[0] + table())
