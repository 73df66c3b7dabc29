import contextlib
import socket
from collections.abc import Callable, Iterator

import pytest
import requests

from kube2etcd.errors import SettingsError
from kube2etcd.http.server import CONNECTIONS, LIVE_WITHIN, Server, probe_server
from kube2etcd.metrics import Metrics, Status, StatusSnapshot
from kube2etcd.settings import HostPort


class FixedStatus(Status):
    """Its snapshot is ``now``."""

    def __init__(self) -> None:
        super().__init__()
        self.now = StatusSnapshot(True, (), 0.5)

    def snapshot(self) -> StatusSnapshot:
        return self.now


@pytest.fixture
def status() -> FixedStatus:
    return FixedStatus()


@pytest.fixture
def server(status: FixedStatus) -> Iterator[Server]:
    server = probe_server(HostPort("127.0.0.1", 0), status, Metrics(), "cluster.local").start()
    yield server
    server.stop()


def send(server: Server, path: str, method: str = "GET") -> tuple[int, str]:
    with requests.Session() as session:
        session.trust_env = False
        answer = session.request(method, f"http://127.0.0.1:{server.port}{path}", timeout=5)
        return answer.status_code, answer.text


STALE = StatusSnapshot(True, ("3 foreign keys",), 1.0, {"services": 61.0})
STARTING = StatusSnapshot(False, ("services not listed yet", "etcd cannot be reached"), 1.0)
DEAD = StatusSnapshot(False, (), 1.0, dead=("etcd-watch",))
STUCK = StatusSnapshot(True, (), LIVE_WITHIN + 1)

ANSWERS = [
    ("/livez", StatusSnapshot(True, (), 0.0), 200, "ok"),
    ("/healthz", StatusSnapshot(True, (), 0.0), 200, "ok"),
    ("/livez", STARTING, 200, "ok"),
    ("/livez", STUCK, 503, "has not turned for 121 s"),
    ("/healthz", STUCK, 503, "has not turned"),
    ("/readyz", StatusSnapshot(True, (), 0.0), 200, "ok"),
    ("/readiness", StatusSnapshot(True, (), 0.0), 200, "ok"),
    ("/readyz", STALE, 200, "services stale for 61 s"),
    ("/livez", DEAD, 503, "thread etcd-watch died"),
    ("/readyz", DEAD, 503, "not ready"),
    ("/readyz", STARTING, 503, "services not listed yet\netcd cannot be reached"),
    ("/readyz", StatusSnapshot(False, (), 0.0), 503, "not ready"),
    ("/", STALE, 200, "ready: yes\n  3 foreign keys"),
    ("/", STARTING, 200, "cluster.local\nready: no"),
    ("/metrics", STALE, 200, "kube2etcd_writes_total"),
    ("/etc/passwd", STALE, 404, "/readyz"),
]


@pytest.mark.parametrize(("path", "now", "code", "text"), ANSWERS)
def test_answers(
    server: Server, status: FixedStatus, path: str, now: StatusSnapshot, code: int, text: str
) -> None:
    status.now = now
    got, body = send(server, path)
    assert got == code
    assert text in body


def test_only_get_and_head_are_allowed(server: Server) -> None:
    assert send(server, "/readyz", "POST")[0] == 405
    assert send(server, "/readyz", "HEAD") == (200, "")


def test_port_in_use(status: FixedStatus) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match="another program listens there"):
            probe_server(HostPort("127.0.0.1", port), status, Metrics())


@pytest.mark.parametrize(
    ("host", "hint"), [("192.0.2.1", "no address 192.0.2.1"), ("no.such.host.invalid", "is not known")]
)
def test_host_of_another_machine(status: FixedStatus, host: str, hint: str) -> None:
    with pytest.raises(SettingsError, match=hint):
        probe_server(HostPort(host, 1), status, Metrics())


def test_empty_host_listens_on_every_address(status: FixedStatus) -> None:
    server = probe_server(HostPort("", 0), status, Metrics()).start()
    try:
        assert send(server, "/livez") == (200, "ok\n")
    finally:
        server.stop()


def test_server_that_was_not_started_can_be_stopped(status: FixedStatus) -> None:
    probe_server(HostPort("127.0.0.1", 0), status, Metrics()).stop()


def test_stop_does_not_wait_for_idle_connections(status: FixedStatus) -> None:
    server = probe_server(HostPort("127.0.0.1", 0), status, Metrics()).start()
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as idle:
        idle.sendall(b"GET /livez HTTP/1.1\r\n\r\n")
        assert idle.recv(100).startswith(b"HTTP/1.1 200")
        server.stop()
        assert not server.thread.is_alive()
        assert b"" in iter(lambda: idle.recv(1000), None)


def test_stop_while_the_thread_is_awake_already(status: FixedStatus, monkeypatch: pytest.MonkeyPatch) -> None:
    server = probe_server(HostPort("127.0.0.1", 0), status, Metrics()).start()
    trigger = server.waitress.trigger
    pull = trigger._physical_pull

    def pull_after_an_earlier_wake_up() -> None:
        """A worker that has just answered woke the thread, which handles this wake-up at the same time."""
        pull()
        server.thread.join(20)
        pull()

    monkeypatch.setattr(trigger, "_physical_pull", pull_after_an_earlier_wake_up)
    server.stop()
    assert not server.thread.is_alive()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=5)


def silent(_: socket.socket) -> None:
    """Sends nothing."""


def slow(client: socket.socket) -> None:
    client.sendall(b"GET /livez HTTP/1.1\r\nX-Drip: ")


def not_reading(client: socket.socket) -> None:
    """Requests metrics and does not read them."""
    client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")


@pytest.mark.parametrize("behave", [silent, slow, not_reading])
@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_idle_clients_do_not_starve_probes(
    server: Server, behave: Callable[[socket.socket], None], path: str
) -> None:
    with contextlib.ExitStack() as clients:
        for _ in range(2 * CONNECTIONS + 20):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=5))
            with contextlib.suppress(OSError):  # the server may have closed it already
                behave(client)
        for _ in range(3):
            assert send(server, path)[0] == 200
        with contextlib.suppress(OSError):
            behave(client)


ENDLESS = {"body": b"POST / HTTP/1.1\r\nContent-Length: 9999999999\r\n\r\n", "head": b"GET / HTTP/1.1\r\nX: "}


@pytest.mark.parametrize("begin", ENDLESS.values(), ids=ENDLESS)
def test_endless_request_is_refused(server: Server, begin: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        sent = 0
        with contextlib.suppress(OSError):
            client.sendall(begin)
            while sent < 64 * 1024 * 1024:
                client.sendall(b"x" * 65536)
                sent += 65536
        assert sent < 32 * 1024 * 1024, "the server read it all"
