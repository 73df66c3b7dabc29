"""The desktop addon: systemd units, options and guide."""

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
    """The values of a systemd unit by key."""
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


def test_options_of_the_unit_exist() -> None:
    (start,) = unit("kube2etcd-webhook.service")["ExecStart"]
    words = shlex.split(start)
    assert words[1] == "webhook"
    assert {word for word in words if word.startswith("--")} <= OPTIONS


def test_environment_file_holds_valid_settings() -> None:
    settings = load({}, environment())
    assert settings.domains
    assert settings.webhook.allow
    assert len(settings.webhook.cluster_ip) == 1
    assert set(environment()) <= {one.variables[0] for one in SETTINGS}


def test_unit_can_write_only_hosts_file_and_state() -> None:
    service = unit("kube2etcd-webhook.service")
    assert service["ProtectSystem"] == ["strict"]
    assert service["ReadWritePaths"] == ["/etc/hosts"]
    assert service["CapabilityBoundingSet"] == [""]
    assert service["NoNewPrivileges"] == ["yes"]
    directory = f"/var/lib/{service['StateDirectory'][0]}"
    assert Path(Settings().webhook.state_file).parent == Path(directory)


def test_replaced_hosts_file_restarts_the_unit() -> None:
    assert unit("kube2etcd-webhook-hosts.path")["PathChanged"] == ["/etc/hosts"]
    (line,) = unit("kube2etcd-webhook-hosts.service")["ExecStart"]
    assert "systemctl try-restart kube2etcd-webhook.service" in line


def test_external_dns_values_have_our_port() -> None:
    values: Any = yaml.safe_load((HERE / "external-dns-values.yaml").read_text())
    (url,) = values["extraArgs"]
    assert url == f"--webhook-provider-url=http://192.168.0.12:{Settings().webhook.port}"
    assert values["policy"] == "sync"


def test_ingress_target_is_its_host() -> None:
    ingress: Any = yaml.safe_load((HERE / "ingress.yaml").read_text())
    (rule,) = ingress["spec"]["rules"]
    annotation = ingress["metadata"]["annotations"]["external-dns.alpha.kubernetes.io/target"]
    assert annotation == rule["host"] == "foo.dtk.io"


GUIDE = (HERE / "README.md").read_text()


@pytest.mark.parametrize("line", re.findall(r"^.*kube2etcd webhook .*$", GUIDE, re.M))
def test_options_in_the_guide_exist(line: str) -> None:
    found = set(re.findall(r"--[a-z-]+", line.partition("#")[0]))
    assert found <= OPTIONS


def test_files_in_the_guide_exist() -> None:
    for name in re.findall(r"\]\(([\w.-]+)\)", GUIDE) + re.findall(r"kube2etcd-webhook[\w-]*\.\w+", GUIDE):
        assert (HERE / name).exists()
