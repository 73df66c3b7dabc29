"""Answers, statuses, and reaching the server, against a scripted server on a loopback socket."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
from urllib3.exceptions import ConnectTimeoutError

from kube2etcd.errors import (
    ApiError,
    ApiForbidden,
    ApiGone,
    ApiNotFound,
    ApiTooLarge,
    ApiTooMany,
    ApiUnavailable,
)
from kube2etcd.kube.client import Abort, ApiConnection
from kube2etcd.kube.codec import decode_list
from kube2etcd.kube.credentials import ClusterSettings, read_access
from kube2etcd.kube.failures import ApiRefused, explain_failure
from kube2etcd.kube.objects import KINDS
from tests.kube.scripted import (
    SECRET,
    Answer,
    Handler,
    Opened,
    Scripted,
    chunks,
    closed_port,
    get,
    kubeconfig,
    lines,
    status,
    whole,
)


def test_get(server: Scripted, api: ApiConnection) -> None:
    server.answers = [whole(b'{"a":1}')]
    body = api.get("/api/v1/services", {"limit": "500", "labelSelector": "a=b,c"}, timeout=5)
    assert body == b'{"a":1}'
    path, headers = server.seen[0]
    assert path == "/api/v1/services?limit=500&labelSelector=a%3Db%2Cc"
    assert headers["Accept"] == "application/json"
    assert headers["User-Agent"].startswith("kube2etcd/")
    assert "Authorization" not in headers


@pytest.mark.parametrize("compressed", [False, True])
def test_a_body_over_the_limit(server: Scripted, api: ApiConnection, compressed: bool) -> None:
    body = b"x" * 2_000_000
    answer = whole(gzip.compress(body), Content_Encoding="gzip") if compressed else whole(body)
    server.answers = [answer, answer]
    with pytest.raises(ApiTooLarge, match="more than 1999999 bytes"):
        api.get("/api/v1/services", {}, timeout=5, max_bytes=1_999_999)
    assert len(api.get("/api/v1/services", {}, timeout=5, max_bytes=2_000_000)) == 2_000_000


def test_lists_may_come_compressed_and_watches_not(server: Scripted, api: ApiConnection) -> None:
    body = b'{"x":"' + b"y" * 3_000_000 + b'"}'
    server.answers = [whole(gzip.compress(body), Content_Encoding="gzip")]
    assert get(api) == body
    server.answers = [chunks(b"{}\n")]
    assert lines(api) == [b"{}"]
    asked = [headers.get("Accept-Encoding") for _, headers in server.seen]
    assert asked == ["gzip", "identity"]


def test_a_compressed_list_in_chunks_is_read_whole(server: Scripted, api: ApiConnection) -> None:
    packed = gzip.compress(bytes(range(256)) * 20_000)
    pieces = [packed[at : at + 1000] for at in range(0, len(packed), 1000)]
    server.answers = [chunks(*pieces, Content_Encoding="gzip")]
    assert get(api) == bytes(range(256)) * 20_000
    assert get(api) == bytes(range(256)) * 20_000


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.99])
def test_a_truncated_compressed_list(server: Scripted, api: ApiConnection, cut: float) -> None:
    services = [{"metadata": {"name": f"s{number}"}} for number in range(2000)]
    meta = {"kind": "ServiceList", "metadata": {"resourceVersion": "1"}}
    packed = gzip.compress(json.dumps({**meta, "items": services}).encode())
    server.answers = [whole(packed[: int(len(packed) * cut)], Content_Encoding="gzip")]
    with pytest.raises(ApiUnavailable):
        decode_list(KINDS["services"], get(api))
    server.answers = [whole(b"no gzip at all", Content_Encoding="gzip")]
    with pytest.raises(ApiUnavailable):
        get(api)


def test_connections_are_used_again_after_chunks(server: Scripted, api: ApiConnection) -> None:
    ports = []

    def chunked(handler: Handler) -> None:
        ports.append(handler.client_address[1])
        handler.begin(Transfer_Encoding="chunked")
        for part in (b"a" * 100_000, b"b"):
            handler.chunk(part)
        handler.wfile.write(b"0\r\n\r\n")

    server.answers = [chunked]
    for _ in range(3):
        assert len(get(api)) == 100_001
    assert len(set(ports)) == 1


def drop(handler: Handler) -> None:
    handler.close_connection = True


@pytest.mark.parametrize("with_abort", [False, True], ids=["plain", "with abort"])
def test_an_idle_connection_closed_by_the_server(
    server: Scripted, api: ApiConnection, with_abort: bool
) -> None:
    abort = Abort() if with_abort else None
    server.answers = [whole(b"{}"), drop, whole(b"again")]
    api.get("/x", {}, timeout=5, abort=abort)
    assert api.get("/x", {}, timeout=5, abort=abort) == b"again"


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
        (status(403), ApiForbidden, "cannot list services (403: said the server); grant"),
        (status(404), ApiNotFound, "not installed"),
        (
            status(404, 'namespaces "x" not found'),
            ApiNotFound,
            '(404: namespaces "x" not found); create the namespace',
        ),
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


def test_an_echoed_token_is_not_in_messages(server: Scripted, as_user: Opened, tmp_path: Path) -> None:
    api = as_user({"token": SECRET})
    server.answers = [status(403, f"bearer {SECRET} is not enough")]
    with pytest.raises(ApiForbidden) as caught:
        get(api)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(read_access(ClusterSettings(kubeconfig=tmp_path / "kc")))


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


def test_a_removed_kubeconfig(server: Scripted, opened: Opened, tmp_path: Path) -> None:
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


def test_the_package_is_imported_only_when_it_is_needed() -> None:
    code = (
        "import sys; from kube2etcd.kube import client, reflector;"
        "client.ApiConnection(client.ClusterSettings(master_url='http://127.0.0.1:1'));"
        "sys.exit('kubernetes' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
