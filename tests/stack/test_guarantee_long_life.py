"""Thousands of changes and broken connections leak no threads, files or memory."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.stack.faults import HERE, Proxy, Run
from tests.stack.harness import SLOW, ApiServer, Bridge, Etcd, Object, wait_for
from tests.stack.objects import endpoints, service

TURNS = 40
#: Watched kinds: Services, slices, Namespaces.
KINDS = 3
NAMES = 50
#: Seconds for all turns, to be multiplied by SLOW.
DEADLINE = 90.0
#: Bytes that memory may grow in the second half: uncollected garbage, fragmentation.
MAX_GROWTH = 8_000_000


def slices(number: int) -> list[Object]:
    """The endpoints of every Service, different in each turn."""
    return [
        endpoints(f"s{at:03d}", f"10.5.{at}.{number + 1}", f"10.6.{at}.{number + 1}") for at in range(NAMES)
    ]


def patch_all(apiserver: ApiServer, number: int) -> None:
    """Patch all slices concurrently."""

    def patch(one: Object) -> None:
        path = apiserver.path(one["apiVersion"], one["kind"], None, one["metadata"]["name"])
        body = {"endpoints": one["endpoints"]}
        apiserver.patch(path, body)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(patch, slices(number)))


class Usage:
    """The threads, files and memory of a process."""

    def __init__(self, bridge: Bridge) -> None:
        of = Path(f"/proc/{bridge.pid}")
        status = (of / "status").read_text()
        self.threads = int(re.search(r"Threads:\s+(\d+)", status)[1])  # type: ignore[index]
        self.memory = int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024  # type: ignore[index]
        self.files = len(list((of / "fd").iterdir()))

    def __repr__(self) -> str:
        return f"{self.threads} threads, {self.files} files, {self.memory / 1e6:.0f} MB"


def test_threads_files_and_memory_do_not_leak(
    apiserver: ApiServer, etcd: Etcd, capsys: pytest.CaptureFixture[str], proxy: Proxy, run: Run
) -> None:
    apiserver.apply_all([service(f"s{at:03d}", clusterIP="None") for at in range(NAMES)])
    apiserver.apply_all(slices(0))
    began = time.monotonic()

    bridge = run(kubeconfig=proxy.kubeconfig)

    def live(first: int, turns: int) -> None:
        for number in range(first, first + turns):
            patch_all(apiserver, number)
            if number % 2:
                proxy.break_watches()
            if number % 5 == 0:
                etcd.restart()
            if number % 3 == 0:
                etcd.delete(f"{HERE}/svc/default/s00")
            assert time.monotonic() - began < DEADLINE * SLOW, f"{number} turns in {DEADLINE * SLOW:g} s"
        wanted = [f"10-5-{at}-{first + turns}-" for at in range(NAMES)]

        def there() -> bool:
            keys = "\n".join(etcd.dump(HERE))
            return all(one in keys for one in wanted)

        wait_for(there, "the last turn's keys", 40)
        bridge.wait_ready(10)

    live(1, TURNS // 2)
    before = settled_usage(bridge, proxy)
    live(TURNS // 2 + 1, TURNS // 2)
    after = settled_usage(bridge, proxy)
    events = bridge.metric("kube2etcd_watch_events_total")
    with capsys.disabled():
        print(f"\n{before}; in the end, after {events:.0f} events: {after}")
    assert after.threads <= before.threads
    assert after.files <= before.files
    assert after.memory - before.memory < MAX_GROWTH


def settled_usage(bridge: Bridge, proxy: Proxy) -> Usage:
    """The usage once all watches are open and two samples agree, as connections close with a delay."""
    samples = [Usage(bridge)]

    def same() -> bool:
        threading.Event().wait(0.5)
        samples.append(Usage(bridge))
        one, other = samples[-2:]
        watched = len(set(proxy.watches.values()))
        return (one.threads, one.files, watched) == (other.threads, other.files, KINDS)

    wait_for(same, "threads and files to settle", 20)
    return samples[-1]
