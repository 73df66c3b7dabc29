"""The election of a writer on a real etcd: who leads, how it ends, and what etcd refuses afterwards."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from kube2etcd.errors import EtcdDeposed, EtcdUnavailable
from kube2etcd.etcd.changes import Put
from kube2etcd.etcd.client import EtcdSettings, connect
from kube2etcd.etcd.election import LEASE, Election
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


def test_one_leads_and_the_other_says_who(candidates: Callable[[str], Election]) -> None:
    first = candidates("first")
    leads(first)
    second = candidates("second")
    wait_for(lambda: "first writes" in second.standing_by(), "the second to know", 10)
    assert not first.standing_by()
    with pytest.raises(EtcdDeposed):
        second.guard()
    began = time.monotonic()
    first.stop()
    leads(second)
    assert time.monotonic() - began < LEASE, "the lease was given back"


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


def test_a_key_that_no_bridge_made_is_named(etcd: Etcd, candidates: Callable[[str], Election]) -> None:
    etcd.put(KEY.decode(), "me")
    only = candidates("only")
    wait_for(lambda: "delete it" in only.standing_by(), "what to do", 10)
    etcd.delete(KEY.decode())
    leads(only)


def test_a_user_without_rights_on_the_key_is_told_what_is_missing(etcd: Etcd) -> None:
    settings = EtcdSettings((etcd.url,), user="bridge", password_file=etcd.restrict("/skydns/"))
    changed = threading.Event()
    only = Election(connect(settings), KEY, "only", changed.set)
    try:
        only.start()
        wait_for(lambda: "--leader-elect needs" in only.standing_by(), "what is missing", 10)
        assert KEY.decode() in only.standing_by()
        assert changed.is_set()
        etcd.ctl("role", "grant-permission", "names", "readwrite", KEY.decode())
        leads(only, 15)
        # the tokens do not outlive the server
        etcd.restart()
        with connect(settings) as connection:
            store = EtcdStore(connection, [b"/skydns/"], election=only)
            not_yet = (EtcdDeposed, EtcdUnavailable)
            wait_for(lambda: store.apply(CHANGE).written, "it to write again", 10, not_yet=not_yet)
    finally:
        only.stop()
