"""The Helm chart renders the manifests' objects and the RBAC that settings need, and rejects bad values.

`test_addon_manifests.py` installs it.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import yaml

from kube2etcd.app import build
from tests.addons.manifests import ADDONS, Object, containers, filled, of_kind, pods
from tests.addons.test_helm import CHART
from tests.addons.test_manifests import DNS, SHARED, VM, granted, load_text, needed_by
from tests.stack.addon import BAD_DOMAINS, SVC
from tests.stack.harness import Binaries
from tests.stack.helm import helm

Render = Callable[..., list[Object]]
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())


@pytest.fixture(scope="module")
def render(binaries: Binaries) -> Render:
    """Renders the chart with a file of ``examples`` and values; returns its objects."""

    def render(
        example: str = "", values: Mapping[str, Any] | None = None, name: str = "kube-dns"
    ) -> list[Object]:
        given = ["--values", str(CHART / "examples" / f"{example}.yaml")] if example else []
        for key, value in (values or {}).items():
            given += ["--set-json", f"{key}={json.dumps(value)}"]
        namespace = "vm-dns" if name == "vm-dns" else "kube-system"
        text = helm(binaries, "template", name, str(CHART), "--namespace", namespace, *given)
        return [one for one in yaml.safe_load_all(text) if one]

    return render


RENAMED = {
    "kube-dns.kubernetes.local": "kube-dns",
    "vm.sec.example.com": "vm-dns",
    "external-dns": "kube-dns-external-dns",
    "kube2etcd-webhook": "kube-dns-external-dns",
}


def normalized(one: Object) -> Object:
    """An object without labels, selectors and release-dependent names, which differ from the manifests'.

    Also without fields that only make the API server reject bad values: the chart has a schema.
    """
    assert_selects_its_pods(one)
    text = re.sub(r'("namespace": "|--state-objects=)external-dns"', r'\1kube-system"', json.dumps(one))
    names = re.compile(r'(?<="name": ")[^"]+|(?<="serviceAccountName": ")[^"]+')
    one = json.loads(names.sub(lambda name: RENAMED.get(name[0], name[0]), text))
    one["metadata"].pop("labels", None)
    spec = one.get("spec", {})
    spec.pop("selector", None)
    spec.pop("podSelector", None)
    if one["kind"] == "ConfigMap":
        one["data"] = {key: yaml.safe_load(text) for key, text in one["data"].items()}
    if "template" in spec:
        spec["template"].pop("metadata")
        pod = spec["template"]["spec"]
        pod.pop("hostAliases", None)
        spread = pod["topologySpreadConstraints"]
        pod["topologySpreadConstraints"] = [
            {**each, "labelSelector": None} for each in spread if each["topologyKey"] != "kubernetes.io/os"
        ]
    return one


def assert_selects_its_pods(one: Object) -> None:
    if template := one.get("spec", {}).get("template"):
        labels = template["metadata"]["labels"].items()
        assert one["spec"]["selector"]["matchLabels"].items() <= labels
        for each in template["spec"]["topologySpreadConstraints"]:
            assert each["labelSelector"]["matchLabels"].items() <= labels


def by_name(found: Sequence[Object]) -> dict[tuple[str, str], Object]:
    made = {(one["kind"], one["metadata"]["name"]): one for one in map(normalized, found)}
    assert len(made) == len(found)
    return made


def of_manifests(*paths: str) -> dict[tuple[str, str], Object]:
    return by_name([one for path in paths for one in filled(path) if one["kind"] != "Namespace"])


@pytest.mark.parametrize(
    ("example", "name", "manifests"),
    [
        ("dns", "kube-dns", (DNS, SVC)),
        ("vm", "vm-dns", (VM,)),
        ("shared-etcd", "kube-dns", (SHARED, "shared-etcd/etcd.yaml.in", SVC)),
    ],
)
def test_chart_renders_manifests(render: Render, example: str, name: str, manifests: Sequence[str]) -> None:
    assert by_name(render(example, name=name)) == of_manifests(*manifests)


def test_chart_with_external_dns_renders_the_manifests(render: Render) -> None:
    wanted = of_manifests(DNS, SVC, "external-dns/external-dns.yaml.in")
    more = filled("external-dns/dns.yaml.in")
    [crd] = filled("external-dns/crd.yaml")
    crd["metadata"]["annotations"]["helm.sh/resource-policy"] = "keep"
    wanted |= by_name([*of_kind(more, "ConfigMap"), crd])
    # the chart has one role for both
    [role] = of_kind(more, "ClusterRole")
    wanted["ClusterRole", "kube2etcd"]["rules"] += role["rules"]
    assert by_name(render("external-dns")) == wanted


SETTINGS: dict[str, dict[str, Any]] = {
    "pods": {"settings.pods": "verified"},
    "vm-zone": {"vm.enabled": True},
    "vm-zone-in-settings": {"settings.vm": {"domain": ""}},
    "everything": {
        "vm.enabled": True,
        "vm.domain": "example.com",
        "externalDNS.enabled": True,
        "externalDNS.domains": ["apps.example.com"],
        "settings.pods": "verified",
        "settings.zones": [{"zone": "public.example.com"}],
    },
    "services-zones-only": {"clusterDNS.enabled": False, "settings.zones": [{"zone": "public.example.com"}]},
    "no-cluster-zone-in-settings": {
        "settings.cluster_zone": False,
        "settings.zones": [{"zone": "public.example.com"}],
    },
    "vm-zone-only-verified": {"clusterDNS.enabled": False, "vm.enabled": True, "settings.pods": "verified"},
}


@pytest.mark.parametrize("events", [False, True], ids=["no events", "events"])
@pytest.mark.parametrize("values", list(SETTINGS.values()), ids=list(SETTINGS))
def test_rbac_grants_what_settings_need(render: Render, values: dict[str, Any], events: bool) -> None:
    found = render("", {**values, "settings.events": events})
    wanted = needed_by(found)
    if events:
        wanted |= {(group, kind, "get") for group, kind, _ in wanted}
        wanted.add(("events.k8s.io", "events", "create"))
    assert granted(found, "kube2etcd") == wanted


def test_settings_merge_into_the_defaults(render: Render) -> None:
    values = {"settings.etcd": {"prefix": "/dns"}, "settings.owner_id": "blue"}
    [config] = [
        one for one in of_kind(render("shared-etcd", values), "ConfigMap") if "settings.yaml" in one["data"]
    ]
    settings = load_text(config["data"]["settings.yaml"])
    assert (settings.etcd.prefix, settings.owner_id, settings.leader_elect) == ("/dns", "blue", True)
    assert len(settings.etcd.servers) == 3
    assert build.kinds(settings)


def test_settings_accept_every_type(render: Render) -> None:
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


def test_ipv6_etcd_addresses_are_bracketed(render: Render) -> None:
    found = render("shared-etcd", {"sharedEtcd.addresses": ["fd00:10::20", "fd00:10::21", "fd00:10::22"]})
    configs = {one["metadata"]["name"]: one["data"] for one in of_kind(found, "ConfigMap")}
    assert load_text(configs["kube-dns"]["settings.yaml"]).etcd.servers[0] == "https://[fd00:10::20]:2379"
    member = yaml.safe_load(configs["kube-dns-etcd"]["kube-dns-etcd-1.yaml"])
    assert member["initial-advertise-peer-urls"] == "https://[fd00:10::21]:2380"


def test_two_releases_share_no_object(render: Render) -> None:
    values = {"externalDNS.enabled": True, "externalDNS.domains": ["a.example.com"], "externalDNS.crd": False}
    first, second = (render("shared-etcd", values, name) for name in ("kube-dns", "other"))
    names = Counter((one["kind"], one["metadata"]["name"]) for one in (*first, *second))
    assert set(names.values()) == {1}
    templates = [[one["metadata"]["labels"] for one in pods(found)] for found in (first, second)]
    for workload in (one for one in second if "template" in one.get("spec", {})):
        chosen = workload["spec"]["selector"]["matchLabels"].items()
        assert sum(chosen <= labels.items() for labels in (*templates[0], *templates[1])) == 1


def test_values_reach_the_rendered_objects(render: Render) -> None:
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


def test_no_address_renders_no_service(render: Render) -> None:
    assert of_kind(render(), "Service") == []
    [service] = of_kind(
        render("vm", {"vm.nameServerIP": "", "service.type": "NodePort"}, "vm-dns"), "Service"
    )
    assert "loadBalancerIP" not in service["spec"]


def test_service_monitor_selects_the_service(render: Render) -> None:
    [monitor] = of_kind(filled("monitoring/monitoring.yaml"), "ServiceMonitor")
    [service] = of_kind(render("dns"), "Service")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()


#: Invalid values, by Helm's error.
REFUSED: dict[str, list[dict[str, Any]]] = {
    "/clusterDNS/domain": [{"clusterDNS.domain": domain} for domain in (*BAD_DOMAINS, "{DNS_DOMAIN}")],
    "/clusterDNS/serverIP": [
        {"clusterDNS.serverIP": address}
        for address in ("10.0.0.256", "kube-dns.example.com", "{DNS_SERVER_IP}")
    ],
    "replicas": [{"replicas": replicas} for replicas in (0, -1, "two")],
    "domian": [{"clusterDNS.domian": "x"}],
    "tll": [{"settings.tll": 5}],
    "/settings/ttl": [{"settings.ttl": "abc"}, {"settings.ttl": 0}],
    "/settings/pods": [{"settings.pods": "bogus"}],
    "/settings/zones": [{"settings.zones": "x"}, {"settings.zones": [{"selector": "a=b"}]}],
    "/settings/events": [{"settings.events": "maybe"}],
    "/settings/etcd": [{"settings.etcd": {"servers": "localhost"}}],
    "/settings/dns_server_ip": [{"settings.dns_server_ip": ["10.0.0"]}],
    "/settings/resync_period": [{"settings.resync_period": "5 minutes"}],
    "settings.listen cannot be set": [{"settings.listen": ":9999"}],
    "settings.listen_page cannot be set": [{"settings.listen_page": ":9000"}],
    "settings.etcd.api cannot be set": [{"settings.etcd.api": "v2"}],
    "settings.corefile.health_listen cannot be set": [{"settings.corefile.health_listen": ""}],
    "settings.webhook.inside cannot be set": [{"settings.webhook.inside": False}],
    "settings.skydns cannot be set": [{"settings.skydns.config": True}],
    "/externalDNS/domains": [{"externalDNS.enabled": True}],
    "/sharedEtcd/addresses": [{"sharedEtcd": {"enabled": True, "addresses": ["10.0.0.1"]}}],
    "nothing to serve": [{"clusterDNS.enabled": False}],
}


@pytest.mark.parametrize(
    ("values", "said"),
    [pytest.param(one, said, id=json.dumps(one)) for said, some in REFUSED.items() for one in some],
)
def test_invalid_values_are_rejected(render: Render, values: dict[str, Any], said: str) -> None:
    with pytest.raises(RuntimeError, match=re.escape(said)):
        render("", values)


def test_example_settings_load(render: Render) -> None:
    for example in sorted((CHART / "examples").glob("*.yaml")):
        for config in of_kind(render(example.stem), "ConfigMap"):
            if "settings.yaml" in config["data"]:
                assert load_text(config["data"]["settings.yaml"])


def test_helm_lint_passes(binaries: Binaries) -> None:
    assert "0 chart(s) failed" in helm(binaries, "lint", "--strict", str(ADDONS / "helm"))
