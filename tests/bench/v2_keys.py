"""Keys of classic SkyDNS written through etcd's v2 API, beside nothing but sockets.

The sockets are eight threads that send each request as bytes made beforehand: the ratio says more than the
rates, which depend on the machine's disk.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from urllib.parse import quote

from kube2etcd.etcd.changes import Put
from kube2etcd.etcd.v2 import V2Store
from kube2etcd.etcd.v2_client import IN_FLIGHT, V2Connection
from kube2etcd.settings import Etcd as EtcdSettings
from tests.bench.measure import Bench, Row, median
from tests.stack.etcd_v2 import EtcdV2

VALUE = b'{"host":"10.0.0.1","priority":10,"weight":10,"ttl":30,"owner":"kube2etcd"}'
COUNT = 3000


def bare(port: int, keys: Sequence[str]) -> None:
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


def _rate(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return COUNT / (time.perf_counter() - began)


def v2_keys(bench: Bench) -> Iterator[Row]:
    ours: list[float] = []
    theirs: list[float] = []
    with (
        EtcdV2(bench.folder(), bench.programs) as etcd,
        V2Connection(EtcdSettings((etcd.url,))) as connection,
    ):
        store = V2Store(connection, b"/skydns/")
        for number in range(bench.rounds):
            mine, other = (
                [f"/skydns/{who}{number}/svc/ns{key // 50}/web{key % 50}/{key:08x}" for key in range(COUNT)]
                for who in ("ours", "bare")
            )
            changes = tuple(Put(key.encode(), VALUE) for key in mine)
            store.snapshot()
            ours.append(_rate(lambda changes=changes: store.apply([[changes]])))  # type: ignore[misc]
            theirs.append(_rate(lambda other=other: bare(etcd.port, other)))  # type: ignore[misc]
    bench.say(f"keys of the v2 API: {median(ours):,.0f}/s, bare sockets {median(theirs):,.0f}/s")
    ratio = median([one / other for one, other in zip(ours, theirs, strict=True)])
    yield Row("keys a second, v2 API", "bare sockets", ratio, 0.1, at_least=True)
