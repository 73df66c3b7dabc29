"""Static checks of the addons' manifests: placeholders, settings, options, RBAC, pod security."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from kube2etcd import __version__
from kube2etcd.app import build
from kube2etcd.cli import main
from kube2etcd.kube.objects import KINDS
from kube2etcd.settings import Settings, load
from kube2etcd.settings.values import CUSTOM_BLOCKS
from tests.addons.manifests import (
    ADDONS,
    VALUES,
    Object,
    containers,
    fill,
    filled,
    leftover_placeholders,
    manifests,
    objects,
    of_kind,
    pods,
    sed,
)

ROOT = ADDONS.parent
SERVERS = ROOT / "tests" / "stack" / "servers"
IDS = [str(path.relative_to(ADDONS)) for path in manifests()]
every_manifest = pytest.mark.parametrize("manifest", manifests(), ids=IDS)


def workloads() -> Iterator[Any]:
    """Each pod template, with the objects of its manifest."""
    for manifest, name in zip(manifests(), IDS, strict=True):
        for number, template in enumerate(pods(filled(manifest))):
            yield pytest.param(filled(manifest), template, id=f"{name}-{number}")


every_pod = pytest.mark.parametrize(("found", "template"), list(workloads()))


@every_manifest
def test_every_placeholder_is_filled_in(manifest: Path) -> None:
    assert leftover_placeholders(fill(manifest)) == []
    assert objects(fill(manifest))


@every_manifest
def test_every_placeholder_is_documented_at_the_top(manifest: Path) -> None:
    """The comment at the top has a sed expression for exactly the placeholders of the manifest."""
    text = manifest.read_text()
    head = text[: text.index("apiVersion:")]
    placeholders = {one.strip("{}") for one in leftover_placeholders(text)}
    assert set(re.findall(r"s/{(\w+)}/\$(\w+)/g", head)) == {(one, one) for one in placeholders}


def test_manifests_are_short_and_hold_no_corefile() -> None:
    texts = [path.read_text() for path in manifests()]
    assert not any("Corefile: |" in text for text in texts)
    assert sum(text.count("\n") for text in texts) < 1800


@every_pod
def test_kube2etcd_writes_the_corefile_before_coredns_starts(found: list[Object], template: Object) -> None:
    by_name = {one["name"]: one for one in containers(template)}
    if "coredns" not in by_name:
        return
    bridge, server = by_name["kube2etcd"], by_name["coredns"]
    assert bridge in template["spec"]["initContainers"]
    assert bridge["restartPolicy"] == "Always"
    assert bridge["startupProbe"]["httpGet"]["path"] == "/readyz"
    [file] = [word.partition("=")[2] for word in bridge["args"] if word.startswith("--corefile=")]
    assert server["args"] == ["-conf", file]
    # the folder, since the file is replaced by a rename
    mounts = [{mount["name"]: mount for mount in one["volumeMounts"]} for one in (bridge, server)]
    assert [mount["corefile"]["mountPath"] for mount in mounts] == [str(Path(file).parent)] * 2
    assert [mount["corefile"].get("readOnly", False) for mount in mounts] == [False, True]
    volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
    assert "emptyDir" in volumes["corefile"]
    assert mounts[1]["custom"]["mountPath"] == str(Path(CUSTOM_BLOCKS).parent)
    assert volumes["custom"]["configMap"] == {"name": "coredns-custom", "optional": True}


@every_manifest
def test_objects_are_unique_and_labelled(manifest: Path) -> None:
    names = [
        (one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in filled(manifest)
    ]
    assert len(set(names)) == len(names)
    for one in filled(manifest):
        labels = one["metadata"].get("labels", {})
        assert one["kind"] == "Namespace" or labels.get("app.kubernetes.io/name"), one["metadata"]["name"]


def configs() -> Iterator[Any]:
    """The ConfigMap with the settings of each manifest that has one."""
    for manifest, name in zip(manifests(), IDS, strict=True):
        for config in of_kind(filled(manifest), "ConfigMap"):
            if "settings.yaml" in config["data"]:
                yield pytest.param(config, id=name)


def leaves(tree: Object, path: str = "") -> Iterator[str]:
    for key, value in tree.items():
        yield from leaves(value, f"{path}{key}.") if isinstance(value, dict) else [f"{path}{key}"]


@pytest.mark.parametrize("config", list(configs()))
def test_settings_differ_from_the_defaults_and_have_comments(config: Object) -> None:
    assert set(config["data"]) == {"settings.yaml"}, "users edit one key"
    text = config["data"]["settings.yaml"]
    for path in leaves(yaml.safe_load(text)):
        assert path == "domain" or attrgetter(path)(settings_of(config)) != attrgetter(path)(Settings()), path
    lines = text.splitlines()
    for key in yaml.safe_load(text):
        [number] = [number for number, line in enumerate(lines) if line.startswith(f"{key}:")]
        around = (lines[number - 1], *lines[number + 1 :][:2])
        assert any(line.lstrip().startswith("# ") for line in around), key
    # Settings in comments are valid once uncommented.
    uncommented = re.sub(r"^( *)# ((?:  )?[a-z_]+:)", r"\1\2", text, flags=re.MULTILINE)
    load_text(uncommented)


def settings_of(config: Object) -> Settings:
    return load_text(config["data"]["settings.yaml"])


def load_text(text: str) -> Settings:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        return load({}, {}, Path(file.name))


@pytest.mark.parametrize(
    "manifest", ["dns/skydns-rc.yaml.in", "vm/vm-dns.yaml.in", "shared-etcd/skydns-rc.yaml.in"]
)
def test_permissions_are_those_needed(manifest: str) -> None:
    found = filled(manifest)
    [template] = pods(found)
    assert granted(found, template["spec"]["serviceAccountName"]) == needed_by(found)


def test_external_domain_needs_what_its_manifest_adds() -> None:
    plain, more = filled("dns/skydns-rc.yaml.in"), filled("external-dns/dns.yaml.in")
    assert granted(plain, "kube2etcd") | granted(more, "kube2etcd") == needed_by(more)
    [before], [after] = of_kind(plain, "ConfigMap"), of_kind(more, "ConfigMap")
    for key in ("name", "namespace"):
        assert before["metadata"][key] == after["metadata"][key], "one does not replace the other"
    added = {"domains": [VALUES["DOMAIN"]], "dns_endpoints": True}
    assert settings_text(after) == {**settings_text(before), **added}


@every_pod
def test_cluster_roles_are_read_only(found: list[Object], template: Object) -> None:
    account = template["spec"].get("serviceAccountName", "")
    assert {verb for _, _, verb in granted(found, account)} <= {"list", "watch"}


def settings_text(config: Object) -> Object:
    found: Object = yaml.safe_load(config["data"]["settings.yaml"])
    return found


def needed_by(found: list[Object]) -> set[tuple[str, str, str]]:
    """The permissions that a bridge with these settings needs: group, resource, verb."""
    [config] = [one for one in of_kind(found, "ConfigMap") if "settings.yaml" in one["data"]]
    kinds = build.kinds(settings_of(config))
    return {(kind.group, kind.name, verb) for kind in kinds for verb in ("list", "watch")}


def granted(found: list[Object], account: str) -> set[tuple[str, str, str]]:
    """The cluster-wide permissions of an account."""
    roles = {one["metadata"]["name"]: one for one in of_kind(found, "ClusterRole")}
    bound = [
        roles[one["roleRef"]["name"]]
        for one in of_kind(found, "ClusterRoleBinding")
        if account in [subject["name"] for subject in one["subjects"]]
    ]
    return {
        (group, resource, verb)
        for role in bound
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_optional_roles_grant_what_their_settings_need() -> None:
    verified = {("", "pods", verb) for verb in ("list", "watch")}
    assert granted(filled("dns/pods-verified.yaml"), "kube2etcd") == verified
    looked_up = {(kind.group, kind.name, "get") for kind in KINDS.values()}
    recorded = {("events.k8s.io", "events", "create")}
    assert granted(filled("dns/events.yaml"), "kube2etcd") == looked_up | recorded


@every_pod
def test_options_of_commands_exist(found: list[Object], template: Object) -> None:
    for one in containers(template):
        if "kube2etcd" not in one["image"]:
            continue
        name, *words = one["args"]
        command = main.commands[name]
        context = click.Context(command, info_name=name)
        command.make_parser(context).parse_args(list(words))


@every_pod
def test_images_have_the_tested_versions(found: list[Object], template: Object) -> None:
    for one in containers(template):
        image, _, tag = one["image"].rpartition("/")[2].partition(":")
        modules = {
            "etcd": ("etcd", "go.etcd.io/etcd/server/v3"),
            "coredns": ("coredns", "coredns/coredns"),
            "external-dns": ("externaldns", "sigs.k8s.io/external-dns"),
        }
        if image in modules:
            server, module = modules[image]
            text = (SERVERS / server / "go.mod").read_text()
            version = re.search(rf"{module} v(\S+)", text)
            assert version
            assert tag.removeprefix("v") == version[1]
        elif image == "kube2etcd":
            assert tag == __version__
        assert tag not in ("", "latest")


@every_pod
def test_pods_are_hardened(found: list[Object], template: Object) -> None:
    """Beyond the restricted pod security standard (tests/stack/test_addon_manifests.py)."""
    spec = template["spec"]
    assert spec["enableServiceLinks"] is False
    assert spec["automountServiceAccountToken"] is False
    assert spec["priorityClassName"] == "system-cluster-critical"
    assert spec["nodeSelector"] == {"kubernetes.io/os": "linux"}
    keys = [each["topologyKey"] for each in spec["topologySpreadConstraints"]]
    assert keys[:2] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    with_token = []
    for one in containers(template):
        assert one["securityContext"]["readOnlyRootFilesystem"] is True
        assert "memory" in one["resources"]["limits"]
        assert "cpu" not in one["resources"]["limits"], "CPU limits delay answers"
        assert {"cpu", "memory"} <= one["resources"]["requests"].keys()
        assert not any(
            "valueFrom" in each and "secretKeyRef" in each["valueFrom"] for each in one.get("env", ())
        )
        with_token += [one["name"] for mount in one.get("volumeMounts", ()) if mount["name"] == "token"]
    assert set(with_token) <= {"kube2etcd", "external-dns"}, "only these call the API server"


@every_pod
def test_liveness_probes_do_not_depend_on_others(found: list[Object], template: Object) -> None:
    for one in containers(template):
        assert one["livenessProbe"]["httpGet"]["path"] in ("/livez", "/health", "/healthz")
        if "kube2etcd" in one["image"]:
            assert one["livenessProbe"]["httpGet"]["path"] == "/livez"
            assert one["readinessProbe"]["httpGet"]["path"] == "/readyz"
            if "startupProbe" in one and one["startupProbe"]["httpGet"]["path"] == "/readyz":
                assert one["startupProbe"]["failureThreshold"] == 2**31 - 1
        ports = {port["name"] for port in one["ports"]}
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert kind not in one or one[kind]["httpGet"]["port"] in ports


@every_pod
def test_etcd_listens_on_loopback_only(found: list[Object], template: Object) -> None:
    for one in containers(template):
        options = dict(word.removeprefix("--").split("=", 1) for word in one["args"] if "=" in word)
        if "config-file" in options:
            continue  # a cluster member
        for option, value in options.items():
            if option.startswith("listen-") and option != "listen-metrics-urls":
                assert value.startswith("http://127.0.0.1:"), option
        if one["name"] == "etcd":
            assert options["auto-compaction-retention"]
            assert int(options["quota-backend-bytes"]) < 2 << 30
            assert options["listen-metrics-urls"] == "http://0.0.0.0:2381"
            assert "emptyDir" in next(v for v in template["spec"]["volumes"] if v["name"] == "etcd-storage")


@every_pod
def test_volumes_and_service_accounts_exist(found: list[Object], template: Object) -> None:
    spec = template["spec"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    for claim in claims(found):
        volumes[claim] = {}
    named = {(one["kind"], one["metadata"]["name"]) for one in found}
    for one in containers(template):
        for mount in one.get("volumeMounts", ()):
            assert mount["name"] in volumes
    for volume in volumes.values():
        if "configMap" in volume and not volume["configMap"].get("optional"):
            assert ("ConfigMap", volume["configMap"]["name"]) in named
    if "serviceAccountName" in spec:
        assert ("ServiceAccount", spec["serviceAccountName"]) in named


def claims(found: list[Object]) -> list[str]:
    """The names of a StatefulSet's volume claims."""
    sets = of_kind(found, "StatefulSet")
    return [claim["metadata"]["name"] for one in sets for claim in one["spec"]["volumeClaimTemplates"]]


def test_service_selects_the_pods_and_their_ports() -> None:
    [service] = filled("dns/skydns-svc.yaml.in")
    template = next(pods(filled("dns/skydns-rc.yaml.in")))
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    ports = {
        (port["containerPort"], port["protocol"]) for one in containers(template) for port in one["ports"]
    }
    targets = {(port["targetPort"], port["protocol"]) for port in service["spec"]["ports"]}
    assert targets <= ports
    assert {("dns", 53, "UDP"), ("dns-tcp", 53, "TCP"), ("metrics", 9153, "TCP")} <= {
        (port["name"], port["port"], port["protocol"]) for port in service["spec"]["ports"]
    }


def test_ipv6_address_is_a_string() -> None:
    for address in ("fd00:10::", "fd00:10::a", "::1"):
        [service] = filled("dns/skydns-svc.yaml.in", {**VALUES, "DNS_SERVER_IP": address})
        assert service["spec"]["clusterIP"] == address
        assert service["spec"]["clusterIPs"] == [address]


def test_variants_of_the_vm_manifest() -> None:
    """Those of the guide: the zone ``vm`` without a domain, and no name server."""
    guide = (ADDONS / "vm" / "README.md").read_text()
    no_domain, no_name_server = [r"s/vm\.{DOMAIN}/vm/g", "s/{DOMAIN}//g"], "/{NAME_SERVER_IP}/d"
    for expression in (*no_domain, no_name_server):
        assert f"-e '{expression}'" in guide
    text = sed("vm/vm-dns.yaml.in", *no_domain, "s/{NAME_SERVER_IP}/198.51.100.53/g")
    assert leftover_placeholders(text) == []
    [config] = of_kind(objects(text), "ConfigMap")
    assert config["metadata"]["name"] == "vm"
    assert settings_of(config).vm.domain == ""

    text = sed("vm/vm-dns.yaml.in", "s/{DOMAIN}/sec.example.com/g", no_name_server)
    assert leftover_placeholders(text) == []
    [config] = of_kind(objects(text), "ConfigMap")
    assert settings_of(config).vm.name_server_ip is None
    [service] = of_kind(objects(text), "Service")
    assert "loadBalancerIP" not in service["spec"]
    [template] = pods(objects(text))
    assert len(template["spec"]["hostAliases"]) == 1


def assert_same(one: Object, other: Object, *paths: str) -> None:
    for path in paths:
        left, right = one, other
        for part in path.split("."):
            left, right = left.get(part, {}), right.get(part, {})
        assert left == right, path


DNS, SHARED, VM = "dns/skydns-rc.yaml.in", "shared-etcd/skydns-rc.yaml.in", "vm/vm-dns.yaml.in"


def test_common_parts_of_manifests_are_equal() -> None:
    """Else a probe changed in two of three files would go unnoticed."""
    dns, shared, vm = ({one["kind"]: one for one in filled(path)} for path in (DNS, SHARED, VM))
    for kind in ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "PodDisruptionBudget"):
        assert dns[kind] == shared[kind]
    templates = [one["Deployment"]["spec"]["template"] for one in (dns, shared, vm)]
    first = {one["name"]: one for one in containers(templates[0])}
    pod = ("priorityClassName", "tolerations", "nodeSelector", "enableServiceLinks", "dnsPolicy")
    for template in templates[1:]:
        assert_same(templates[0]["spec"], template["spec"], *pod, "securityContext.seccompProfile")
        for one in containers(template):
            probes = ("startupProbe", "readinessProbe", "livenessProbe")
            assert_same(
                first[one["name"]], one, *probes, "image", "resources", "securityContext", "restartPolicy"
            )
        volumes = [{one["name"]: one for one in each["spec"]["volumes"]} for each in (templates[0], template)]
        for name in ("token", "corefile", "custom"):
            assert volumes[0][name] == volumes[1][name]
    for key in ("args", "ports", "command"):
        assert [one.get(key) for one in containers(templates[1])] == [
            one.get(key) for one in containers(templates[0]) if one["name"] != "etcd"
        ]
    assert set(yaml.safe_load(of_kind(filled(DNS), "ConfigMap")[0]["data"]["settings.yaml"])) == {"domain"}
