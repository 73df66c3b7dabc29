"""How fast watch events are taken in, beside the stock client's ``Watch``.

The prepared server has the whole watch as bytes, one HTTP chunk per event as kube-apiserver writes it, so the
ratio is the readers'.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import kubernetes.client
import kubernetes.watch

from kube2etcd.kube.client import ApiConnection
from kube2etcd.kube.codec import decode_event
from kube2etcd.kube.objects import KINDS
from kube2etcd.settings import Cluster
from tests.bench.measure import Bench, Row, median

EVENTS = 20_000


def stock(url: str, models: bool) -> int:
    """The stock client; how many events it gave."""
    configuration = kubernetes.client.Configuration()
    configuration.host = url
    with kubernetes.client.ApiClient(configuration) as client:
        listed = kubernetes.client.CoreV1Api(client).list_service_for_all_namespaces
        watch: Any = kubernetes.watch.Watch()  # type: ignore[no-untyped-call]
        stream = watch.stream(listed, timeout_seconds=1, deserialize=models, resource_version="0")
        return sum(1 for _ in stream)


def ours(url: str) -> int:
    """Our stream with its decoder; how many events it gave."""
    connection = ApiConnection(Cluster(kube_master_url=url))
    kind, count = KINDS["services"], 0
    with connection.stream(kind.path(), {"watch": "true"}, connect_timeout=10, read_timeout=10) as stream:
        for line in stream:
            count += decode_event(kind, line).object is not None
    connection.close()
    return count


def watch(bench: Bench) -> Iterator[Row]:
    """Events a second of the three readers in turn."""
    bench.api.replay(EVENTS)
    url = bench.api.url
    readers: dict[str, Callable[[], int]] = {
        "stock": lambda: stock(url, True),
        "stock without models": lambda: stock(url, False),
        "ours": lambda: ours(url),
    }
    rates: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(bench.rounds):
        for name, read in readers.items():
            began = time.perf_counter()
            assert read() == EVENTS, name
            rates[name].append(EVENTS / (time.perf_counter() - began))
    bench.api.replay(0)
    mine, base = median(rates["ours"]), median(rates["stock"])
    bench.say(f"watch events: {mine:,.0f}/s, the stock client {base:,.0f}/s")
    what = "watch events a second"
    yield Row(what, "the stock client's Watch", mine / base, 8.0, at_least=True, details=rates)
