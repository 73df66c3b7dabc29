"""Kubernetes Events on a real API server about records left out."""

from __future__ import annotations

from pathlib import Path

from tests.stack.faults import running
from tests.stack.harness import ApiServer, Etcd, wait_for
from tests.stack.objects import external


def test_an_event_says_why_a_record_is_left_out(apiserver: ApiServer, etcd: Etcd, tmp_path: Path) -> None:
    apiserver.apply(external("alias", "10.1.2.3"))

    def events() -> list[dict[str, object]]:
        found = apiserver.request("GET", "/apis/events.k8s.io/v1/namespaces/default/events")
        return [one for one in found.json()["items"] if one["reportingController"] == "kube2etcd"]

    for attempt in ("first", "again"):
        with running(tmp_path / attempt, apiserver.kubeconfig(), etcd, "--events"):
            wait_for(events, "the Event", 20)
    [event] = events()
    assert event["note"] == "externalName 10.1.2.3 is an address, which a CNAME cannot hold"
    regarding = event["regarding"]
    assert isinstance(regarding, dict)
    assert (regarding["kind"], regarding["name"]) == ("Service", "alias")
    assert regarding["uid"]
