"""Metrics and labels in alerts and dashboard exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from kube2etcd.metrics import Metrics
from tests.addons.manifests import ADDONS, filled, of_kind

#: Metrics in an expression.
METRIC = re.compile(r"\b(?:kube2etcd|coredns|etcd|process)_[a-z0-9_]+\b")
SELECTOR = re.compile(r"(\b[a-z0-9_]+)\{([^}]*)\}")


def expressions() -> Iterator[tuple[str, str]]:
    """Each expression, with the title of its alert or panel."""
    [rules] = of_kind(filled("monitoring/monitoring.yaml"), "PrometheusRule")
    for group in rules["spec"]["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ADDONS / "monitoring" / "dashboard.json").read_text())
    return found


def metrics_used(prefix: str) -> set[str]:
    """The metrics with this prefix in all expressions."""
    return {name for _, text in expressions() for name in METRIC.findall(text) if name.startswith(prefix)}


def metrics_served() -> dict[str, set[str]]:
    """The sample names that the bridge serves, with the labels of each."""
    metrics = Metrics()
    found: dict[str, set[str]] = {}
    for line in metrics.page().decode().splitlines():
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:]
            endings = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
            found |= {name + ending: {"le"} if ending == "_bucket" else set() for ending in endings}
    for name, kind, labels, _ in metrics.catalog:
        for ending in ("_bucket", "_sum", "_count") if kind == "histogram" else ("",):
            found[name + ending] |= set(labels)
    return found


def test_every_metric_exists() -> None:
    assert metrics_used("kube2etcd_") <= metrics_served().keys()
    assert metrics_used("process_") <= metrics_served().keys()
    assert metrics_used("kube2etcd_"), "no metric was found"


def test_every_label_exists() -> None:
    """Labels of our metrics, or those that Prometheus adds to its targets."""
    target = {"job", "namespace", "pod", "container", "instance", "endpoint", "service"}
    known = metrics_served()
    for where, text in expressions():
        for name, inside in SELECTOR.findall(text):
            if name in known:
                labels = set(re.findall(r"(\w+)\s*[=!]", inside))
                assert labels <= known[name] | target, where
        names = [name for name in METRIC.findall(text) if name in known]
        for grouping in re.findall(r"by \(([^)]*)\)", text):
            labels = {word.strip() for word in grouping.split(",")}
            assert not names or labels <= set().union(*(known[name] for name in names)) | target, where


def test_alerts_have_severity_and_description() -> None:
    [rules] = of_kind(filled("monitoring/monitoring.yaml"), "PrometheusRule")
    alerts = [rule for group in rules["spec"]["groups"] for rule in group["rules"]]
    names = [alert["alert"] for alert in alerts]
    assert len(set(names)) == len(names)
    for alert in alerts:
        assert alert["labels"]["severity"] in ("critical", "warning", "info")
        assert len(alert["annotations"]["description"]) > 40


def test_brackets_and_quotes_in_expressions_are_balanced() -> None:
    for where, text in expressions():
        for opening, closing in ("()", "{}", "[]"):
            assert text.count(opening) == text.count(closing), where
        assert text.count('"') % 2 == 0, where


def test_service_monitor_selects_the_service_and_its_ports() -> None:
    [monitor] = of_kind(filled("monitoring/monitoring.yaml"), "ServiceMonitor")
    [service] = filled("dns/skydns-svc.yaml.in")
    selector = monitor["spec"]["selector"]["matchLabels"]
    assert selector.items() <= service["metadata"]["labels"].items()
    assert monitor["metadata"]["namespace"] == service["metadata"]["namespace"]
    ports = {port["name"] for port in service["spec"]["ports"]}
    assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= ports
    job = service["metadata"]["labels"][monitor["spec"]["jobLabel"]]
    jobs = {found for _, text in expressions() for found in re.findall(r'job="([^"]+)"', text)}
    assert jobs == {job, "$job"}


def test_panels_of_the_dashboard_do_not_overlap() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [tuple(panel["gridPos"][key] for key in ("x", "y")) for panel in panels]
    assert len(set(places)) == len(places)
    for panel in panels:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        assert panel["targets"]


@pytest.mark.parametrize("name", ["$datasource", "$job"])
def test_variables_are_defined(name: str) -> None:
    text = json.dumps(dashboard())
    assert name in text.replace("{", "").replace("}", "")
    assert name.strip("$") in [one["name"] for one in dashboard()["templating"]["list"]]
