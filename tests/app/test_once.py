"""What the commands that end by themselves tell of a cluster, over a scripted API server."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from kube2etcd.app import once
from kube2etcd.app.offline import from_files
from kube2etcd.cli import main
from kube2etcd.settings import load
from tests.kube.scripted import Handler, Scripted

SHOP = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}


def service(name: str, **spec: Any) -> dict[str, Any]:
    meta = {"namespace": "shop", "name": name}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}


OBJECTS = [
    SHOP,
    service("web", clusterIP="10.0.0.1"),
    service("legacy", type="ExternalName", externalName="192.0.2.9"),
    service("waiting", type="LoadBalancer"),
    service("odd", clusterIP="10.0.0.2", ports="eighty"),
]


@pytest.fixture
def server() -> Iterator[Scripted]:
    made = Scripted()
    yield made
    made.end()


@pytest.fixture
def cluster(server: Scripted) -> Callable[[list[dict[str, Any]]], str]:
    def having(objects: list[dict[str, Any]]) -> str:
        def answer(handler: Handler) -> None:
            path, _, query = handler.path.partition("?")
            if "watch=true" in query:
                handler.begin(Transfer_Encoding="chunked")
                handler.wfile.flush()
                handler.server.released.wait(20)
                return
            kinds = {"services": "Service", "namespaces": "Namespace", "endpointslices": "EndpointSlice"}
            kind = kinds[path.rpartition("/")[2]]
            items = [one for one in objects if one["kind"] == kind]
            meta = {"resourceVersion": "1"}
            body = json.dumps({"kind": f"{kind}List", "metadata": meta, "items": items}).encode()
            handler.begin(Content_Length=str(len(body)))
            handler.wfile.write(body)

        server.answers = [answer]
        return server.url

    return having


def test_what_is_left_out_of_a_cluster_is_told_as_for_files(
    cluster: Callable[[list[dict[str, Any]]], str], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    manifests = tmp_path / "all.yaml"
    manifests.write_text(yaml.safe_dump_all(OBJECTS))
    from_files(load({}, {}), [str(manifests)])
    of_files = {one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING}
    assert any(line.startswith("services/shop/legacy: ") for line in of_files)
    caplog.clear()
    once.listed(load({"kube_master_url": cluster(OBJECTS)}, {}))
    of_cluster = {one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING}
    assert {line for line in of_files if "legacy" in line} == {
        line for line in of_cluster if "legacy" in line
    }
    assert sum("shop/odd is left out" in line for line in of_cluster) == 1
    assert not any("shop/waiting" in line or "shop/web" in line for line in of_cluster)


@pytest.mark.parametrize("args", [("records",), ("explain", "legacy.shop.svc.cluster.local")], ids=" ".join)
def test_what_is_left_out(cluster: Callable[[list[dict[str, Any]]], str], args: tuple[str, ...]) -> None:
    nowhere = ("--etcd-server", "http://127.0.0.1:1") if args[0] == "explain" else ()
    done = CliRunner().invoke(main, [*args, "--kube-master-url", cluster(OBJECTS), *nowhere])
    assert done.exit_code == len(nowhere) // 2, done.output
    assert "services/shop/legacy: " in done.stderr
    assert "services shop/odd is left out: " in done.stderr
