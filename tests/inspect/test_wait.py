"""`wait`: which replies satisfy it, and how long it retries."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import dns.message
import dns.rcode
import dns.resolver
import dns.rrset
import pytest
from click.testing import CliRunner

from kube2etcd.cli import main
from kube2etcd.errors import SettingsError
from kube2etcd.inspect import wait as module
from kube2etcd.inspect.wait import PAUSE, ServerReply, ask, canonical, resolv_conf, wait
from kube2etcd.settings import HostPort
from skydns_compat.names import Name
from tests.stack.process import free_port

SRV = ServerReply("NOERROR", ("0 50 80 web.shop.svc.cluster.local.",))
A = ServerReply("NOERROR", ("10.0.0.1", "10.0.0.2"))
NODATA, NXDOMAIN, SERVFAIL = ServerReply("NOERROR"), ServerReply("NXDOMAIN"), ServerReply("SERVFAIL")
NO_ANSWER = ServerReply("", trouble="no answer")


@pytest.mark.parametrize(
    ("reply", "text", "satisfied", "not_satisfied"),
    [
        (A, "10.0.0.1, 10.0.0.2", ["present", "10.0.0.2"], ["absent", "10.0.0.3"]),
        (SRV, SRV.data[0], ["0 50 80 WEB.shop.svc.cluster.local"], []),
        (NODATA, "NODATA", ["absent"], ["present"]),
        (NXDOMAIN, "NXDOMAIN", ["absent"], []),
        (SERVFAIL, "SERVFAIL", [], ["absent"]),
        (NO_ANSWER, "no answer", [], ["absent"]),
    ],
)
def test_values_that_a_reply_satisfies(
    reply: ServerReply, text: str, satisfied: list[str], not_satisfied: list[str]
) -> None:
    assert str(reply) == text
    assert all(map(reply.satisfies, satisfied))
    assert not any(map(reply.satisfies, not_satisfied))


@pytest.mark.parametrize(
    ("replies", "timeout", "satisfied", "slept"),
    [
        ([NXDOMAIN, NO_ANSWER, A], 60, True, [PAUSE, PAUSE]),
        ([NXDOMAIN, NXDOMAIN, NODATA], PAUSE + 0.25, False, [PAUSE, 0.25]),
        ([NODATA], 0, False, []),
    ],
    ids=["until satisfied", "last query at the deadline", "one query without a timeout"],
)
def test_retries(replies: list[ServerReply], timeout: float, satisfied: bool, slept: list[float]) -> None:
    queries, pauses = iter(replies), list[float]()
    found = wait(lambda: next(queries), "present", timeout, clock=lambda: sum(pauses), sleep=pauses.append)
    assert (found, pauses) == ((satisfied, replies[-1]), slept)


@pytest.mark.parametrize(
    ("value", "rtype", "form"),
    [
        ("present", "A", "present"),
        ("absent", "TXT", "absent"),
        ("fd00:0010::0001", "AAAA", "fd00:10::1"),
        ('"v=spf1 -all"', "TXT", '"v=spf1 -all"'),
        ("0 50 080 web.shop.", "SRV", "0 50 80 web.shop."),
        ("nonsense", "A", "nonsense"),
    ],
)
def test_canonical_values(value: str, rtype: str, form: str) -> None:
    assert canonical(value, rtype) == form


@pytest.mark.parametrize(
    ("rtype", "records", "data"),
    [
        ("A", ["lb.example. A 10.0.0.1", "web.example. CNAME lb.example."], ("10.0.0.1",)),
        ("A", ["web.example. A 10.0.0.1", "web.example. A 10.0.0.2"], ("10.0.0.1", "10.0.0.2")),
        ("A", ["WEB.example. A 10.0.0.1"], ("10.0.0.1",)),
        ("A", ["evil.example. A 10.66.6.6"], ()),
        ("A", ["web.example. CNAME lb.example.", "lb.example. CNAME web.example."], ()),
        ("SOA", ["example. SOA ns.a. host.a. 1 2 3 4 5"], ("ns.a. host.a. 1 2 3 4 5",)),
        ("SOA", ["other. SOA ns.a. host.a. 1 2 3 4 5"], ()),
        ("ANY", ['web.example. HINFO "a" "b"'], ('"a" "b"',)),
    ],
    ids=["CNAME last", "two", "upper case", "other owner", "CNAME loop", "apex", "other apex", "ANY"],
)
def test_data_of_the_name_or_its_cname_target(rtype: str, records: list[str], data: tuple[str, ...]) -> None:
    def answer(response: dns.message.Message) -> None:
        for name, kind, rest in (one.split(" ", 2) for one in records):
            response.answer.append(dns.rrset.from_text(name, 5, "IN", kind, rest))

    found = reply_to(answer, rtype)
    assert (found.rcode, found.data) == ("NOERROR", data)
    expected = [one.replace(" ", " 5 in ", 1).lower() for one in records]
    assert [one.lower() for one in found.records] == expected


def test_error_without_a_question() -> None:
    def refuse(response: dns.message.Message) -> None:
        response.set_rcode(dns.rcode.REFUSED)
        response.question = []

    assert reply_to(refuse) == ServerReply("REFUSED")


def reply_to(answer: Callable[[dns.message.Message], object], rtype: str = "A") -> ServerReply:
    """The reply of `ask` to a response that ``answer`` fills in."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, ThreadPoolExecutor(1) as thread:
        server.bind(("127.0.0.1", 0))
        server.settimeout(20)
        address = HostPort("127.0.0.1", server.getsockname()[1])
        found = thread.submit(ask, Name.parse("web.example"), rtype, address)
        wire, client = server.recvfrom(4096)
        response = dns.message.make_response(dns.message.from_wire(wire))
        answer(response)
        server.sendto(response.to_wire(), client)
        return found.result()


def test_unreachable_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    server = HostPort("127.0.0.1", free_port())
    answer = ask(Name.parse("web.example"), "A", server)
    assert answer.rcode == ""
    assert str(answer).startswith(f"no answer from {server}: ")


def test_server_from_resolv_conf(monkeypatch: pytest.MonkeyPatch) -> None:
    class Resolver:
        nameservers = ("192.0.2.53", "192.0.2.54")

    monkeypatch.setattr(dns.resolver, "Resolver", Resolver)
    assert resolv_conf() == HostPort("192.0.2.53", 53)

    def none() -> None:
        raise dns.resolver.NoResolverConfiguration

    monkeypatch.setattr(dns.resolver, "Resolver", none)
    with pytest.raises(SettingsError, match=r"write --server IP\[:PORT\]"):
        resolv_conf()


def test_command_shows_the_reply_and_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    queries: list[tuple[str, str]] = []

    def answer(name: Name, rtype: str, server: HostPort) -> ServerReply:
        queries.append((str(name), rtype))
        return A if rtype == "PTR" else NXDOMAIN

    monkeypatch.setattr(module, "ask", answer)
    server = ["--server", "127.0.0.1", "--timeout", "0"]
    result = CliRunner().invoke(main, ["wait", "web.shop", *server])
    assert (result.exit_code, result.stdout) == (1, "web.shop. NXDOMAIN\n")
    assert "not present at 127.0.0.1:53 after 0 s; kube2etcd explain web.shop A says why" in result.stderr
    assert CliRunner().invoke(main, ["wait", "10.0.0.1", *server]).exit_code == 0
    assert queries == [("web.shop", "A"), ("1.0.0.10.in-addr.arpa", "PTR")]
