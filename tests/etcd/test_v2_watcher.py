"""Odd events and odd watches, as no real server tells them; tests/stack has all the rest."""

from __future__ import annotations

import json
import threading

import pytest

from kube2etcd.errors import EtcdError, EtcdUnauthenticated, EtcdUnavailable
from kube2etcd.etcd import v2_watcher
from kube2etcd.etcd.changes import WatchBatch
from kube2etcd.etcd.settings import EtcdSettings
from kube2etcd.etcd.v2 import V2Store
from kube2etcd.etcd.v2_http import V2Connection
from kube2etcd.etcd.v2_nodes import Tree
from tests.etcd.v2_server import Server, Told, file


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (
            b'{"errorCode":400,"message":"watcher is cleared due to etcd recovery","index":11}\n',
            "watch again",
        ),
        (b"junk\n", "the answer is not etcd's"),
        (b'{"action":"get"}\n', "refuses the request"),
        (b'{"action":"expire","node":{"key":"/skydns/a","dir":true,"modifiedIndex":11}}\n', "was removed"),
    ],
)
def test_odd_events(server: Server, store: V2Store, lines: bytes, error: str) -> None:
    server.answer = lambda *_: (200, lines)
    with pytest.raises(EtcdError, match=error):
        list(store.watch(11, threading.Event()))


def test_a_watch_that_fails_in_an_unforeseen_way_is_no_quiet_one(server: Server, store: V2Store) -> None:
    removed = {"action": "delete", "node": {"key": "/skydns/a", "dir": True, "modifiedIndex": 11}}
    server.answer = lambda *_: (200, json.dumps(removed).encode() + b"\n")

    def own(_directory: str, _index: int) -> bool:
        raise KeyError("a fault of ours")

    stop = threading.Event()
    connection = V2Connection(EtcdSettings((server.url,)))
    threading.Timer(10, stop.set).start()
    with connection, pytest.raises(EtcdUnavailable, match="the watch on etcd failed"):
        list(v2_watcher.watch(connection, Tree("/skydns"), 11, stop, own))


def test_events_that_are_known_are_not_told_again(server: Server, store: V2Store) -> None:
    stop = threading.Event()
    old, new = (json.dumps(file("/skydns/a", index)).encode() for index in (9, 12))
    server.index = 12
    server.answer = lambda *_: (200, b"\n" + old + b"\n" + new + b"\n")
    told: list[WatchBatch] = []
    for one in store.watch(11, stop):
        told.append(one)
        if len(told) == 3:
            stop.set()
    assert [(one.revision, len(one.events)) for one in told] == [(10, 0), (12, 1), (12, 0)]
    assert {params["waitIndex"] for _, _, params in server.asked[:2]} == {"11", "13"}


def test_a_watch_that_is_refused(server: Server, store: V2Store) -> None:
    server.answer = lambda *_: (401, {"message": "Insufficient credentials"})
    with pytest.raises(EtcdUnauthenticated):
        list(store.watch(1, threading.Event()))


def test_what_etcd_has_forgotten_is_not_asked_for_again(server: Server) -> None:
    """Index 11 was passed over; when it is to be looked at, etcd's thousand events begin behind it."""

    def answer(_: str, __: str, params: dict[str, str]) -> Told:
        server.index = 10 if len(server.asked) == 1 else 12
        if params["waitIndex"] == "11" and len(server.asked) > 1:
            return 400, {"errorCode": 401, "message": "The event in requested index is outdated"}
        return 200, json.dumps(file("/skydns/a", 12)).encode() + b"\n" if len(server.asked) == 1 else b""

    server.answer = answer
    stop = threading.Event()
    late = threading.Timer(20, stop.set)
    late.start()
    starts: list[str] = []
    with V2Connection(EtcdSettings((server.url,), timeout=0.2)) as connection:
        for _ in v2_watcher.watch(connection, Tree("/skydns"), 11, stop, lambda *_: False):
            starts = [params["waitIndex"] for _, _, params in server.asked]
            if "11" in starts[1:] and starts[-1] == "13":
                stop.set()
    late.cancel()
    assert starts[0] == "11"
    assert starts[1:].count("11") == 1
    assert starts[-1] == "13"
