"""Following an etcd that refuses watches: its death or data loss is still noticed."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from kube2etcd.etcd.changes import Put
from kube2etcd.etcd.client import EtcdSettings, connect
from kube2etcd.etcd.store import EtcdStore
from kube2etcd.sync import follower as follower_module
from kube2etcd.sync.events import EtcdLost, Inbox
from kube2etcd.sync.follower import EtcdFollower
from tests.stack.harness import Etcd, wait_for

#: One watch goes over both and what is between them; rights go over each.
PREFIXES = [b"/a/", b"/c/"]
#: Seconds: no pause ends by itself while a test waits.
FOR_EVER = 10_000.0


class Longest(random.Random):
    """The longest of pauses from the first one on."""

    drawn = 0

    def uniform(self, a: float, b: float) -> float:
        self.drawn += 1
        return FOR_EVER


@pytest.mark.parametrize("end", [Etcd.kill, Etcd.wipe], ids=["dies", "wiped"])
def test_an_etcd_that_refuses_watches(
    end: Callable[[Etcd], None], etcd: Etcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower_module, "PAUSE_LIMIT", FOR_EVER)
    password = etcd.restrict(*(prefix.decode() for prefix in PREFIXES))
    settings = EtcdSettings((etcd.url,), user="bridge", password_file=password, timeout=2)
    inbox, chance = Inbox(), Longest()
    with connect(settings) as connection:
        store = EtcdStore(connection, PREFIXES)
        revision = store.snapshot().revision
        store.apply([[(Put(b"/a/1", b"1"),)]])
        follower = EtcdFollower(store, inbox, chance)
        follower.start()
        try:
            follower.follow(revision + 1)
            wait_for(lambda: chance.drawn, "the watch to be refused", 20)
            assert inbox.drain(0) == [], "and that is held back"
            end(etcd)
            (lost,) = wait_for(lambda: inbox.drain(0.1), "the loss to be told", 20)
            assert isinstance(lost, EtcdLost)
            assert "refuses the watch" not in lost.reason
        finally:
            follower.stop()
