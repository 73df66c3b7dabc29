"""Asks questions continuously, for names that must be served without a gap."""

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import dns.exception
import dns.rcode

from tests.stack.coredns import rdata_or_rcode
from tests.stack.harness import CoreDns, wait_for

#: Asks one question; returns what came instead of an answer, or nothing.
Ask = Callable[[], str]


def questions_to(server: CoreDns, *asked: tuple[str, str]) -> dict[str, Ask]:
    """Questions to CoreDNS, from names and types."""
    return {f"{name} {rdtype}": partial(_instead, server, name, rdtype) for name, rdtype in asked}


def _instead(server: CoreDns, name: str, rdtype: str) -> str:
    try:
        message = server.ask(name, rdtype)
    except dns.exception.DNSException as error:
        return type(error).__name__
    return "" if message.rcode() == dns.rcode.NOERROR and message.answer else rdata_or_rcode(message)[0]


def _count(ask: Ask, ended: threading.Event) -> Counter[str]:
    """Ask as fast as it can be; how often what came, with "" for an answer."""
    seen: Counter[str] = Counter()
    while not ended.is_set():
        seen[ask()] += 1
    return seen


@contextlib.contextmanager
def asked_all_the_time(questions: Mapping[str, Ask], at_least: int) -> Iterator[None]:
    """Within the block every name is asked for, more than ``at_least`` times, and answered each time."""
    for what, ask in questions.items():
        wait_for(lambda ask=ask: not ask(), f"{what} to be served", 10)  # type: ignore[misc]
    ended = threading.Event()
    with ThreadPoolExecutor(len(questions)) as pool:
        asking = {what: pool.submit(_count, ask, ended) for what, ask in questions.items()}
        try:
            yield
        finally:
            ended.set()
    counts = {what: one.result() for what, one in asking.items()}
    assert {what: dict(seen) for what, seen in counts.items() if seen.keys() != {""}} == {}
    assert all(seen[""] > at_least for seen in counts.values())
