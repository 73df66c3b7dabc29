"""Turns API server failures into errors with a one-sentence message that says what to do.

The text of a cause may contain a secret, so none is quoted unchecked.
"""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec
import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
)
from urllib3.util import parse_url

from kube2etcd.errors import (
    ApiError,
    ApiForbidden,
    ApiGone,
    ApiNotFound,
    ApiTooMany,
    ApiUnavailable,
    SettingsError,
    one_line,
    root_cause,
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


class ApiStatus(msgspec.Struct):
    """The object with which the API server explains a failure; a proxy may send only a part of it."""

    code: int | None = None
    reason: str | None = None
    message: str | None = None


_CLASSES: Final = {401: ApiForbidden, 403: ApiForbidden, 404: ApiNotFound, 410: ApiGone}


def error_of(status: int, message: str, retry_after: float | None = None) -> ApiError:
    """The error for a status code; ``retry_after`` in seconds, if the server asks to wait."""
    if status == 429 or (status >= 500 and retry_after is not None):
        return ApiTooMany(message, 1.0 if retry_after is None else retry_after)
    if 400 <= status < 500 and status not in _CLASSES:
        return ApiRefused(message, status)
    return _CLASSES.get(status, ApiUnavailable)(message)


def refusal(
    access: Access, response: urllib3.BaseHTTPResponse, method: str, path: str, params: Mapping[str, str]
) -> ApiError:
    """The error for a response other than 2xx to a request with the credentials ``access``."""
    status, server = response.status, public_url(access.server)
    if 300 <= status < 400:
        return ApiUnavailable(f"{server} redirects elsewhere ({status}); is it a Kubernetes API server?")
    said = _said(response, access.authorization.partition(" ")[2])
    wait = _retry_after(response.headers.get("Retry-After"))
    answer = f"({status}: {said})" if said else f"({status})"
    advice = {410: "; the resourceVersion is too old"}.get(status, "")
    if status == 401:
        who = "the credentials are not accepted" if access.known else "the request had no credentials"
        advice = (
            f"; {who}: correct the token, certificate or exec plugin of the kubeconfig or service account"
        )
    elif status == 403:
        advice = "; grant this to our account with RBAC"
        if not access.known:  # with anonymous auth enabled, a request without credentials gets 403, not 401
            advice += "; the request had no credentials: is a user or exec plugin missing in the kubeconfig?"
    elif status == 404:
        no_namespace = re.fullmatch(r'namespaces "[^"]*" not found', said)
        advice = "; create the namespace" if no_namespace else "; this kind is not installed there"
    elif status == 429 or status >= 500:
        advice = (
            "; the server asks to wait" if status == 429 or wait is not None else "; see the server's own log"
        )
    return error_of(status, f"{server}: cannot {_asked(method, path, params)} {answer}{advice}", wait)


def _said(response: urllib3.BaseHTTPResponse, secret: str) -> str:
    """The server's own message, shortened, with our token removed if it echoes it."""
    try:
        body = response.read1(4096)
        text = msgspec.json.decode(body, type=ApiStatus).message or ""
    except msgspec.MsgspecError:
        text = body.decode("utf-8", "replace") if not body.lstrip().startswith(b"<") else ""
    except (HTTPError, OSError, ValueError):
        return ""
    return one_line(text.replace(secret, "…") if secret else text)


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
    with contextlib.suppress(LocationParseError):
        parts = parse_url(text)
        return parts.scheme in ("http", "https") and bool(parts.host) and not re.search(r"\s", text)
    return False


def public_url(host: str) -> str:
    """A URL without user, password and query."""
    return re.sub(r"(?<=//)[^/@]*@|[?#].*", "", host)


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


def explain_failure(server: str, error: Exception, seconds: float) -> ApiUnavailable:
    """The error for a failure below HTTP, without the causes' own texts; ``seconds`` was its timeout."""
    cause = root_cause(error)
    words = cause.strerror if isinstance(cause, OSError) and cause.strerror else ""
    if isinstance(error, ProxyError):
        why = f"cannot reach {server} through the proxy-url of the kubeconfig"
    elif isinstance(cause, ssl.SSLCertVerificationError):
        why = (
            f"the certificate of {server} is not trusted ({cause.verify_message}); "
            "correct certificate-authority in the kubeconfig, or the server's name"
        )
    elif isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
        reason = (cause.reason or "unknown reason").replace("_", " ").lower()
        why = f"no TLS connection with {server} ({reason}); is it https, and is our client certificate good?"
    elif isinstance(error, NameResolutionError):
        why = f"the name of {server} cannot be resolved; is the address right?"
    elif isinstance(error, NewConnectionError):  # urllib3 makes it a subclass of its timeouts
        words = words.lower() or "no connection"
        why = f"cannot reach {server}: {words}; is it running, and is the address right?"
    elif isinstance(error, ConnectTimeoutError):
        why = f"cannot reach {server}: no connection within {seconds:g} s"
    elif isinstance(error, (ReadTimeoutError, TimeoutError)):
        why = f"nothing came from {server} for {seconds:g} s"
    elif isinstance(error, ValueError) and not isinstance(error, HTTPError):
        why = (
            f"a request to {server} cannot be sent: the token or the path holds characters that HTTP forbids"
        )
    else:
        why = f"the connection with {server} broke: {words or 'it was cut short'}"
    return ApiUnavailable(why)


def ends_handshake(error: Exception) -> bool:
    """Whether the server may have closed the connection because of our certificate.

    Its TLS alert is lost if we are writing at that moment.
    """
    cause = root_cause(error)
    return isinstance(cause, (ssl.SSLError, ConnectionResetError, BrokenPipeError)) and not isinstance(
        cause, ssl.SSLCertVerificationError
    )
