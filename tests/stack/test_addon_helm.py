"""The Helm chart makes what the manifests make, with the rights that settings need; wrong values are refused.

`test_addon_manifests.py` installs it.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
import yaml

from kube2etcd.app import build
from tests.addons.manifests import ADDONS, Object, containers, filled, of_kind, pods
from tests.addons.test_helm import CHART
from tests.addons.test_manifests import DNS, MACHINES, SHARED, granted, load_text, read_by
from tests.stack.harness import Binaries
from tests.stack.helm import helm

Render = Callable[..., list[Object]]
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())


@pytest.fixture(scope="module")
def render(binaries: Binaries) -> Render:
    """The chart's objects with a file of ``examples`` and values."""

    def render(
        example: str = "", values: Mapping[str, Any] | None = None, name: str = "kube-dns", *options: str
    ) -> list[Object]:
        given = ["--values", str(CHART / "examples" / f"{example}.yaml")] if example else []
        given += [
            word
            for key, value in (values or {}).items()
            for word in ("--set-json", f"{key}={json.dumps(value)}")
        ]
        text = helm(binaries, "template", name, str(CHART), "--namespace", namespace(name), *given, *options)
        return [one for one in yaml.safe_load_all(text) if one]

    return render


def namespace(name: str) -> str:
    return "vm-dns" if name == "vm-dns" else "kube-system"


RENAMED = {
    "kube-dns.kubernetes.local": "kube-dns",
    "vm.sec.example.com": "vm-dns",
    "external-dns": "kube-dns-external-dns",
    "kube2etcd-webhook": "kube-dns-external-dns",
}


def plain(one: Object) -> Object:
    """An object without what a chart must have of its own: labels, selectors, the names above.

    And without what makes the API server refuse a manifest's wrong values, as the chart's schema does.
    """
    one = json.loads(json.dumps(one))
    selects(one)
    if one["metadata"].get("namespace") == "external-dns":
        one["metadata"]["namespace"] = "kube-system"
    metadata = one["metadata"]
    metadata["name"] = renamed(metadata["name"])
    metadata.pop("labels", None)
    spec = one.get("spec", {})
    spec.pop("selector", None)
    spec.pop("podSelector", None)
    for subject in one.get("subjects", ()):
        subject["name"] = renamed(subject["name"])
        subject["namespace"] = subject["namespace"].replace("external-dns", "kube-system")
    if "roleRef" in one:
        one["roleRef"]["name"] = renamed(one["roleRef"]["name"])
    if one["kind"] == "ConfigMap":
        one["data"] = {key: yaml.safe_load(text) for key, text in one["data"].items()}
    if "template" in spec:
        template = spec["template"]
        template.pop("metadata")
        pod = template["spec"]
        pod.pop("hostAliases", None)
        pod["serviceAccountName"] = renamed(pod["serviceAccountName"])
        spread = pod["topologySpreadConstraints"]
        pod["topologySpreadConstraints"] = [
            {**each, "labelSelector": None} for each in spread if each["topologyKey"] != "kubernetes.io/os"
        ]
        for volume in pod["volumes"]:
            if "name" in volume.get("configMap", {}):
                volume["configMap"]["name"] = renamed(volume["configMap"]["name"])
        for container in containers(template):
            container["args"] = [
                "--state-objects=kube-system" if word == "--state-objects=external-dns" else word
                for word in container["args"]
            ]
    return one


def renamed(name: str) -> str:
    return RENAMED.get(name, name)


def selects(one: Object) -> None:
    """Whatever has a template finds its own pods."""
    if template := one.get("spec", {}).get("template"):
        labels = template["metadata"]["labels"].items()
        assert one["spec"]["selector"]["matchLabels"].items() <= labels
        for each in template["spec"]["topologySpreadConstraints"]:
            assert each["labelSelector"]["matchLabels"].items() <= labels


def by_name(found: Sequence[Object]) -> dict[tuple[str, str], Object]:
    made = {(one["kind"], one["metadata"]["name"]): one for one in map(plain, found)}
    assert len(made) == len(found)
    return made


def test_dns_equals_the_manifests(render: Render) -> None:
    assert by_name(render("dns")) == by_name([*filled(DNS), *filled("dns/skydns-svc.yaml.in")])


def test_vm_equals_the_manifest(render: Render) -> None:
    manifest = [one for one in filled(MACHINES) if one["kind"] != "Namespace"]
    assert by_name(render("vm", name="vm-dns")) == by_name(manifest)


def test_shared_etcd_equals_the_manifests(render: Render) -> None:
    manifests = (SHARED, "shared-etcd/etcd.yaml.in", "dns/skydns-svc.yaml.in")
    assert by_name(render("shared-etcd")) == by_name([one for path in manifests for one in filled(path)])


def test_external_dns_equals_the_manifests(render: Render) -> None:
    made = by_name(render("external-dns"))
    wanted = by_name([*filled(DNS), *filled("dns/skydns-svc.yaml.in")])
    wanted |= by_name(
        [one for one in filled("external-dns/external-dns.yaml.in") if one["kind"] != "Namespace"]
    )
    [config] = of_kind(filled("external-dns/dns.yaml.in"), "ConfigMap")
    wanted |= by_name([config])
    [crd] = filled("external-dns/crd.yaml")
    crd["metadata"]["annotations"]["helm.sh/resource-policy"] = "keep"
    wanted |= by_name([crd])
    # one role in the place of two
    [more] = of_kind(filled("external-dns/dns.yaml.in"), "ClusterRole")
    wanted["ClusterRole", "kube2etcd"]["rules"] += more["rules"]
    assert made == wanted


SETTINGS: dict[str, dict[str, Any]] = {
    "pods": {"settings.pods": "verified"},
    "machines": {"vm.enabled": True},
    "machines-by-settings": {"settings.vm": {"domain": ""}},
    "everything": {
        "vm.enabled": True,
        "vm.domain": "example.com",
        "externalDNS.enabled": True,
        "externalDNS.domains": ["apps.example.com"],
        "settings.pods": "verified",
        "settings.zones": [{"zone": "public.example.com"}],
    },
    "zones-alone": {"clusterDNS.enabled": False, "settings.zones": [{"zone": "public.example.com"}]},
    "no-cluster-zone": {"settings.cluster_zone": False, "settings.zones": [{"zone": "public.example.com"}]},
    "machines-alone-verified": {"clusterDNS.enabled": False, "vm.enabled": True, "settings.pods": "verified"},
}


@pytest.mark.parametrize("events", [False, True], ids=["silent", "events"])
@pytest.mark.parametrize("values", list(SETTINGS.values()), ids=list(SETTINGS))
def test_rights_are_what_the_settings_read(render: Render, values: dict[str, Any], events: bool) -> None:
    found = render("", {**values, "settings.events": events})
    wanted = read_by(found)
    if events:
        wanted |= {(group, kind, "get") for group, kind, _ in wanted}
        wanted.add(("events.k8s.io", "events", "create"))
    assert granted(found, "kube2etcd") == wanted


def test_settings_are_merged(render: Render) -> None:
    values = {"settings.etcd": {"prefix": "/dns"}, "settings.owner_id": "blue"}
    [config] = [
        one for one in of_kind(render("shared-etcd", values), "ConfigMap") if "settings.yaml" in one["data"]
    ]
    settings = load_text(config["data"]["settings.yaml"])
    assert (settings.etcd.prefix, settings.owner_id, settings.leader_elect) == ("/dns", "blue", True)
    assert len(settings.etcd.servers) == 3
    assert build.kinds(settings)


def test_every_type_of_setting_can_be_given(render: Render) -> None:
    given = {
        "ttl": 60,
        "pods": "verified",
        "dns_server_ip": ["10.0.0.10", "fd00::10"],
        "vm": {"domain": "", "allowed_networks": {"*": "10.0.0.0/8", "shop": ["fd00::/64"]}},
        "zones": [{"zone": "public.example.com", "selector": "tier in (a, b)", "name": "{service}"}],
        "domains": ["apps.example.com", ".example.org"],
        "corefile": {"vm_listen": ":5354", "upstream": "192.0.2.53 192.0.2.54", "cache": 0, "imports": ""},
        "webhook": {"cluster_ip": "192.0.2.1"},
        "resync_period": "5m",
        "log_level": "debug",
    }
    [config] = of_kind(render("dns", {"settings": given}), "ConfigMap")
    settings = load_text(config["data"]["settings.yaml"])
    assert (settings.ttl, settings.resync_period, len(settings.dns_server_ip)) == (60, 300, 2)
    assert set(settings.vm.allowed_networks_in) == {"shop"}


def test_addresses_of_ipv6_are_in_brackets(render: Render) -> None:
    found = render("shared-etcd", {"sharedEtcd.addresses": ["fd00:10::20", "fd00:10::21", "fd00:10::22"]})
    configs = {one["metadata"]["name"]: one["data"] for one in of_kind(found, "ConfigMap")}
    assert load_text(configs["kube-dns"]["settings.yaml"]).etcd.servers[0] == "https://[fd00:10::20]:2379"
    member = yaml.safe_load(configs["kube-dns-etcd"]["kube-dns-etcd-1.yaml"])
    assert member["initial-advertise-peer-urls"] == "https://[fd00:10::21]:2380"


def test_two_releases_have_no_object_in_common(render: Render) -> None:
    values = {"externalDNS.enabled": True, "externalDNS.domains": ["a.example.com"], "externalDNS.crd": False}
    first, second = (render("shared-etcd", values, name) for name in ("kube-dns", "other"))
    names = Counter((one["kind"], one["metadata"]["name"]) for one in (*first, *second))
    assert set(names.values()) == {1}
    templates = [[one["metadata"]["labels"] for one in pods(found)] for found in (first, second)]
    for workload in (one for one in second if "template" in one.get("spec", {})):
        chosen = workload["spec"]["selector"]["matchLabels"].items()
        assert sum(chosen <= labels.items() for labels in (*templates[0], *templates[1])) == 1


def test_values_reach_their_objects(render: Render) -> None:
    values = {
        "imagePullSecrets": [{"name": "mine"}],
        "image": {"repository": "registry.example.com/kube2etcd", "tag": "1"},
        "affinity": {"podAntiAffinity": {}},
        "podAnnotations": {"a": "b"},
        "service.type": "NodePort",
        "service.annotations": {"c": "d"},
        "service.labels": {"e": "f"},
        "service.externalIPs": ["192.0.2.1"],
        "priorityClassName": "",
        "nodeSelector": {"g": "h"},
        "fullnameOverride": "named",
        "serviceAccount.name": "account",
    }
    found = render("dns", values)
    [template] = pods(found)
    pod = template["spec"]
    assert template["metadata"]["annotations"] == {"a": "b"}
    assert pod["imagePullSecrets"] == [{"name": "mine"}]
    assert pod["affinity"] == {"podAntiAffinity": {}}
    assert pod["serviceAccountName"] == "account"
    assert "priorityClassName" not in pod
    assert pod["nodeSelector"]["g"] == "h"
    assert "registry.example.com/kube2etcd:1" in [one["image"] for one in containers(template)]
    [service] = of_kind(found, "Service")
    assert service["metadata"]["name"] == "named"
    assert service["metadata"]["annotations"]["c"] == "d"
    assert service["metadata"]["labels"]["e"] == "f"
    assert (service["spec"]["type"], service["spec"]["externalIPs"]) == ("NodePort", ["192.0.2.1"])


def test_no_address_no_service(render: Render) -> None:
    assert of_kind(render(), "Service") == []
    [service] = of_kind(
        render("vm", {"vm.nameServerIP": "", "service.type": "NodePort"}, "vm-dns"), "Service"
    )
    assert "loadBalancerIP" not in service["spec"]


def test_the_service_monitor_selects_the_chart(render: Render) -> None:
    [monitor] = of_kind(filled("monitoring/monitoring.yaml"), "ServiceMonitor")
    [service] = of_kind(render("dns"), "Service")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()


def refused() -> Iterator[Any]:
    """Values that cannot work, and where Helm says so."""
    for domain in (
        "kubernetes.local.",
        "Kubernetes.local",
        "",
        "a_b.local",
        "-a.local",
        "a..local",
        "{DNS_DOMAIN}",
    ):
        yield pytest.param({"clusterDNS.domain": domain}, "/clusterDNS/domain", id=f"domain={domain}")
    for address in ("10.0.0.256", "kube-dns.example.com", "{DNS_SERVER_IP}"):
        yield pytest.param({"clusterDNS.serverIP": address}, "/clusterDNS/serverIP", id=f"address={address}")
    for replicas in (0, -1, "two"):
        yield pytest.param({"replicas": replicas}, "replicas", id=f"replicas={replicas}")
    yield pytest.param({"clusterDNS.domian": "x"}, "domian", id="unknown")
    yield pytest.param({"settings.tll": 5}, "tll", id="unknown-setting")
    for setting, value in (
        ("ttl", "abc"),
        ("ttl", 0),
        ("pods", "bogus"),
        ("zones", "x"),
        ("zones", [{"selector": "a=b"}]),
        ("events", "maybe"),
        ("etcd", {"servers": "localhost"}),
        ("dns_server_ip", ["10.0.0"]),
        ("resync_period", "5 minutes"),
    ):
        yield pytest.param({f"settings.{setting}": value}, f"/settings/{setting}", id=f"{setting}={value}")
    for setting, value in (
        ("listen", ":9999"),
        ("listen_page", ":9000"),
        ("etcd.api", "v2"),
        ("corefile.health_listen", ""),
        ("webhook.inside", False),
        ("skydns.config", True),
    ):
        said = f"settings.{setting.removesuffix('.config')} cannot be set"
        yield pytest.param({f"settings.{setting}": value}, said, id=f"fixed-{setting}")
    yield pytest.param({"externalDNS.enabled": True}, "/externalDNS/domains", id="no-domain")
    yield pytest.param(
        {"sharedEtcd": {"enabled": True, "addresses": ["10.0.0.1"]}}, "/sharedEtcd/addresses", id="two"
    )
    yield pytest.param({"clusterDNS.enabled": False}, "nothing to serve", id="nothing")


@pytest.mark.parametrize(("values", "said"), list(refused()))
def test_what_cannot_work_is_refused(render: Render, values: dict[str, Any], said: str) -> None:
    with pytest.raises(RuntimeError, match=re.escape(said)):
        render("", values)


def test_every_setting_of_the_examples_is_known(render: Render) -> None:
    for example in sorted((CHART / "examples").glob("*.yaml")):
        for config in of_kind(render(example.stem), "ConfigMap"):
            if "settings.yaml" in config["data"]:
                assert load_text(config["data"]["settings.yaml"])


def test_lint_finds_nothing(binaries: Binaries) -> None:
    assert "0 chart(s) failed" in helm(binaries, "lint", "--strict", str(ADDONS / "helm"))
