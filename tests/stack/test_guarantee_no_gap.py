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

from tests.stack.faults import door_to, endpoints, running, service
from tests.stack.harness import LOOPBACK, ApiServer, CoreDns, Etcd, free_port, wait_for
from tests.stack.pair import our_corefile
from tests.stack.zoned import Zoned, nic, vmi, vmi_crd

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


def end(askers: list[Asking]) -> None:
    for asker in askers:
        asker.ended.set()
    for asker in askers:
        if asker.ident is not None:
            asker.join(10)


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
            end(askers)
            server.kill()
        assert {asker.asked: dict(asker.bad) for asker in askers if asker.bad} == {}
        assert all(asker.good > 100 for asker in askers)


def test_no_name_is_missing_while_a_service_becomes_headless_and_an_address_again(
    binaries: dict[str, Path], apiserver: ApiServer, etcd: Etcd, tmp_path: Path
) -> None:
    # a Service can only be made anew for that: what the bridge sees of it is one other list
    apiserver.apply_all([service("web"), endpoints("web", "10.9.0.1", "10.9.0.2")])
    port = free_port()
    server = CoreDns(tmp_path, binaries, our_corefile(port, etcd.url, "disabled", "none"), port=port)
    asked = [ASKED[0], ASKED[1]]
    with door_to(tmp_path, apiserver) as door, running(tmp_path, door.kubeconfig, etcd):
        askers = [Asking(port, name, rdtype) for name, rdtype in asked]
        try:
            server.start()
            for name, rdtype in asked:
                wait_for(
                    lambda name=name, rdtype=rdtype: server.addresses(name, rdtype),  # type: ignore[misc]
                    f"{name} to be served",
                    10,
                )
            for asker in askers:
                asker.start()
            for kind in ({"clusterIP": "None"}, {}, {"clusterIP": "None"}, {}):
                door.fault("services", status=500)
                door.expire()
                wait_for(lambda: "services" not in door.watches.values(), "the watch to end", 10)
                apiserver.delete(service("web"))
                apiserver.apply(service("web", **kind))
                expected = ["10.9.0.1", "10.9.0.2"]
                if not kind:
                    expected = [apiserver.get("v1", "Service", "web")["spec"]["clusterIP"]]
                door.mend()
                wait_for(
                    lambda expected=expected: sorted(server.addresses(ASKED[0][0])) == expected,  # type: ignore[misc]
                    f"the addresses {expected}",
                    40,
                )
        finally:
            end(askers)
            server.kill()
        assert {asker.asked: dict(asker.bad) for asker in askers if asker.bad} == {}
        assert all(asker.good > 100 for asker in askers)


def test_no_machine_is_missing_while_its_addresses_change(
    binaries: dict[str, Path], apiserver: ApiServer, etcd: Etcd, tmp_path: Path
) -> None:
    apiserver.apply(vmi_crd())
    apiserver.apply(vmi("default", "desk", nic("blue", "10.10.0.1")))
    zoned = Zoned(tmp_path, binaries, apiserver, etcd, ("--vm-domain", ""))
    names = ("desk.default.vm.", "blue.desk.default.vm.")
    askers = [Asking(zoned.dns.port, name, "A") for name in names]
    try:
        zoned.start()
        for name in names:
            zoned.expect(name, "A", "10.10.0.1")
        for asker in askers:
            asker.start()
        for turn in range(2, 42):
            addresses = [f"10.10.0.{turn}", *(["fd00:5::1"] if turn % 2 else [])]
            more = [nic("red", f"10.20.0.{turn}")] if turn % 3 == 0 else []
            apiserver.apply(vmi("default", "desk", nic("blue", *addresses), *more))
            zoned.expect(names[1], "A", f"10.10.0.{turn}")
    finally:
        end(askers)
        zoned.kill()
    assert {asker.asked: dict(asker.bad) for asker in askers if asker.bad} == {}
    assert all(asker.good > 50 for asker in askers)
