"""Turns API server failures into errors with a one-sentence message that says what to do.

The text of a cause may contain a secret, so none is quoted unchecked.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec
import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
)

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

if TYPE_CHECKING:
    from kube2etcd.kube.credentials import Access


_RESOURCE: Final = re.compile(r"/(?:api|apis/([^/]+))/[^/]+/(?:namespaces/([^/]+)/)?([^/]+)")
_VERBS: Final = {"GET": "list", "POST": "create", "PUT": "update", "DELETE": "delete"}


class ApiRefused(ApiUnavailable):
    """400, 409, 422 and the like: the server rejects this request; ``status`` is the code."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ApiSilent(ApiUnavailable):
    """A stream was silent for its read timeout; it may be idle or hang."""


def refusal(
    access: Access, response: urllib3.BaseHTTPResponse, method: str, path: str, params: Mapping[str, str]
) -> ApiError:
    """The error for a response other than 2xx to a request with the credentials ``access``."""
    status, server = response.status, public_url(access.host)
    said = _said(response, access.authorization.partition(" ")[2])
    answer = f"({status}: {said})" if said else f"({status})"
    cannot = f"{server}: cannot {_asked(method, path, params)} {answer}"
    retry_after = _retry_after(response.headers.get("Retry-After"))
    if status == 401:
        who = "the credentials are not accepted" if access.known else "the request had no credentials"
        return ApiForbidden(
            f"{cannot}; {who}: "
            "correct the token, certificate or exec plugin of the kubeconfig or service account"
        )
    if status == 403:
        # With anonymous auth enabled, a request without credentials gets 403 rather than 401.
        anonymous = "; the request had no credentials: is a user or exec plugin missing in the kubeconfig?"
        cannot += "; grant this to our account with RBAC"
        return ApiForbidden(cannot if access.known else cannot + anonymous)
    if status == 404 and re.fullmatch(r'namespaces "[^"]*" not found', said):
        return ApiNotFound(f"{cannot}; create the namespace")
    if status == 404:
        return ApiNotFound(f"{cannot}; this kind is not installed there")
    if status == 410:
        return ApiGone(f"{cannot}; the resourceVersion is too old")
    if status == 429 or (status >= 500 and retry_after is not None):
        return ApiTooMany(f"{cannot}; the server asks to wait", 1.0 if retry_after is None else retry_after)
    if status >= 500:
        return ApiUnavailable(f"{cannot}; retrying")
    if 300 <= status < 400:
        return ApiUnavailable(f"{server} redirects elsewhere ({status}); is it a Kubernetes API server?")
    return ApiRefused(cannot, status)


def _said(response: urllib3.BaseHTTPResponse, secret: str) -> str:
    """The server's own message, shortened, with our token removed if it echoes it."""
    try:
        body = response.read1(4096)
        text = msgspec.json.decode(body, type=_StatusBody).message or ""
    except msgspec.MsgspecError:
        text = body.decode("utf-8", "replace") if not body.lstrip().startswith(b"<") else ""
    except (HTTPError, OSError, ValueError):
        return ""
    if secret:
        text = text.replace(secret, "…")
    return one_line(text)


class _StatusBody(msgspec.Struct):
    message: str | None = None


def check_urls(server: str, proxy: str | None) -> None:
    """Raise `SettingsError` unless these are valid URLs of an API server and, if given, its HTTP proxy."""
    if not _is_url(server):
        raise SettingsError(
            f"{public_url(server)!r} is not the URL of an API server; it should look like https://HOST:PORT"
        )
    if proxy and not _is_url(proxy):
        raise SettingsError(
            f"{public_url(proxy)!r} in proxy-url of the kubeconfig cannot be used; "
            "it should look like http://HOST:PORT"
        )


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        _ = parts.port  # checked on access
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not re.search(r"\s", text)


def public_url(host: str) -> str:
    """A URL without user, password and query."""
    return re.sub(r"(?<=//)[^/@]*@|[?#].*", "", host)


def one_line(text: str, limit: int = 300) -> str:
    """The text without line breaks, of ``limit`` characters at most."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _retry_after(value: str | None) -> float | None:
    try:
        return max(0.0, float(value)) if value is not None else None
    except ValueError:
        return 1.0  # a date, so written by a proxy, since the API server writes seconds: retry soon


def _asked(method: str, path: str, params: Mapping[str, str]) -> str:
    """The request in words: ``list endpointslices.discovery.k8s.io in namespace demo``."""
    found = _RESOURCE.match(path)
    if found is None:
        return f"get {path}"
    group, namespace, resource = found.groups()
    verb = "watch" if "watch" in params else _VERBS[method]
    where = f" in namespace {namespace}" if namespace else ""
    return f"{verb} {resource}{f'.{group}' if group else ''}{where}"


def explain_failure(server: str, error: Exception, seconds: float, *, whole: bool) -> ApiError:
    """The error for a failure below HTTP, without the causes' own texts."""
    cause = _root(error)
    if isinstance(error, ProxyError):
        return ApiUnavailable(f"cannot reach {server} through the proxy-url of the kubeconfig")
    if isinstance(cause, ssl.SSLCertVerificationError):
        return ApiUnavailable(
            f"the certificate of {server} is not trusted ({cause.verify_message}); "
            "correct certificate-authority in the kubeconfig, or the server's name"
        )
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
        return ApiUnavailable(
            f"no TLS connection with {server} ({_tls_reason(cause)}); "
            "is it https, and is our client certificate good?"
        )
    if isinstance(error, NameResolutionError):
        return ApiUnavailable(f"the name of {server} cannot be resolved; is the address right?")
    if isinstance(error, NewConnectionError):  # urllib3 makes it a subclass of its timeouts
        words = cause.strerror if isinstance(cause, OSError) and cause.strerror else "no connection"
        return ApiUnavailable(
            f"cannot reach {server}: {words.lower()}; is it running, and is the address right?"
        )
    if isinstance(error, ConnectTimeoutError):
        return ApiUnavailable(f"cannot reach {server}: no connection within {seconds:g} s")
    if isinstance(error, (ReadTimeoutError, TimeoutError)):
        return ApiUnavailable(f"nothing came from {server} for {seconds:g} s")
    if isinstance(error, ValueError) and not isinstance(error, HTTPError):
        return ApiUnavailable(
            f"a request to {server} cannot be sent: the token or the path holds characters that HTTP forbids"
        )
    if whole and not isinstance(cause, OSError):
        return ApiTruncated(f"the answer of {server} was cut short")
    words = cause.strerror if isinstance(cause, OSError) and cause.strerror else "it was cut"
    return ApiUnavailable(f"the connection with {server} broke: {words}")


def ends_handshake(error: Exception) -> bool:
    """Whether the server may have closed the connection because of our certificate.

    Its TLS alert is lost if we are writing at that moment.
    """
    cause = _root(error)
    return isinstance(cause, (ssl.SSLError, ConnectionResetError, BrokenPipeError)) and not isinstance(
        cause, ssl.SSLCertVerificationError
    )


def _tls_reason(error: ssl.SSLError) -> str:
    return (error.reason or "unknown reason").replace("_", " ").lower()


def _root(error: BaseException) -> BaseException:
    """The innermost cause; urllib3 keeps some in ``args`` and some in ``__cause__``."""
    for _ in range(8):
        inner = error.__cause__ or next((a for a in error.args if isinstance(a, BaseException)), None)
        if inner is None:
            break
        error = inner
    return error
