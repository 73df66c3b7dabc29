"""Each alert of addons/monitoring in promtool: first silent, then firing with its annotations."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from tests.addons.manifests import Object, filled, of_kind
from tests.stack.harness import Binaries
from tests.stack.process import run_command

POD = 'job="kube-dns", namespace="kube-system", pod="a"'
OTHER = 'job="kube-dns", namespace="kube-system", pod="b"'
LABELS = {"job": "kube-dns", "namespace": "kube-system", "pod": "a"}


@dataclass(frozen=True)
class Case:
    """One alert; ``series`` are promtool's, with one value per minute."""

    alert: str
    series: Mapping[str, str]
    silent_at: int
    """The last minute that is checked for silence."""
    fires_at: int
    """A minute in which it fires."""
    labels: Mapping[str, str] = field(default_factory=lambda: LABELS)
    value: str = ""
    """``$value`` as rendered."""


def series_of(metric: str, **labels: str) -> str:
    own = [f'{key}="{value}"' for key, value in labels.items()]
    return f"{metric}{{{', '.join([POD, *own])}}}"


def slow_histogram(metric: str) -> dict[str, str]:
    """A histogram of observations between one and two seconds."""
    return {
        series_of(metric, le="1"): "0x60",
        series_of(metric, le="2"): "0+60x60",
        series_of(metric, le="+Inf"): "0+60x60",
    }


def bridge_case(
    alert: str, metric: str, values: str, silent_at: int, fires_at: int, value: str = "", **labels: str
) -> Case:
    """An alert on one of the bridge's metrics, in one pod."""
    series = {series_of(f"kube2etcd_{metric}", **labels): values}
    return Case(f"Kube2etcd{alert}", series, silent_at, fires_at, LABELS | labels, value)


CASES = [
    Case("Kube2etcdAbsent", {"up": "1x60"}, 9, 10, {}),
    bridge_case("NotReady", "ready", "1x3 0x60", 8, 9),
    bridge_case("Stale", "stale_since_timestamp_seconds", "0 60x60", 6, 7, kind="services"),
    bridge_case("DeletesHeld", "held_deletes", "0x3 7x60", 5, 6, "7"),
    bridge_case("MalformedKeys", "malformed_keys", "0x3 1x60", 8, 9),
    bridge_case("TwoWriters", "disputed_keys", "0x3 1x60", 5, 6),
    bridge_case("UnforeseenErrors", "unforeseen_errors_total", "0x9 1x60", 9, 10),
    bridge_case("KeysChangedByOthers", "repairs_total", "0x9 1+1x60", 24, 25),
    bridge_case("ResyncOverdue", "last_resync_timestamp_seconds", "60x60", 31, 32),
    Case(
        "Kube2etcdSlow",
        slow_histogram("kube2etcd_change_to_write_seconds_bucket"),
        10,
        15,
        {"pod": "a"},
        "1.95s",
    ),
    Case(
        "Kube2etcdReplicasDiffer",
        {series_of("kube2etcd_keys"): "9x60", f"kube2etcd_keys{{{OTHER}}}": "9x3 8x60"},
        *(18, 19, {"job": "kube-dns", "namespace": "kube-system"}),
    ),
    bridge_case("RejectedObjects", "rejected_objects", "0x3 2x60", 18, 19, "2", kind="services"),
    bridge_case("RefusedKeys", "refused_keys", "0x3 2x60", 18, 19, "2"),
    bridge_case("ContestedKeys", "contested_keys", "0x3 2x60", 18, 19, "2"),
    bridge_case("WebhookFails", "webhook_calls_total", "0x9 1+1x60", 19, 20, path="/records", status="503"),
    bridge_case("WebhookRefuses", "webhook_calls_total", "0x9 1+1x60", 19, 20, path="/records", status="415"),
    bridge_case("WebhookSilence", "webhook_last_success_timestamp_seconds", "60x60", 31, 32),
    bridge_case("WebhookSkips", "webhook_skipped_endpoints_total", "0x9 1+1x60", 24, 25, reason="domain"),
    Case(
        "Kube2etcdDnsFails",
        {
            series_of("coredns_dns_responses_total", rcode="SERVFAIL"): "0+6x60",
            series_of("coredns_dns_responses_total", rcode="NOERROR"): "0+54x60",
        },
        *(10, 15, {}, "10%"),
    ),
    Case(
        "Kube2etcdDnsSlow", slow_histogram("coredns_dns_request_duration_seconds_bucket"), 10, 15, {}, "1.99s"
    ),
    Case(
        "Kube2etcdQuotaNearlyUsed",
        {
            series_of("etcd_mvcc_db_total_size_in_bytes"): "80x3 81x60",
            series_of("etcd_server_quota_backend_bytes"): "100x60",
        },
        *(13, 14),
    ),
]

#: Two healthy pods, each value just below its alert's threshold.
HEALTHY = {
    series_of("kube2etcd_ready"): "1x120",
    series_of("kube2etcd_stale_since_timestamp_seconds", kind="services"): "0x120",
    series_of("kube2etcd_last_resync_timestamp_seconds"): "0+60x120",
    series_of("kube2etcd_keys"): "9+1x120",
    f"kube2etcd_keys{{{OTHER}}}": "9+1x120",
    series_of("kube2etcd_change_to_write_seconds_bucket", le="1"): "0+60x120",
    series_of("kube2etcd_change_to_write_seconds_bucket", le="+Inf"): "0+60x120",
    series_of("kube2etcd_webhook_calls_total", path="/records", status="200"): "0+1x120",
    series_of("kube2etcd_webhook_last_success_timestamp_seconds"): "0+60x120",
    series_of("coredns_dns_responses_total", rcode="SERVFAIL"): "0+5x120",
    series_of("coredns_dns_responses_total", rcode="NXDOMAIN"): "0+95x120",
    series_of("coredns_dns_request_duration_seconds_bucket", le="1"): "0+99x120",
    series_of("coredns_dns_request_duration_seconds_bucket", le="2"): "0+100x120",
    series_of("coredns_dns_request_duration_seconds_bucket", le="+Inf"): "0+100x120",
    series_of("etcd_mvcc_db_total_size_in_bytes"): "80x120",
    series_of("etcd_server_quota_backend_bytes"): "100x120",
    **{
        series_of(f"kube2etcd_{name}"): "0x120"
        for name in (
            "held_deletes",
            "malformed_keys",
            "disputed_keys",
            "unforeseen_errors_total",
            "repairs_total",
            "refused_keys",
            "rejected_objects",
            "contested_keys",
            "webhook_skipped_endpoints_total",
        )
    },
}


[RULE_OBJECT] = of_kind(filled("monitoring/monitoring.yaml"), "PrometheusRule")
RULES: Object = RULE_OBJECT["spec"]
ALERTS: dict[str, Object] = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}


def rendered(template: str, case: Case) -> str:
    """The template with labels and value filled in, as by Prometheus."""
    pattern = r"{{ \$(?:labels\.(\w+)|value[^}]*) }}"
    return re.sub(pattern, lambda mark: case.labels[mark[1]] if mark[1] else case.value, template)


def run_promtool(promtool: Path, directory: Path, series: Mapping[str, str], expected: list[Object]) -> None:
    given = [{"series": one, "values": values} for one, values in series.items()]
    test = {"interval": "1m", "input_series": given, "alert_rule_test": expected}
    (directory / "rules.yaml").write_text(yaml.safe_dump(RULES))
    (directory / "tests.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "tests": [test]}))
    done = run_command(str(promtool), "test", "rules", "tests.yaml", cwd=directory)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case() -> None:
    assert sorted(case.alert for case in CASES) == sorted(ALERTS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_alert_fires_on_time_with_its_annotations(binaries: Binaries, tmp_path: Path, case: Case) -> None:
    alert = ALERTS[case.alert]
    fired = {
        "exp_labels": {**case.labels, **alert["labels"]},
        "exp_annotations": {key: rendered(text, case) for key, text in alert["annotations"].items()},
    }
    expected = [
        {"eval_time": f"{minute}m", "alertname": case.alert, "exp_alerts": exp_alerts}
        for minute, exp_alerts in ((case.silent_at, []), (case.fires_at, [fired]))
    ]
    run_promtool(binaries["promtool"], tmp_path, case.series, expected)


def test_no_alert_fires_for_healthy_pods(binaries: Binaries, tmp_path: Path) -> None:
    silent = [
        {"eval_time": f"{minute}m", "alertname": name, "exp_alerts": []}
        for name in ALERTS
        for minute in (0, 45, 120)
    ]
    run_promtool(binaries["promtool"], tmp_path, HEALTHY, silent)
