"""Timing that a real etcd cannot be made to show; the rest is in tests/stack."""

from __future__ import annotations

from typing import Any, cast

import pytest

from kube2etcd.errors import EtcdSilent, EtcdUnavailable
from kube2etcd.etcd.client import EtcdConnection
from kube2etcd.etcd.settings import EtcdSettings
from kube2etcd.etcd.store import EtcdStore
from kube2etcd.etcd.wire import Message, rpc


class SlowLine:
    """An etcd behind a line that carries so many keys within the timeout, of all requests together."""

    def __init__(self, keys: list[bytes], carries: int) -> None:
        self.settings = EtcdSettings()
        self.endpoints = self.settings.endpoints()
        self.keys, self.carries = keys, carries
        self.under_way = 0

    def start(self, method: str, request: Message) -> SlowLine.Answer:
        found = [key for key in self.keys if request.key <= key < request.range_end]
        answer = rpc.RangeResponse(more=len(found) > request.limit)
        answer.header.revision = 7
        for key in found[: request.limit]:
            answer.kvs.add(key=key, value=b"1")
        self.under_way += len(answer.kvs)
        return SlowLine.Answer(self, answer, self.under_way > self.carries)

    class Answer:
        def __init__(self, line: SlowLine, answer: Message, late: bool) -> None:
            self.line, self.answer, self.late = line, answer, late

        def result(self) -> Any:
            self.line.under_way -= len(self.answer.kvs)
            if self.late:
                raise EtcdSilent("late")
            return self.answer


def test_a_slow_line_is_read_in_the_end() -> None:
    keys = [b"/s/%06d" % number for number in range(20_000)]
    line = SlowLine(keys, 1500)
    store = EtcdStore(cast(EtcdConnection, line), [b"/s/"])
    for _ in range(2):
        with pytest.raises(EtcdSilent):
            store.snapshot()
        line.under_way = 0
    assert store.snapshot().entries == dict.fromkeys(keys, b"1")


class Going:
    """An etcd with nothing but a revision, which may go back."""

    settings = EtcdSettings()
    endpoints = settings.endpoints()
    revision = 7

    def call(self, method: str, request: Message) -> Any:
        answer = rpc.RangeResponse()
        answer.header.revision = self.revision
        return answer

    def start(self, method: str, request: Message) -> Going:
        return self

    def result(self) -> Any:
        return self.call("Range", rpc.RangeRequest())


def test_a_look_at_etcd_notices_that_it_went_back() -> None:
    etcd = Going()
    store = EtcdStore(cast(EtcdConnection, etcd), [b"/s/"])
    store.probe()  # nothing is known yet
    store.snapshot()
    store.probe()
    etcd.revision = 8
    store.probe()
    etcd.revision = 6
    with pytest.raises(EtcdUnavailable, match="went back from 7 to 6"):
        store.probe()
