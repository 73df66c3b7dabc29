"""The pod of addons/dns with ``pods: verified`` and the role that it needs."""

from collections.abc import Iterator

import pytest

from tests.addons.manifests import filled, of_kind
from tests.stack import addon
from tests.stack.addon import ADDRESS, DOMAIN, RC, Cluster, ask, expect
from tests.stack.harness import Binaries, wait_for
from tests.stack.objects import an_object, pod


@pytest.fixture(scope="module")
def cluster(binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    manifest = addon.short_lived(filled(RC))
    [config] = of_kind(manifest, "ConfigMap")
    settings = config["data"]["settings.yaml"]
    assert settings.count("# pods: verified") == 1
    config["data"]["settings.yaml"] = settings.replace("# pods: verified", "pods: verified")
    with addon.running(tmp_path_factory.mktemp("node"), binaries) as made:
        made.apply([*manifest, *filled("dns/skydns-svc.yaml.in")])
        yield made


def test_pods_verified_needs_its_role(cluster: Cluster) -> None:
    cluster.apply([an_object("v1", "ServiceAccount", "default", "default"), pod("first", "10.244.1.1")])
    one = cluster.dns_pod(hurry=10)
    bridge, server = one.containers["kube2etcd"], one.containers["coredns"]
    # without the role nothing is answered, and the log says what is missing
    wait_for(lambda: "403" in bridge.process.log_text(), "the reason", 30)
    assert (bridge.started, server.starts, one.ready) == (False, 0, False)
    assert "list pods" in bridge.process.log_text()
    cluster.apply(filled("dns/pods-verified.yaml"))
    one.wait_ready()
    assert bridge.restarts == 0
    expect(f"10-244-1-1.default.pod.{DOMAIN}", "10.244.1.1", at=ADDRESS)
    assert ask(f"10-244-1-9.default.pod.{DOMAIN}", at=ADDRESS) == ["NXDOMAIN"]
    cluster.apply([pod("second", "10.244.1.2")])
    expect(f"10-244-1-2.default.pod.{DOMAIN}", "10.244.1.2", at=ADDRESS)
    cluster.api.delete(pod("first", "10.244.1.1"))
    expect(f"10-244-1-1.default.pod.{DOMAIN}", "NXDOMAIN", at=ADDRESS)
