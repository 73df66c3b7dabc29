"""The desktop addon: its systemd unit, its options and its guide."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from kube2etcd.settings import SETTINGS, Settings, load
from tests.addons.manifests import ADDONS

HERE = ADDONS / "desktop"
OPTIONS = {f"--{one.option}" for one in SETTINGS if one.is_used_by("webhook")} | {"--cleanup"}


def unit(name: str) -> dict[str, list[str]]:
    """The lines of a unit by key."""
    found: dict[str, list[str]] = {}
    for line in (HERE / name).read_text().replace("\\\n", " ").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def environment() -> dict[str, str]:
    lines = (HERE / "kube2etcd-webhook.default").read_text().splitlines()
    return dict(
        line.lstrip("#").split("=", 1) for line in lines if re.match(r"#?KUBE2ETCD_[A-Z_]+=\S+$", line)
    )


def test_the_command_has_only_options_that_there_are() -> None:
    (start,) = unit("kube2etcd-webhook.service")["ExecStart"]
    words = shlex.split(start)
    assert words[1] == "webhook"
    assert {word for word in words if word.startswith("--")} <= OPTIONS


def test_the_environment_is_of_settings_and_can_be_read() -> None:
    settings = load({}, environment())
    assert settings.domains
    assert settings.webhook.allow
    assert len(settings.webhook.cluster_ip) == 1
    assert set(environment()) <= {one.variables[0] for one in SETTINGS}


def test_only_the_hosts_file_and_the_state_can_be_written() -> None:
    service = unit("kube2etcd-webhook.service")
    assert service["ProtectSystem"] == ["strict"]
    assert service["ReadWritePaths"] == ["/etc/hosts"]
    assert service["CapabilityBoundingSet"] == [""]
    assert service["NoNewPrivileges"] == ["yes"]
    directory = f"/var/lib/{service['StateDirectory'][0]}"
    assert Path(Settings().webhook.state_file).parent == Path(directory)


def test_a_replaced_file_is_noticed() -> None:
    assert unit("kube2etcd-webhook-hosts.path")["PathChanged"] == ["/etc/hosts"]
    (line,) = unit("kube2etcd-webhook-hosts.service")["ExecStart"]
    assert "systemctl try-restart kube2etcd-webhook.service" in line


def test_the_chart_calls_the_port_that_is_ours() -> None:
    values: Any = yaml.safe_load((HERE / "external-dns-values.yaml").read_text())
    (url,) = values["extraArgs"]
    assert url == f"--webhook-provider-url=http://192.168.0.12:{Settings().webhook.port}"
    assert values["policy"] == "sync"


def test_the_ingress_leads_to_itself() -> None:
    ingress: Any = yaml.safe_load((HERE / "ingress.yaml").read_text())
    (rule,) = ingress["spec"]["rules"]
    annotation = ingress["metadata"]["annotations"]["external-dns.alpha.kubernetes.io/target"]
    assert annotation == rule["host"] == "foo.dtk.io"


GUIDE = (HERE / "README.md").read_text()


@pytest.mark.parametrize("line", re.findall(r"^.*kube2etcd webhook .*$", GUIDE, re.M))
def test_the_guide_types_options_that_there_are(line: str) -> None:
    found = set(re.findall(r"--[a-z-]+", line.partition("#")[0]))
    assert found <= OPTIONS


def test_the_guide_names_files_that_there_are() -> None:
    for name in re.findall(r"\]\(([\w.-]+)\)", GUIDE) + re.findall(r"kube2etcd-webhook[\w-]*\.\w+", GUIDE):
        assert (HERE / name).exists()
