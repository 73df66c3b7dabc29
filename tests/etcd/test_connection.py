"""What cannot be timed with a real server; tests/stack has all the rest."""

from __future__ import annotations

import pytest

from kube2etcd.errors import EtcdUnavailable
from kube2etcd.etcd import channel
from kube2etcd.etcd import connection as module
from kube2etcd.etcd.connection import EtcdConnection
from kube2etcd.etcd.settings import Endpoint, EtcdSettings
from kube2etcd.etcd.wire import rpc


def test_a_channel_that_is_made_while_the_connection_is_closed_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise a bridge that is stopped at this moment would wait for a silent server."""
    connection = EtcdConnection(EtcdSettings(("http://127.0.0.1:1",), timeout=30))
    made: list[Session] = []

    class Session(channel.Session):
        closed = False

        def __init__(self, endpoint: Endpoint, settings: EtcdSettings) -> None:
            super().__init__(endpoint, settings)
            made.append(self)
            connection.close()
            close = self.client.close

            def closing() -> None:
                self.closed = True
                close()

            monkeypatch.setattr(self.client, "close", closing)

    monkeypatch.setattr(module, "Session", Session)
    with pytest.raises(EtcdUnavailable, match="is closed"):
        connection.start("Range", rpc.RangeRequest(key=b"a"))
    assert [one.closed for one in made] == [True]
