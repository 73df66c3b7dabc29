"""Class and message of each error, without secrets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from urllib3.exceptions import ConnectTimeoutError

from kube2etcd.errors import (
    ApiError,
    ApiForbidden,
    ApiGone,
    ApiNotFound,
    ApiTooMany,
    ApiUnavailable,
    SettingsError,
)
from kube2etcd.kube.client import ApiConnection
from kube2etcd.kube.credentials import read_access
from kube2etcd.kube.failures import ApiRefused, explain_failure
from kube2etcd.settings import Cluster
from tests.kube.scripted import SECRET, Answer, Connect, Handler, Scripted, get, lines, respond, status
from tests.stack.process import free_port


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (status(401), ApiForbidden, "no credentials"),
        (status(403), ApiForbidden, "cannot list services (403: server message); grant"),
        (status(404), ApiNotFound, "not installed"),
        (
            status(404, 'namespaces "x" not found'),
            ApiNotFound,
            '(404: namespaces "x" not found); create the namespace',
        ),
        (status(410), ApiGone, "410: server message"),
        (status(429, Retry_After="7"), ApiTooMany, "wait"),
        (status(503, Retry_After="7"), ApiTooMany, "wait"),
        (status(500), ApiUnavailable, "(500: server message); see the server's own log"),
        (status(504), ApiUnavailable, "504"),
        (status(400), ApiRefused, "400: server message"),
        (status(422), ApiRefused, "422"),
        (respond(b"", 302, Location="https://elsewhere"), ApiUnavailable, "redirects"),
        (respond(b"<html>nginx</html>", 502), ApiUnavailable, "(502)"),
        (respond(b"plain text\nof two lines", 500), ApiUnavailable, "500: plain text of two lines"),
        (respond(b'{"message": null}', 500), ApiUnavailable, "(500)"),
        (respond(b"\xff" * 5000, 500), ApiUnavailable, "…"),
    ],
)
def test_error_of_each_status(
    server: Scripted, api: ApiConnection, answer: Answer, error: type[ApiError], message: str
) -> None:
    server.answers = [answer]
    with pytest.raises(ApiError) as caught:
        get(api)
    assert type(caught.value) is error
    assert message in str(caught.value)
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
    ("path", "params", "message"),
    [
        ("/api/v1/namespaces", {}, "list namespaces ("),
        ("/api/v1/pods", {"watch": "true"}, "watch pods ("),
        ("/apis/kubevirt.io/v1/namespaces/demo/vmis", {}, "list vmis.kubevirt.io in namespace demo ("),
        ("/version", {}, "get /version ("),
        ("/api", {}, "get /api ("),
    ],
)
def test_messages_name_verb_and_resource(
    server: Scripted, api: ApiConnection, path: str, params: dict[str, str], message: str
) -> None:
    server.answers = [status(403)]
    with pytest.raises(ApiForbidden, match=re.escape(message)):
        get(api, path, 5, **params)


def test_error_with_an_incomplete_body(server: Scripted, api: ApiConnection) -> None:
    def incomplete(handler: Handler) -> None:
        handler.begin(500, Content_Length="100")
        handler.wfile.flush()
        handler.close_connection = True

    server.answers = [incomplete]
    with pytest.raises(ApiUnavailable, match=r"\(500\)"):
        get(api)


def test_token_echoed_by_the_server_is_not_in_the_message(
    server: Scripted, connect_as: Connect, tmp_path: Path
) -> None:
    server.answers = [status(403, f"bearer {SECRET} is not enough")]
    with pytest.raises(ApiForbidden) as caught:
        get(connect_as({"token": SECRET}))
    assert SECRET not in f"{caught.value} {read_access(Cluster(kubeconfig=str(tmp_path / 'kc')))!r}"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:{port}", "connection refused"),
        ("http://no-such-host.invalid", "cannot be resolved"),
        ("https://127.0.0.1:{http}", "TLS"),
        (f"http://u:{SECRET}@127.0.0.1:{{port}}?x={SECRET}", "cannot reach http://127.0.0.1"),
    ],
    ids=["refused", "unknown name", "no TLS", "password in the URL"],
)
def test_unreachable_server(server: Scripted, connect: Connect, url: str, message: str) -> None:
    api = connect(kube_master_url=url.format(port=free_port(), http=server.server_address[1]))
    with pytest.raises(ApiUnavailable, match=message) as caught:
        get(api)
    assert api.server in str(caught.value)
    assert SECRET not in str(caught.value)


def test_connect_timeout() -> None:
    error = ConnectTimeoutError(None, "timed out")
    assert "no connection within 10 s" in str(explain_failure("https://api", error, 10.0))


@pytest.mark.parametrize(
    ("proxy", "error"),
    [
        (f"http://u:{SECRET}@127.0.0.1:{{port}}", ApiUnavailable),
        (f"socks5://u:{SECRET}@127.0.0.1:1080", SettingsError),
        ("127.0.0.1:8080", SettingsError),
        ("http://[bad", SettingsError),
    ],
)
def test_unusable_proxy(connect_as: Connect, proxy: str, error: type[Exception]) -> None:
    with pytest.raises(error, match="proxy-url of the kubeconfig") as caught:
        get(connect_as(url="http://api.invalid", **{"proxy-url": proxy.format(port=free_port())}))
    assert SECRET not in str(caught.value)
