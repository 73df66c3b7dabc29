"""Credentials, timeouts, aborts and sentences, against a scripted server on a loopback socket."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from urllib3.exceptions import ConnectTimeoutError

from kube2etcd.cluster import credentials, stream
from kube2etcd.cluster.abort import Abort
from kube2etcd.cluster.connection import ApiConnection, connect
from kube2etcd.cluster.credentials import ClusterSettings
from kube2etcd.cluster.failures import ApiRefused, ApiSilent, explain_failure
from kube2etcd.errors import (
    ApiError,
    ApiForbidden,
    ApiGone,
    ApiNotFound,
    ApiTooMany,
    ApiTruncated,
    ApiUnavailable,
    SettingsError,
)

Answer = Callable[["Handler"], None]

SECRET = "s3cr3t-t0ken"


class Handler(BaseHTTPRequestHandler):
    """Plays the server's next answer; the last one is repeated."""

    protocol_version = "HTTP/1.1"
    server: Scripted

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.seen.append((self.path, dict(self.headers)))
            answers = self.server.answers
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
        answer(self)

    def log_message(self, *args: object) -> None:
        pass

    def begin(self, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()


class Scripted(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.answers: list[Answer] = [whole(b"{}")]
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.released = threading.Event()
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def tokens(self) -> list[str | None]:
        return [headers.get("Authorization") for _, headers in self.seen]

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that hung up is what many of these tests are about

    def end(self) -> None:
        self.released.set()
        self.shutdown()
        self.server_close()
        self.thread.join()


def whole(body: bytes, status: int = 200, **headers: str) -> Answer:
    def answer(handler: Handler) -> None:
        handler.begin(status, Content_Length=str(len(body)), **headers)
        handler.wfile.write(body)

    return answer


def status(code: int, message: str = "said the server", **headers: str) -> Answer:
    return whole(json.dumps({"kind": "Status", "code": code, "message": message}).encode(), code, **headers)


def chunks(*parts: bytes | None, end: bool = True) -> Answer:
    """A chunked answer; ``None`` hangs there until the test is over."""

    def answer(handler: Handler) -> None:
        handler.begin(Transfer_Encoding="chunked")
        handler.wfile.flush()
        for part in parts:
            if part is None:
                handler.server.released.wait(20)
            else:
                handler.chunk(part)
        if end:
            handler.wfile.write(b"0\r\n\r\n")
        handler.close_connection = True

    return answer


def hang(handler: Handler) -> None:
    handler.server.released.wait(20)


@pytest.fixture
def server() -> Iterator[Scripted]:
    made = Scripted()
    yield made
    made.end()


@pytest.fixture(autouse=True)
def _no_cluster_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(credentials, "SERVICE_ACCOUNT", tmp_path / "serviceaccount")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))


@pytest.fixture
def opened() -> Iterator[Callable[..., ApiConnection]]:
    made: list[ApiConnection] = []

    def open_one(**settings: Any) -> ApiConnection:
        made.append(connect(ClusterSettings(**settings)))
        return made[-1]

    yield open_one
    for one in made:
        one.close()


Opened = Callable[..., ApiConnection]


@pytest.fixture
def api(server: Scripted, opened: Opened) -> ApiConnection:
    return opened(master_url=server.url)


def get(api: ApiConnection, path: str = "/api/v1/services", timeout: float = 5, **params: str) -> bytes:
    return api.get(path, params, timeout=timeout).body


def lines(api: ApiConnection, read_timeout: float = 5) -> list[bytes]:
    with api.stream("/api/v1/services", {"watch": "true"}, connect_timeout=5, read_timeout=read_timeout) as s:
        return list(s)


def kubeconfig(path: Path, server: str, user: Any = None, **cluster: Any) -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [
            {"name": "main", "context": {"cluster": "c", "user": "u"}},
            {"name": "other", "context": {"cluster": "c", "user": "nobody"}},
        ],
        "current-context": "main",
    }
    path.write_text(yaml.safe_dump(config))
    return path


# --- answers ---


def test_get(server: Scripted, api: ApiConnection) -> None:
    server.answers = [whole(b'{"a":1}')]
    response = api.get("/api/v1/services", {"limit": "500", "labelSelector": "a=b,c"}, timeout=5)
    assert (response.status, response.body) == (200, b'{"a":1}')
    path, headers = server.seen[0]
    assert path == "/api/v1/services?limit=500&labelSelector=a%3Db%2Cc"
    assert headers["Accept"] == "application/json"
    assert headers["User-Agent"].startswith("kube2etcd/")
    assert "Authorization" not in headers


def test_a_large_chunked_body_is_read_whole(server: Scripted, api: ApiConnection) -> None:
    server.answers = [chunks(*[b"x" * 100_000] * 20)]
    assert len(get(api)) == 2_000_000


def test_connections_are_used_again(server: Scripted, api: ApiConnection) -> None:
    ports = set()

    def answer(handler: Handler) -> None:
        ports.add(handler.client_address)
        whole(b"{}")(handler)

    server.answers = [answer]
    for _ in range(5):
        get(api)
    assert len(ports) == 1


def drop(handler: Handler) -> None:
    """Close the connection instead of an answer."""
    handler.close_connection = True


@pytest.mark.parametrize("with_abort", [False, True], ids=["plain", "with abort"])
def test_an_idle_connection_that_the_server_closes_as_we_take_it_up(
    server: Scripted, api: ApiConnection, with_abort: bool
) -> None:
    abort = Abort() if with_abort else None
    server.answers = [whole(b"{}"), drop, whole(b"again")]
    api.get("/x", {}, timeout=5, abort=abort)
    assert api.get("/x", {}, timeout=5, abort=abort).body == b"again"


def test_a_fresh_connection_that_the_server_closes_is_a_failure(server: Scripted, api: ApiConnection) -> None:
    server.answers = [drop]
    with pytest.raises(ApiUnavailable, match="broke"):
        get(api)
    assert len(server.seen) == 1


def test_a_path_in_the_servers_url_is_kept(server: Scripted, opened: Opened) -> None:
    get(opened(master_url=server.url + "/k8s/clusters/c-1/"))
    assert server.seen[0][0] == "/k8s/clusters/c-1/api/v1/services"


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (status(401), ApiForbidden, "no credentials"),
        (status(403), ApiForbidden, "forbids us to list services (403: said the server); grant"),
        (status(404), ApiNotFound, "not installed"),
        (status(410), ApiGone, "410: said the server"),
        (status(429, Retry_After="7"), ApiTooMany, "wait"),
        (status(503, Retry_After="7"), ApiTooMany, "wait"),
        (status(500), ApiUnavailable, "500: said the server"),
        (status(504), ApiUnavailable, "504"),
        (status(400), ApiRefused, "400: said the server"),
        (status(422), ApiRefused, "422"),
        (whole(b"", 302, Location="https://elsewhere"), ApiUnavailable, "redirects"),
        (whole(b"<html>nginx</html>", 502), ApiUnavailable, "(502)"),
        (whole(b"plain words\nof two lines", 500), ApiUnavailable, "500: plain words of two lines"),
        (whole(b'{"message": null}', 500), ApiUnavailable, "(500)"),
        (whole(b"\xff" * 5000, 500), ApiUnavailable, "…"),
    ],
)
def test_statuses(
    server: Scripted, api: ApiConnection, answer: Answer, error: type[ApiError], words: str
) -> None:
    server.answers = [answer]
    with pytest.raises(ApiError) as caught:
        get(api)
    assert type(caught.value) is error
    assert words in str(caught.value)
    assert server.url in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700
    with pytest.raises(error):
        lines(api)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("3", 3.0), ("0", 0.0), ("-5", 0.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 1.0), (None, 1.0)],
)
def test_retry_after(server: Scripted, api: ApiConnection, header: str | None, seconds: float) -> None:
    server.answers = [status(429, **({"Retry_After": header} if header else {}))]
    with pytest.raises(ApiTooMany) as caught:
        get(api)
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize(
    ("path", "params", "words"),
    [
        ("/api/v1/namespaces", {}, "list namespaces ("),
        ("/api/v1/pods", {"watch": "true"}, "watch pods ("),
        ("/apis/kubevirt.io/v1/namespaces/demo/vmis", {}, "list vmis.kubevirt.io in namespace demo ("),
        ("/version", {}, "get /version ("),
        ("/api", {}, "get /api ("),
    ],
)
def test_messages_name_verb_and_resource(
    server: Scripted, api: ApiConnection, path: str, params: dict[str, str], words: str
) -> None:
    server.answers = [status(403)]
    with pytest.raises(ApiForbidden) as caught:
        api.get(path, params, timeout=5)
    assert words in str(caught.value)


def test_a_server_that_echoes_the_token_does_not_bring_it_into_a_message(
    server: Scripted, opened: Opened, tmp_path: Path
) -> None:
    api = opened(kubeconfig=kubeconfig(tmp_path / "kc", server.url, {"token": SECRET}))
    server.answers = [status(403, f"bearer {SECRET} is not enough")]
    with pytest.raises(ApiForbidden) as caught:
        get(api)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(api._session.access)


# --- bodies and streams that break ---


@pytest.mark.parametrize("kind", ["length", "chunked"])
def test_a_body_cut_short(server: Scripted, api: ApiConnection, kind: str) -> None:
    def short(handler: Handler) -> None:
        handler.begin(Content_Length="100")
        handler.wfile.write(b"{")
        handler.close_connection = True

    server.answers = [short if kind == "length" else chunks(b'{"a":', end=False)]
    with pytest.raises(ApiTruncated):
        get(api)


def test_a_body_that_dribbles_is_given_up_after_the_whole_timeout(
    server: Scripted, api: ApiConnection
) -> None:
    def dribble(handler: Handler) -> None:
        handler.begin(Transfer_Encoding="chunked")
        while not handler.server.released.wait(0.02):
            handler.chunk(b" ")

    server.answers = [dribble]
    with pytest.raises(ApiUnavailable, match="not complete"):
        get(api, timeout=0.2)


def test_a_server_that_does_not_answer(server: Scripted, api: ApiConnection) -> None:
    server.answers = [hang]
    with pytest.raises(ApiUnavailable, match=r"nothing came .* for 0\.1 s"):
        get(api, timeout=0.1)


def test_lines_arrive_one_by_one_and_whole(server: Scripted, api: ApiConnection) -> None:
    server.answers = [chunks(b'{"a":1}\n{"b"', b":2", b"}\n", b"\n{}\n" + b"x" * 300_000 + b"\n")]
    assert lines(api) == [b'{"a":1}', b'{"b":2}', b"{}", b"x" * 300_000]


def test_a_line_is_delivered_while_the_stream_stays_open(server: Scripted, api: ApiConnection) -> None:
    server.answers = [chunks(b"first\n", None)]
    with api.stream("/w", {}, connect_timeout=5, read_timeout=5) as stream:
        assert stream.status == 200
        assert stream.headers["Transfer-Encoding"] == "chunked"
        began = time.monotonic()
        assert next(iter(stream)) == b"first"
        assert time.monotonic() - began < 2


def test_a_line_without_end_is_truncated(server: Scripted, api: ApiConnection) -> None:
    server.answers = [chunks(b"one\ntw")]
    got = []
    with api.stream("/w", {}, connect_timeout=5, read_timeout=5) as stream:
        iterator = iter(stream)
        got.append(next(iterator))
        with pytest.raises(ApiTruncated, match="2 bytes"):
            next(iterator)
    assert got == [b"one"]


def test_a_line_that_never_ends_is_given_up(
    server: Scripted, api: ApiConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "MAX_LINE", 1000)
    server.answers = [chunks(*[b"x" * 400] * 5, None)]
    with pytest.raises(ApiTruncated, match="no end"):
        lines(api)


def test_a_stream_that_breaks(server: Scripted, api: ApiConnection) -> None:
    server.answers = [chunks(b"one\n", end=False)]
    with pytest.raises(ApiUnavailable, match="broke"):
        lines(api)


def test_a_stream_that_falls_silent(server: Scripted, api: ApiConnection) -> None:
    server.answers = [chunks(b"one\n", None)]
    with pytest.raises(ApiSilent, match=r"0\.1 s"):
        lines(api, read_timeout=0.1)


def test_an_opening_that_takes_too_long_is_no_silence(server: Scripted, api: ApiConnection) -> None:
    server.answers = [hang]
    with (
        pytest.raises(ApiUnavailable) as caught,
        api.stream("/w", {}, connect_timeout=0.1, read_timeout=60),
    ):
        pass
    assert not isinstance(caught.value, ApiSilent)


# --- aborts ---


@pytest.mark.parametrize("answer", [hang, chunks(b"one\n", None)], ids=["headers", "body"])
@pytest.mark.parametrize("verb", ["get", "stream"])
def test_abort_ends_a_request_at_once(
    server: Scripted, api: ApiConnection, answer: Answer, verb: str
) -> None:
    server.answers = [answer]
    abort = Abort()
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            if verb == "get":
                api.get("/x", {}, timeout=20, abort=abort)
            else:
                with api.stream("/x", {}, connect_timeout=20, read_timeout=20, abort=abort) as stream:
                    list(stream)
        except ApiError as error:
            raised.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.seen and time.monotonic() < deadline:
        time.sleep(0.01)
    began = time.monotonic()
    abort.trigger()
    thread.join(10)
    assert time.monotonic() - began < 0.5
    assert "called off" in str(raised[0])


def test_abort_ends_a_request_on_a_connection_that_is_used_again(
    server: Scripted, api: ApiConnection
) -> None:
    abort = Abort()
    server.answers = [whole(b"{}"), hang]
    api.get("/x", {}, timeout=5, abort=abort)
    timer = threading.Timer(0.1, abort.trigger)
    timer.start()
    began = time.monotonic()
    with pytest.raises(ApiUnavailable, match="called off"):
        api.get("/x", {}, timeout=20, abort=abort)
    timer.join()
    assert time.monotonic() - began < 5


def test_abort_ends_a_tls_handshake_that_nobody_answers(opened: Opened) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        api = opened(master_url=f"https://127.0.0.1:{listener.getsockname()[1]}")
        abort = Abort()
        timer = threading.Timer(0.1, abort.trigger)
        timer.start()
        began = time.monotonic()
        with pytest.raises(ApiUnavailable, match="called off"):
            api.get("/x", {}, timeout=20, abort=abort)
        timer.join()
        assert time.monotonic() - began < 5


def test_abort_stays_until_reset(server: Scripted, api: ApiConnection) -> None:
    abort = Abort()
    abort.trigger()
    with pytest.raises(ApiUnavailable, match="called off"):
        api.get("/x", {}, timeout=5, abort=abort)
    assert server.seen == []
    abort.reset()
    assert api.get("/x", {}, timeout=5, abort=abort).status == 200


def test_abort_calls_what_is_attached_late() -> None:
    abort = Abort()
    called: list[int] = []
    abort.attach(lambda: called.append(1))
    abort.trigger()
    abort.attach(lambda: called.append(2))
    abort.detach()
    abort.trigger()
    # The first is called again with the second's turn only if it is still attached.
    assert called == [1, 2]


def test_no_descriptor_is_left_behind(server: Scripted, api: ApiConnection) -> None:
    server.answers = [chunks(b"one\n")]
    abort = Abort()

    def watch_once() -> None:
        with api.stream("/w", {}, connect_timeout=5, read_timeout=5, abort=abort) as stream:
            list(stream)

    watch_once()
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(30):
        watch_once()
    after = len(os.listdir("/proc/self/fd")) if before else 0
    assert after <= before + 5


# --- credentials ---


@pytest.mark.parametrize(
    ("user", "authorization"),
    [
        ({"token": SECRET}, f"Bearer {SECRET}"),
        ({"token": f"{SECRET}\n"}, f"Bearer {SECRET}"),
        ({"tokenFile": "token"}, f"Bearer {SECRET}"),
        (
            {"username": "u", "password": "p"},
            "Basic " + base64.b64encode(b"u:p").decode(),
        ),
        ({}, None),
    ],
    ids=["token", "token with newline", "token file", "password", "nothing"],
)
def test_kubeconfig_users(
    server: Scripted, opened: Opened, tmp_path: Path, user: dict[str, Any], authorization: str | None
) -> None:
    (tmp_path / "token").write_text(SECRET + "\n")
    get(opened(kubeconfig=kubeconfig(tmp_path / "kc", server.url, user)))
    assert server.tokens() == [authorization]


def exec_plugin(path: Path, text: str) -> dict[str, Any]:
    path.write_text(f"#!/bin/sh\necho x >> {path}.runs\ncat <<'END'\n{text}\nEND\n")
    path.chmod(0o755)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(path)}}


def exec_credential(**status: str) -> str:
    return json.dumps(
        {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    )


def test_exec_plugin(server: Scripted, opened: Opened, tmp_path: Path) -> None:
    user = exec_plugin(tmp_path / "plugin", exec_credential(token=SECRET))
    api = opened(kubeconfig=kubeconfig(tmp_path / "kc", server.url, user))
    get(api)
    get(api)
    assert server.tokens() == [f"Bearer {SECRET}"] * 2
    assert (tmp_path / "plugin.runs").read_text() == "x\n"


def test_exec_plugin_is_run_again_when_its_token_has_run_out(
    server: Scripted, opened: Opened, tmp_path: Path
) -> None:
    old = exec_credential(token="old", expirationTimestamp="2020-01-01T00:00:00Z")
    user = exec_plugin(tmp_path / "plugin", old)
    api = opened(kubeconfig=kubeconfig(tmp_path / "kc", server.url, user))
    exec_plugin(tmp_path / "plugin", exec_credential(token="new", expirationTimestamp="2099-01-01T00:00:00Z"))
    get(api)
    assert server.tokens() == ["Bearer new"]


def test_credentials_that_cannot_be_renewed(
    server: Scripted, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise OSError(28, "No space left on device")

    user = exec_plugin(tmp_path / "plugin", exec_credential(token=SECRET))
    api = opened(kubeconfig=kubeconfig(tmp_path / "kc", server.url, user))
    monkeypatch.setattr("kubernetes.config.kube_config.KubeConfigLoader._set_config", refuse)
    with pytest.raises(ApiUnavailable, match="cannot be renewed"):
        get(api)


def test_exec_plugin_that_fails_gives_a_sentence(server: Scripted, opened: Opened, tmp_path: Path) -> None:
    user = exec_plugin(tmp_path / "plugin", "no json")
    api = opened(kubeconfig=kubeconfig(tmp_path / "kc", server.url, user))
    server.answers = [status(401)]
    with pytest.raises(ApiForbidden, match="exec plugin"):
        get(api)


def test_context_and_url_override(server: Scripted, opened: Opened, tmp_path: Path) -> None:
    path = kubeconfig(tmp_path / "kc", "http://unused.invalid", {"token": SECRET})
    get(opened(kubeconfig=path, master_url=server.url))
    get(opened(kubeconfig=path, context="other", master_url=server.url))
    assert server.tokens() == [f"Bearer {SECRET}", None]


def test_default_kubeconfig(
    server: Scripted, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / ".kube").mkdir(parents=True)
    kubeconfig(home / ".kube" / "config", server.url, {"token": "from-home"})
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("KUBECONFIG")
    get(opened())
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "kc", server.url, {"token": "from-env"})))
    get(opened())
    assert server.tokens() == ["Bearer from-home", "Bearer from-env"]


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    account = tmp_path / "serviceaccount"
    account.mkdir()
    (account / "token").write_text(SECRET)
    certificates = subprocess.run(
        [sys.executable, "-c", _MAKE_CA], check=True, capture_output=True, text=True
    ).stdout
    (account / "ca.crt").write_text(certificates)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    return account


_MAKE_CA = """
import datetime
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
key = ec.generate_private_key(ec.SECP256R1())
name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ca")])
now = datetime.datetime.now(datetime.timezone.utc)
certificate = (
    x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    .serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    .sign(key, hashes.SHA256())
)
print(certificate.public_bytes(serialization.Encoding.PEM).decode())
"""


def test_in_cluster(pod: Path, opened: Opened) -> None:
    access = opened()._session.access
    assert access.host == "https://[fd00::1]:6443"
    assert access.authorization == f"Bearer {SECRET}"
    assert access.ca_file == str(pod / "ca.crt")


@pytest.mark.parametrize(
    "broken", ["no address", "empty token", "empty ca"], ids=["no address", "empty token", "empty ca"]
)
def test_in_cluster_broken(pod: Path, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if broken == "no address":
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    elif broken == "empty token":
        (pod / "token").write_text("")
    else:
        (pod / "ca.crt").write_text("")
    with pytest.raises(SettingsError, match="service account"):
        connect(ClusterSettings())


def test_in_cluster_unreadable(pod: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("kubernetes.config.incluster_config.InClusterConfigLoader._read_token_file", refuse)
    with pytest.raises(SettingsError, match="Permission denied"):
        connect(ClusterSettings())


def test_in_cluster_token_and_ca_are_taken_up_when_they_change(pod: Path, opened: Opened) -> None:
    api = opened()
    first = api._current_session()
    assert api._current_session() is first
    (pod / "token.new").write_text("rotated")
    (pod / "token.new").replace(pod / "token")
    second = api._current_session()
    assert second.access.authorization == "Bearer rotated"
    assert second.pool is not first.pool
    assert api.reloads == 1


def test_401_reads_the_credentials_again_and_repeats_the_request(
    server: Scripted, opened: Opened, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("old")
    api = opened(kubeconfig=kubeconfig(tmp_path / "kc", server.url, {"tokenFile": "token"}))

    def check(handler: Handler) -> None:
        good = handler.headers["Authorization"] == "Bearer new"
        (whole(b"ok\n") if good else status(401))(handler)

    server.answers = [check]
    (tmp_path / "token").write_text("new")
    assert get(api) == b"ok\n"
    assert lines(api) == [b"ok"]
    assert server.tokens() == ["Bearer old", "Bearer new", "Bearer new"]


def test_401_for_several_threads_is_one_reload(server: Scripted, opened: Opened, tmp_path: Path) -> None:
    api = opened(kubeconfig=kubeconfig(tmp_path / "kc", server.url, {"token": SECRET}))
    first = api._reload(0)
    assert api._reload(0) is first
    assert api.reloads == 1


def test_a_kubeconfig_that_is_half_written_keeps_the_old_credentials(
    server: Scripted, opened: Opened, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = kubeconfig(tmp_path / "kc", server.url, {"token": "old"})
    api = opened(kubeconfig=path)
    path.write_text(f"users: [{SECRET}")
    get(api)
    kubeconfig(path, server.url, {"token": "new"})
    get(api)
    assert server.tokens() == ["Bearer old", "Bearer new"]
    assert "keeping the old credentials" in caplog.text
    assert SECRET not in caplog.text


def test_a_token_that_no_header_may_hold_is_not_shown(
    server: Scripted, opened: Opened, tmp_path: Path
) -> None:
    api = opened(kubeconfig=kubeconfig(tmp_path / "kc", server.url, {"token": f"{SECRET}\nX: y"}))
    with pytest.raises(ApiUnavailable, match="HTTP forbids") as caught:
        get(api)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot be used"),
        ("a: [", "is not YAML (line"),
        ("just words", "form"),
        ("[]", "form"),
        ("current-context: x", "cannot be used"),
        ("current-context: x\ncontexts: []", "cannot be used"),
    ],
)
def test_kubeconfigs_that_cannot_be_used(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "kc"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        connect(ClusterSettings(kubeconfig=path))
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_kubeconfig_that_names_no_server(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path / "kc", "x")
    path.write_text(path.read_text().replace("server: x", "other: x"))
    with pytest.raises(SettingsError, match="no server"):
        connect(ClusterSettings(kubeconfig=path))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (ClusterSettings(), "--kube-master-url"),
        (ClusterSettings(context="main"), "no kubeconfig at"),
        (ClusterSettings(kubeconfig=Path("nowhere.yaml")), "nowhere.yaml"),
        (ClusterSettings(master_url="localhost:8080"), "https://HOST:PORT"),
        (ClusterSettings(master_url="ftp://x"), "https://HOST:PORT"),
    ],
    ids=["nothing", "context only", "missing file", "no scheme", "other scheme"],
)
def test_settings_that_name_no_cluster(settings: ClusterSettings, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        connect(settings)


@pytest.mark.parametrize("key", ["certificate-authority", "client-certificate"])
def test_certificate_files_that_cannot_be_used(tmp_path: Path, key: str) -> None:
    (tmp_path / "bad.pem").write_text("no certificate")
    cluster = {key: "bad.pem"} if key == "certificate-authority" else {}
    user = {} if cluster else {"client-certificate": "bad.pem", "client-key": "bad.pem"}
    path = kubeconfig(tmp_path / "kc", "https://127.0.0.1:1", user, **cluster)
    with pytest.raises(SettingsError, match=r"bad\.pem"):
        connect(ClusterSettings(kubeconfig=path))


def test_a_certificate_file_that_is_missing(tmp_path: Path) -> None:
    cluster = {"certificate-authority": "gone.pem"}
    path = kubeconfig(tmp_path / "kc", "https://127.0.0.1:1", **cluster)
    with pytest.raises(SettingsError, match=r"gone\.pem"):
        connect(ClusterSettings(kubeconfig=path))


# --- reaching it ---


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:{port}", "connection refused"),
        ("http://no-such-host.invalid", "cannot be resolved"),
        ("https://127.0.0.1:{http}", "TLS"),
    ],
    ids=["refused", "unknown name", "no TLS"],
)
def test_a_server_that_cannot_be_reached(server: Scripted, opened: Opened, url: str, words: str) -> None:
    url = url.format(port=closed_port(), http=server.server_address[1])
    with pytest.raises(ApiUnavailable) as caught:
        get(opened(master_url=url))
    assert words in str(caught.value)
    assert url in str(caught.value)


def test_a_connection_that_takes_too_long() -> None:
    error = ConnectTimeoutError(None, "timed out")
    assert "no connection within 10 s" in str(explain_failure("https://api", error, 10.0, whole=True))


def test_an_error_whose_reason_never_comes(server: Scripted, api: ApiConnection) -> None:
    def half(handler: Handler) -> None:
        handler.begin(500, Content_Length="100")
        handler.wfile.flush()
        handler.close_connection = True

    server.answers = [half]
    with pytest.raises(ApiUnavailable, match=r"\(500\)"):
        get(api)


def test_a_kubeconfig_that_goes_away_keeps_the_old_credentials(
    server: Scripted, opened: Opened, tmp_path: Path
) -> None:
    path = kubeconfig(tmp_path / "kc", server.url, {"token": SECRET})
    api = opened(kubeconfig=path)
    path.unlink()
    get(api)
    assert server.tokens() == [f"Bearer {SECRET}"]


def test_user_and_password_of_a_url_are_not_shown(opened: Opened) -> None:
    api = opened(master_url=f"http://u:{SECRET}@127.0.0.1:{closed_port()}?x={SECRET}")
    with pytest.raises(ApiUnavailable) as caught:
        get(api)
    assert SECRET not in str(caught.value)
    assert SECRET not in api.server


def test_the_environments_proxy_does_not_decide(
    server: Scripted, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    get(opened(master_url=server.url))
    assert len(server.seen) == 1


def test_the_kubeconfigs_proxy_does(server: Scripted, opened: Opened, tmp_path: Path) -> None:
    path = kubeconfig(tmp_path / "kc", "http://api.invalid:6443", **{"proxy-url": server.url})
    get(opened(kubeconfig=path))
    assert server.seen[0][0] == "http://api.invalid:6443/api/v1/services"


def test_the_kubeconfigs_proxy_is_not_there(opened: Opened, tmp_path: Path) -> None:
    proxy = f"http://u:{SECRET}@127.0.0.1:{closed_port()}"
    path = kubeconfig(tmp_path / "kc", "http://api.invalid", **{"proxy-url": proxy})
    with pytest.raises(ApiUnavailable, match="proxy-url") as caught:
        get(opened(kubeconfig=path))
    assert SECRET not in str(caught.value)


class TlsServer(Scripted):
    def __init__(self, cert: Path) -> None:
        super().__init__()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert)
        self.socket = context.wrap_socket(self.socket, server_side=True)

    @property
    def url(self) -> str:
        return super().url.replace("http://", "https://")


_MAKE_SERVER = (
    _MAKE_CA.replace(
        ".sign(key",
        '.add_extension(x509.SubjectAlternativeName([x509.DNSName("api.test")]), False).sign(key',
    )
    + """
print(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
      serialization.NoEncryption()).decode())
"""
)


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[tuple[TlsServer, Path]]:
    cert = tmp_path / "server.pem"
    made = subprocess.run([sys.executable, "-c", _MAKE_SERVER], check=True, capture_output=True, text=True)
    cert.write_text(made.stdout)
    server = TlsServer(cert)
    yield server, cert
    server.end()


@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        ({"certificate-authority": "server.pem", "tls-server-name": "api.test"}, ""),
        ({"insecure-skip-tls-verify": True}, ""),
        ({"certificate-authority": "server.pem"}, "certificate-authority"),
        ({"tls-server-name": "api.test"}, "certificate-authority"),
    ],
    ids=["right name", "unchecked", "wrong name", "unknown authority"],
)
def test_tls(
    tls: tuple[TlsServer, Path],
    opened: Opened,
    tmp_path: Path,
    cluster: dict[str, Any],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls[1]))
    api = opened(kubeconfig=kubeconfig(tmp_path / "kc", tls[0].url, **cluster))
    if not words:
        assert get(api) == b"{}"
    else:
        with pytest.raises(ApiUnavailable, match=words):
            get(api)
    assert ("not checked" in caplog.text) == ("insecure-skip-tls-verify" in cluster)


def test_the_package_is_imported_only_when_it_is_needed() -> None:
    code = (
        "import sys; from kube2etcd.cluster import connection, reflector;"
        "connection.connect(connection.ClusterSettings(master_url='http://127.0.0.1:1'));"
        "sys.exit('kubernetes' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_close_is_harmless(api: ApiConnection) -> None:
    get(api)
    with contextlib.suppress(ApiError):
        api.close()
    get(api)
