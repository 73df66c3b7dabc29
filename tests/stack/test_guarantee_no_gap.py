"""A name that exists before and after a change is answered all through it."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import dns.exception
import dns.message
import dns.query
import dns.rcode

from tests.stack.faults import endpoints, running, service
from tests.stack.harness import LOOPBACK, ApiServer, CoreDns, Etcd, free_port, wait_for
from tests.stack.pair import our_corefile

ASKED = [
    ("web.default.svc.cluster.local.", "A"),
    ("_http._tcp.web.default.svc.cluster.local.", "SRV"),
    ("many.default.svc.cluster.local.", "A"),
    ("_http._tcp.many.default.svc.cluster.local.", "SRV"),
    ("quiet.default.svc.cluster.local.", "A"),
]


class Asking(threading.Thread):
    """Asks one name as fast as it can, and takes down what is no answer."""

    def __init__(self, port: int, name: str, rdtype: str) -> None:
        super().__init__(daemon=True)
        self.port, self.asked, self.rdtype = port, name, rdtype
        self.bad: Counter[str] = Counter()
        self.good = 0
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.is_set():
            question = dns.message.make_query(self.asked, self.rdtype)
            try:
                answer, _ = dns.query.udp_with_fallback(question, LOOPBACK, timeout=5, port=self.port)
            except dns.exception.DNSException as error:
                self.bad[type(error).__name__] += 1
                continue
            if answer.rcode() == dns.rcode.NOERROR and answer.answer:
                self.good += 1
            else:
                self.bad[dns.rcode.to_text(answer.rcode())] += 1


def test_no_name_is_missing_for_a_moment_during_updates_of_every_kind(
    binaries: dict[str, Path], apiserver: ApiServer, etcd: Etcd, tmp_path: Path
) -> None:
    http = {"name": "http", "port": 80, "protocol": "TCP"}
    more = {"name": "more", "port": 81, "protocol": "TCP"}
    single: dict[str, Any] = {"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"]}
    dual: dict[str, Any] = {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"]}
    apiserver.apply(service("web", **single))
    apiserver.apply_all(
        [
            service("many", clusterIP="None"),
            endpoints("many", "10.9.0.1", "10.9.0.2"),
            service("quiet"),
        ]
    )
    port = free_port()
    server = CoreDns(tmp_path, binaries, our_corefile(port, etcd.url, "disabled", "none"), port=port)
    with running(tmp_path, apiserver.kubeconfig(), etcd):
        askers = [Asking(port, name, rdtype) for name, rdtype in ASKED]
        try:
            server.start()
            for name, rdtype in ASKED:
                wait_for(
                    lambda name=name, rdtype=rdtype: server.addresses(name, rdtype),  # type: ignore[misc]
                    f"{name} to be served",
                    10,
                )
            for asker in askers:
                asker.start()

            def keys(part: str) -> str:
                return "".join(
                    f"{key} {value} " for key, value in etcd.dump("/skydns").items() if part in key
                )

            for turn in range(4):
                before = keys("/default/web")
                apiserver.apply(service("web", **single, ports=[http, more]))
                wait_for(lambda before=before: keys("/default/web") != before, "the port", 10)  # type: ignore[misc]
                before = keys("/default/web")
                apiserver.apply(service("web", **dual, ports=[http, more]))
                wait_for(lambda before=before: keys("/default/web") != before, "the family", 10)  # type: ignore[misc]
                before = keys("/default/web")
                apiserver.apply(service("web", **single, ports=[http]))
                wait_for(lambda before=before: keys("/default/web") != before, "the old form", 10)  # type: ignore[misc]
                # one endpoint replaced, all of them, and a second slice that takes over from the first
                fresh = f"10.9.{turn + 1}"
                for number, chosen in enumerate(
                    ([f"{fresh}.1", "10.9.0.2"], [f"{fresh}.3", f"{fresh}.4"], ["10.9.0.1", "10.9.0.2"])
                ):
                    apiserver.apply(endpoints("many", *chosen))
                    wait_for(
                        lambda chosen=chosen: all(one in keys("/default/many") for one in chosen),  # type: ignore[misc]
                        f"the endpoints {number}",
                        10,
                    )
                apiserver.apply(endpoints("many", f"{fresh}.9", number=1))
                wait_for(lambda fresh=fresh: f"{fresh}.9" in keys("/default/many"), "another slice", 10)  # type: ignore[misc]
                apiserver.delete(endpoints("many", f"{fresh}.9", number=1))
                wait_for(lambda fresh=fresh: f"{fresh}.9" not in keys("/default/many"), "one slice", 10)  # type: ignore[misc]
        finally:
            for asker in askers:
                asker.ended.set()
            for asker in askers:
                if asker.ident is not None:
                    asker.join(10)
            server.kill()
        assert {asker.asked: dict(asker.bad) for asker in askers if asker.bad} == {}
        assert all(asker.good > 100 for asker in askers)
