"""Commands of a single pass (resync, records, explain) over a scripted API server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from kube2etcd.app import once
from kube2etcd.cli import main
from kube2etcd.errors import PlanChanged
from kube2etcd.etcd.changes import Delete, Snapshot
from kube2etcd.settings import load
from tests.kube.scripted import Handler, Scripted
from tests.sync.loop import Entries

SHOP = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}


def service(name: str, **spec: Any) -> dict[str, Any]:
    meta = {"namespace": "shop", "name": name}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}


OBJECTS = [
    SHOP,
    service("web", clusterIP="10.0.0.1"),
    service("legacy", type="ExternalName", externalName="192.0.2.9"),
    service("waiting", type="LoadBalancer"),
    service("malformed", clusterIP="10.0.0.2", ports="eighty"),
]


@pytest.fixture
def server() -> Iterator[Scripted]:
    made = Scripted()
    yield made
    made.end()


@pytest.fixture
def cluster(server: Scripted) -> Callable[[list[dict[str, Any]]], str]:
    def serve(objects: list[dict[str, Any]]) -> str:
        def answer(handler: Handler) -> None:
            path, _, query = handler.path.partition("?")
            if "watch=true" in query:
                handler.begin(Transfer_Encoding="chunked")
                handler.wfile.flush()
                handler.server.released.wait(20)
                return
            kinds = {"services": "Service", "namespaces": "Namespace", "endpointslices": "EndpointSlice"}
            kind = kinds.get(path.rpartition("/")[2])
            if kind is None:
                handler.begin(404, Content_Length="0")
                return
            items = [one for one in objects if one["kind"] == kind]
            meta = {"resourceVersion": "1"}
            body = json.dumps({"kind": f"{kind}List", "metadata": meta, "items": items}).encode()
            handler.begin(Content_Length=str(len(body)))
            handler.wfile.write(body)

        server.answers = [answer]
        return server.url

    return serve


def test_records_left_out_of_a_cluster_are_reported_as_for_files(
    cluster: Callable[[list[dict[str, Any]]], str], tmp_path: Path
) -> None:
    manifests = tmp_path / "all.yaml"
    manifests.write_text(yaml.safe_dump_all(OBJECTS))

    def report(*source: str) -> list[str]:
        done = CliRunner().invoke(main, ["records", *source])
        assert done.exit_code == 0, done.output
        return [line.partition(": ")[2] for line in done.stderr.splitlines() if "shop/" in line]

    from_file = report("--objects", str(manifests))
    from_cluster = report("--kube-master-url", cluster(OBJECTS))
    [legacy] = [line for line in from_file if "services/shop/legacy: " in line]
    assert legacy in from_cluster
    assert sum("services/shop/malformed: cannot be read" in line for line in from_cluster) == 1
    assert not any("shop/waiting" in line or "shop/web" in line for line in from_cluster)


@pytest.mark.parametrize(
    ("name", "line"), [("legacy", "services/shop/legacy: "), ("malformed", "cannot be read")]
)
def test_explanation_reports_only_its_own_object(
    cluster: Callable[[list[dict[str, Any]]], str], name: str, line: str
) -> None:
    question = f"{name}.shop.svc.cluster.local"
    unreachable = ("--etcd-server", "http://127.0.0.1:1")
    done = CliRunner().invoke(
        main, ["explain", question, "--kube-master-url", cluster(OBJECTS), *unreachable]
    )
    assert line in done.stdout
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["Note"], done.stderr


class Etcd(Entries):
    """etcd in memory that is its own connection."""

    def __init__(self) -> None:
        super().__init__()
        self.on_snapshot: Callable[[], None] = lambda: None

    def __enter__(self) -> Etcd:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def snapshot(self) -> Snapshot:
        self.on_snapshot()
        return Snapshot(1, dict(self.entries))


@pytest.fixture
def etcd(monkeypatch: pytest.MonkeyPatch) -> Etcd:
    store = Etcd()
    monkeypatch.setattr(once, "open_store", lambda *_: (store, store))
    return store


def many_services(count: int) -> list[dict[str, Any]]:
    return [SHOP, *(service(f"s{number}", clusterIP=f"10.0.1.{number}") for number in range(count))]


def test_held_deletions_are_part_of_the_plan(
    cluster: Callable[[list[dict[str, Any]]], str], etcd: Etcd
) -> None:
    objects = many_services(40)
    settings = load({"kube_master_url": cluster(objects)}, {})
    once.resync(settings)
    filled, etcd.entries[b"/skydns/local/cluster/svc/shop/foreign"] = dict(etcd.entries), b"{}"
    del objects[1:]
    planned, _ = once.dry_run(settings, lambda: once.listed(settings), prune_foreign=True)
    assert planned.held
    assert planned.pruned
    forced, _ = once.dry_run(settings, lambda: once.listed(settings), force=True, prune_foreign=True)
    assert (forced.held, forced.changes) == (frozenset(), planned.changes)
    # An object is added before the second listing, so the deletions differ from the plan's.
    etcd.on_snapshot = lambda: objects.append(service("late", clusterIP="10.0.2.1"))
    with pytest.raises(
        PlanChanged, match=f"{planned.checksum} were held: 0 of its {len(planned.changes)} ch"
    ):
        once.resync(settings, checksum=planned.checksum, prune_foreign=True)
    assert etcd.entries.keys() > filled.keys()
    etcd.on_snapshot = lambda: None
    planned, publisher = once.dry_run(settings, lambda: once.listed(settings), prune_foreign=True)
    outcome, _ = once.resync(settings, checksum=planned.checksum, prune_foreign=True)
    assert outcome.changes == planned.changes
    assert etcd.entries == planned.after == publisher.desired


def test_absent_kind_delays_deletions(
    cluster: Callable[[list[dict[str, Any]]], str], etcd: Etcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(once, "GONE_AFTER", 0.0)
    settings = load({"kube_master_url": cluster(many_services(1)), "vm_domain": ""}, {})
    stale = b"/skydns/vm/shop/m0/10-0-0-1-H"
    etcd.entries[stale] = b'{"host":"10.0.0.1","owner":"kube2etcd"}'
    outcome, publisher = once.resync(settings)
    assert [one.key for one in outcome.changes if isinstance(one, Delete)] == [stale]
    assert etcd.entries == publisher.desired


def test_refused_key_ends_the_pass(cluster: Callable[[list[dict[str, Any]]], str], etcd: Etcd) -> None:
    settings = load({"kube_master_url": cluster(many_services(1))}, {})
    key = b"/skydns/local/cluster/svc/shop/s0"
    etcd.refused = {key}
    outcome, publisher = once.resync(settings)
    assert outcome.refused == ((key, "too large"),)
    assert outcome.after == etcd.entries == {k: v for k, v in publisher.desired.items() if k != key}
