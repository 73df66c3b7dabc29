"""Errors: what they say, what class they are, and what they keep to themselves."""

from __future__ import annotations

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
from tests.kube.scripted import (
    SECRET,
    Answer,
    Handler,
    Opened,
    Scripted,
    get,
    kubeconfig,
    lines,
    status,
    whole,
)
from tests.stack.process import free_port


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
        api.request("GET", path, params, timeout=5)
    assert words in str(caught.value)


def test_an_error_whose_reason_never_comes(server: Scripted, api: ApiConnection) -> None:
    def half(handler: Handler) -> None:
        handler.begin(500, Content_Length="100")
        handler.wfile.flush()
        handler.close_connection = True

    server.answers = [half]
    with pytest.raises(ApiUnavailable, match=r"\(500\)"):
        get(api)


def test_an_echoed_token_is_not_in_messages(server: Scripted, as_user: Opened, tmp_path: Path) -> None:
    api = as_user({"token": SECRET})
    server.answers = [status(403, f"bearer {SECRET} is not enough")]
    with pytest.raises(ApiForbidden) as caught:
        get(api)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(read_access(Cluster(kubeconfig=str(tmp_path / "kc"))))


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
    url = url.format(port=free_port(), http=server.server_address[1])
    with pytest.raises(ApiUnavailable) as caught:
        get(opened(kube_master_url=url))
    assert words in str(caught.value)
    assert url in str(caught.value)


def test_a_connection_that_takes_too_long() -> None:
    error = ConnectTimeoutError(None, "timed out")
    assert "no connection within 10 s" in str(explain_failure("https://api", error, 10.0))


def test_user_and_password_of_a_url_are_not_shown(opened: Opened) -> None:
    api = opened(kube_master_url=f"http://u:{SECRET}@127.0.0.1:{free_port()}?x={SECRET}")
    with pytest.raises(ApiUnavailable) as caught:
        get(api)
    assert SECRET not in str(caught.value)
    assert SECRET not in api.server


def test_the_kubeconfigs_proxy_is_not_there(opened: Opened, tmp_path: Path) -> None:
    proxy = f"http://u:{SECRET}@127.0.0.1:{free_port()}"
    path = kubeconfig(tmp_path / "kc", "http://api.invalid", **{"proxy-url": proxy})
    with pytest.raises(ApiUnavailable, match="proxy-url") as caught:
        get(opened(kubeconfig=path))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("proxy", [f"socks5://u:{SECRET}@127.0.0.1:1080", "127.0.0.1:8080", "http://[bad"])
def test_an_invalid_proxy_is_a_settings_error(opened: Opened, tmp_path: Path, proxy: str) -> None:
    path = kubeconfig(tmp_path / "kc", "http://api.invalid", **{"proxy-url": proxy})
    with pytest.raises(SettingsError, match="proxy-url of the kubeconfig") as caught:
        opened(kubeconfig=path)
    assert SECRET not in str(caught.value)
