"""Asks questions continuously, for names that must be served without a gap."""

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import dns.exception
import dns.rcode

from tests.stack.coredns import said
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
    return "" if message.rcode() == dns.rcode.NOERROR and message.answer else said(message)[0]


class _Asking(threading.Thread):
    """Asks as fast as it can, and counts what is no answer."""

    def __init__(self, ask: Ask, ended: threading.Event) -> None:
        super().__init__(daemon=True)
        self.ask, self.ended = ask, ended
        self.bad: Counter[str] = Counter()
        self.good = 0

    def run(self) -> None:
        while not self.ended.is_set():
            if instead := self.ask():
                self.bad[instead] += 1
            else:
                self.good += 1


@contextlib.contextmanager
def asked_all_the_time(questions: Mapping[str, Ask], at_least: int) -> Iterator[None]:
    """Within the block every name is asked for, more than ``at_least`` times, and answered each time."""
    for what, ask in questions.items():
        wait_for(lambda ask=ask: not ask(), f"{what} to be served", 10)  # type: ignore[misc]
    ended = threading.Event()
    askers = {what: _Asking(ask, ended) for what, ask in questions.items()}
    for asker in askers.values():
        asker.start()
    try:
        yield
    finally:
        ended.set()
        for asker in askers.values():
            asker.join(10)
    assert {what: dict(asker.bad) for what, asker in askers.items() if asker.bad} == {}
    assert all(asker.good > at_least for asker in askers.values())
