"""Fencing on a real etcd: a deposed leader cannot write."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from kube2etcd.errors import EtcdDeposed
from kube2etcd.etcd.changes import Put
from kube2etcd.etcd.client import EtcdSettings, connect
from kube2etcd.etcd.election import Election
from kube2etcd.etcd.store import EtcdStore
from tests.stack.harness import Etcd, wait_for

KEY = b"/kube2etcd/leader/skydns/test"
CHANGE = [[(Put(b"/skydns/a", b"1"),)]]


@pytest.fixture
def candidates(etcd: Etcd) -> Iterator[Callable[[str], Election]]:
    made: list[Election] = []

    def candidate(name: str) -> Election:
        one = Election(connect(EtcdSettings((etcd.url,), timeout=2)), KEY, name, changed=lambda: None)
        made.append(one)
        one.start()
        return one

    yield candidate
    for one in made:
        one.stop()


def leads(one: Election, deadline_s: float = 10.0) -> None:
    wait_for(lambda: not one.standing_by(), "it to lead", deadline_s)


def test_etcd_refuses_what_a_former_leader_writes(
    etcd: Etcd, candidates: Callable[[str], Election], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = candidates("first")
    leads(first)
    stale = first.guard()
    with connect(EtcdSettings((etcd.url,))) as connection:
        store = EtcdStore(connection, [b"/skydns/"], election=first)
        assert store.apply(CHANGE).written == 1
        first.stop()
        second = candidates("second")
        leads(second)
        revision = etcd.revision()
        # as when it was paused between asking and writing
        monkeypatch.setattr(first, "guard", lambda: stale)
        with pytest.raises(EtcdDeposed):
            store.apply(CHANGE)
        with pytest.raises(EtcdDeposed):
            store.apply([[tuple(Put(b"/skydns/%d" % one, b"x") for one in range(300))]])
        assert etcd.revision() == revision


def test_etcd_refuses_what_a_former_leader_writes_after_it_lost_its_data(
    etcd: Etcd, candidates: Callable[[str], Election], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = candidates("first")
    leads(first)
    stale = first.guard()
    first.stop()
    etcd.wipe()
    second = candidates("second")
    leads(second)
    assert second.guard().create_revision == stale.create_revision, "revisions begin anew"
    monkeypatch.setattr(first, "guard", lambda: stale)
    with connect(EtcdSettings((etcd.url,))) as connection:
        # as when it was paused with its first transaction about to be sent
        with pytest.raises(EtcdDeposed):
            EtcdStore(connection, [b"/skydns/"], election=first).apply(CHANGE)
        assert etcd.dump("/skydns") == {}
        assert EtcdStore(connection, [b"/skydns/"], election=second).apply(CHANGE).written == 1


@pytest.mark.parametrize("loss", ["key", "data", "restart"])
def test_what_happens_to_etcd_is_got_over(
    loss: str, etcd: Etcd, candidates: Callable[[str], Election]
) -> None:
    only = candidates("only")
    leads(only)
    if loss == "key":
        etcd.delete(KEY.decode())
        wait_for(lambda: KEY.decode() in etcd.dump("/kube2etcd"), "the key to be back", 10)
    elif loss == "data":
        etcd.wipe()
    else:
        etcd.restart()
    with connect(EtcdSettings((etcd.url,))) as connection:
        store = EtcdStore(connection, [b"/skydns/"], election=only)
        wait_for(lambda: store.apply(CHANGE).written, "it to write again", 10, not_yet=(EtcdDeposed,))
