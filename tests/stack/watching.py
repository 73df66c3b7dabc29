"""An etcd watch in a thread; a recorder of a connection's requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from kube2etcd.errors import EtcdError
from kube2etcd.etcd.changes import WatchBatch, WatchEvent
from kube2etcd.etcd.client import EtcdConnection, Pending
from kube2etcd.etcd.store import EtcdStore
from kube2etcd.etcd.v2 import V2Store
from tests.stack.process import wait_for


def record_requests(
    connection: EtcdConnection,
    monkeypatch: pytest.MonkeyPatch,
    before: Callable[[int], object] = lambda number: None,
) -> list[str]:
    """The methods of all requests from now on; ``before`` is called with each one's number, from 1."""
    asked: list[str] = []
    start = connection.start

    def start_and_note(method: str, request: object) -> Pending:
        asked.append(method)
        before(len(asked))
        return start(method, request)

    monkeypatch.setattr(connection, "start", start_and_note)
    return asked


class Watching:
    """Collects the batches of a watch until it ends or fails."""

    def __init__(self, store: EtcdStore | V2Store, start: int) -> None:
        self.batches: list[WatchBatch] = []
        self.error: EtcdError | None = None
        self.stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(store, start), daemon=True)
        self._thread.start()

    def _run(self, store: EtcdStore | V2Store, start: int) -> None:
        try:
            for batch in store.watch(start, self.stop):
                self.batches.append(batch)
        except EtcdError as error:
            self.error = error

    @property
    def events(self) -> list[WatchEvent]:
        return [event for batch in list(self.batches) for event in batch.events]

    @property
    def pairs(self) -> list[tuple[str, bytes | None]]:
        """Key and value of each event so far."""
        return [(event.key.decode(), event.value) for event in self.events]

    def standing(self) -> Watching:
        """Wait until the watch is established or fails."""
        wait_for(lambda: self.batches or self.error, "the watch to be established")
        return self

    def end(self) -> float:
        began = time.monotonic()
        self.stop.set()
        self._thread.join(10)
        assert not self._thread.is_alive()
        return time.monotonic() - began

    def failed(self, deadline_s: float = 10.0) -> EtcdError:
        return wait_for(lambda: self.error, "the watch to fail", deadline_s)
