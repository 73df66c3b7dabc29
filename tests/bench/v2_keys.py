"""Keys of classic SkyDNS written through etcd's v2 API: how many in a second, and what one costs us.

``python -m tests.bench.v2_keys [--count 3000] [--rounds 3]`` writes them with the store and, beside it in
the same rounds, with nothing but sockets: eight threads that send each request as bytes that were made
beforehand.  Their ratio says more than the rates, which depend on the machine's disk.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from kube2etcd.etcd.changes import Put
from kube2etcd.etcd.settings import EtcdSettings
from kube2etcd.etcd.v2 import V2Store
from kube2etcd.etcd.v2_client import IN_FLIGHT, V2Connection
from tests.stack.build import binaries
from tests.stack.etcd_v2 import EtcdV2

VALUE = b'{"host":"10.0.0.1","priority":10,"weight":10,"ttl":30,"owner":"kube2etcd"}'


@dataclass(frozen=True)
class Cost:
    """Of one way to write: keys in a second, and microseconds of our processor for each."""

    rate: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.rate:6.0f} keys/s, {self.cpu:5.0f} us of CPU each"


def measured(count: int, work: Callable[[], None]) -> Cost:
    """What ``work`` costs, which writes ``count`` keys."""
    began, used = time.perf_counter(), time.process_time()
    work()
    took, cpu = time.perf_counter() - began, time.process_time() - used
    return Cost(count / took, cpu / count * 1e6)


def bare(port: int, keys: Sequence[str]) -> None:
    """Write the keys with sockets alone."""
    body = b"value=" + quote(VALUE).encode()
    head = "PUT /v2/keys%s?prevExist=false HTTP/1.1\r\nHost: e\r\nContent-Length: %d\r\n"
    head += "Content-Type: application/x-www-form-urlencoded\r\n\r\n"

    def write(some: Sequence[str]) -> None:
        with socket.create_connection(("127.0.0.1", port)) as line:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for key in some:
                line.sendall((head % (key, len(body))).encode() + body)
                answer = line.recv(65536)
                assert answer.startswith(b"HTTP/1.1 201"), answer

    threads = [threading.Thread(target=write, args=(keys[n::IN_FLIGHT],)) for n in range(IN_FLIGHT)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def one_round(etcd: EtcdV2, number: int, count: int) -> tuple[Cost, Cost, Cost]:
    """Ours, the bare one, and our reading."""

    def keys(who: str) -> list[str]:
        return [f"/skydns/{who}{number}/svc/ns{key // 50}/web{key % 50}/{key:08x}" for key in range(count)]

    changes = tuple(Put(key.encode(), VALUE) for key in keys("ours"))
    with V2Connection(EtcdSettings((etcd.url,))) as connection:
        store = V2Store(connection, [b"/skydns/"])
        store.snapshot()
        ours = measured(count, lambda: _all_written(store, changes))
        theirs = measured(count, lambda: bare(etcd.port, keys("bare")))
        reading = measured(2 * count * (number + 1), lambda: _all_read(store))
    return ours, theirs, reading


def _all_read(store: V2Store) -> None:
    store.snapshot()


def _all_written(store: V2Store, changes: tuple[Put, ...]) -> None:
    result = store.apply([[changes]])
    assert result.written == len(changes), result.refused[:1]


def main() -> None:
    """Print the rounds and their medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    ratios: list[float] = []
    with tempfile.TemporaryDirectory() as directory:
        etcd = EtcdV2(Path(directory), binaries())
        etcd.start()
        try:
            for number in range(arguments.rounds):
                ours, theirs, reading = one_round(etcd, number, arguments.count)
                ratios.append(ours.rate / theirs.rate)
                print(f"ours {ours}; sockets {theirs}; {ratios[-1]:.2f} of it; reading {reading}", flush=True)
        finally:
            etcd.stop()
    print(f"median: {statistics.median(ratios):.2f} of the rate of bare sockets")


if __name__ == "__main__":
    main()
