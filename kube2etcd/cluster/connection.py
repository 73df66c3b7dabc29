"""How the API server is reached: credentials, TLS, timeouts, and what went wrong in one sentence.

What it is: the only place that imports ``kubernetes``, and only for what that package is good at,
reading kubeconfig files, in-cluster service accounts and exec plugins.  The bytes themselves go
through an HTTP pool with timeouts of our own.

What it may know: HTTP, TLS, the API's status codes.  What it must never do: look into objects,
retry on its own (except once after a 401, with fresh credentials), let the environment's proxy or
CA variables decide, or put a secret into a message.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import msgspec
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    InsecureRequestWarning,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
)

from kube2etcd import __version__
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

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its token and the cluster's CA."""

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for TCP and TLS: a server that needs longer is not one to wait for."""

READ_SIZE: Final = 1 << 18
"""Bytes asked for at once; what has arrived is delivered, however little."""

MAX_LINE: Final = 32 << 20
"""No object is larger than etcd takes (about 1.5 MiB); a longer line is no event."""

# The kernel probes a silent peer after 30 s, then each 15 s, and gives up after three: 75 s.
# This finds a peer that is gone; one that is up but hangs is found by the read timeout.
_KEEPALIVE: Final = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 3))
        if hasattr(socket, name)
    ),
)

_log = logging.getLogger(__name__)


class ApiRefused(ApiUnavailable):
    """400, 422 and the like: the server will not take this very request; ``status`` says which."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ApiSilent(ApiUnavailable):
    """A stream had nothing to say for as long as its read timeout; it may be well or hang."""


@dataclass(frozen=True)
class ClusterSettings:
    """Which API server, as whom."""

    kubeconfig: Path | None = None
    """Kubeconfig file; relative paths inside are relative to it."""
    context: str | None = None
    """A context of the kubeconfig; ``None`` takes the current one."""
    master_url: str | None = None
    """Alone: this server, anonymously.  With a kubeconfig: replaces its server only."""


class Abort:
    """Lets another thread end a request in flight, whatever it is waiting for.

    One per user of the connection.  ``trigger`` shuts the socket down, which wakes a reader at once
    (a timeout would not), and stays in force for later requests until ``reset``.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._triggered = False
        self._closers: list[Callable[[], None]] = []

    @property
    def triggered(self) -> bool:
        """Whether requests are to end."""
        return self._triggered

    def trigger(self) -> None:
        """End the request in flight and every later one."""
        with self._lock:
            self._triggered = True
            for close in self._closers:
                close()

    def reset(self) -> None:
        """Let requests through again."""
        with self._lock:
            self._triggered = False

    def attach(self, close: Callable[[], None]) -> None:
        """Have ``close`` called on ``trigger``; at once if that has happened already."""
        with self._lock:
            self._closers.append(close)
            if self._triggered:
                close()

    def detach(self) -> None:
        """Forget what was attached; the request is over."""
        with self._lock:
            self._closers.clear()


@dataclass(frozen=True)
class Response:
    """A complete answer; its status is always 2xx."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Stream:
    """The lines of an answer that has no end of its own; each is given out as soon as it is here."""

    def __init__(self, response: urllib3.BaseHTTPResponse, explain: Callable[[Exception], ApiError]) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._explain = explain

    def __iter__(self) -> Iterator[bytes]:
        """Complete lines without their end.

        :raises ApiTruncated: the last line has no end.
        :raises ApiSilent: nothing came for as long as the read timeout.
        :raises ApiUnavailable: the connection broke.
        """
        parts: list[bytes] = []
        length = 0
        while chunk := self._read():
            first, *rest = chunk.split(b"\n")
            parts.append(first)
            length += len(first)
            if not rest:
                if length > MAX_LINE:
                    raise ApiTruncated(f"a line of the watch has more than {MAX_LINE} bytes and no end")
                continue
            rest.insert(0, b"".join(parts))
            last = rest.pop()
            parts, length = ([last], len(last)) if last else ([], 0)
            for line in rest:
                if line:
                    yield line
        if length:
            raise ApiTruncated(f"the watch ended in the middle of a line, after {length} bytes of it")

    def _read(self) -> bytes:
        try:
            return self._response.read1(READ_SIZE)
        except (ReadTimeoutError, TimeoutError) as error:
            raise ApiSilent(str(self._explain(error))) from error
        except (HTTPError, OSError, ValueError) as error:
            raise self._explain(error) from error


# --- Sockets that another thread can shut down --------------------------------------------------------

_current = threading.local()
"""Of the request that this thread is making: its :class:`Abort`, the sockets lent to that, and whether
the connection is a fresh one."""


def _lend(sock: socket.socket) -> None:
    """Give the running request's :class:`Abort` a handle on a socket.

    A duplicate: the TLS handshake moves the descriptor into another object, and the duplicate
    reaches the connection before, during and after.
    """
    abort: Abort | None = getattr(_current, "abort", None)
    if abort is None:
        return
    twin = socket.socket(sock.family, sock.type, sock.proto, fileno=os.dup(sock.fileno()))
    _current.twins.append(twin)

    def close() -> None:
        with contextlib.suppress(OSError):  # it may be closed, or not connected yet
            twin.shutdown(socket.SHUT_RDWR)

    abort.attach(close)


@contextlib.contextmanager
def _lending(abort: Abort | None) -> Iterator[None]:
    """Within this block, sockets of this thread can be shut down through ``abort``."""
    _current.abort, _current.twins, _current.fresh = abort, [], False
    twins = _current.twins
    try:
        yield
    finally:
        _current.abort = None
        if abort is not None:
            abort.detach()
        for twin in twins:
            twin.close()


class _Connection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        _current.fresh = True
        _lend(sock)
        return sock

    def request(self, *args: Any, **kwargs: Any) -> None:
        _lend_reused(self)
        super().request(*args, **kwargs)


class _TlsConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        _current.fresh = True
        _lend(sock)
        return sock

    def request(self, *args: Any, **kwargs: Any) -> None:
        _lend_reused(self)
        super().request(*args, **kwargs)


def _lend_reused(connection: HTTPConnection) -> None:
    if connection.sock is not None and not _current.fresh:
        _lend(connection.sock)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


# --- Credentials ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Access:
    """What a kubeconfig or a service account amounts to."""

    host: str
    authorization: str = field(default="", repr=False)
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify: bool = True
    server_name: str | None = None
    proxy: str | None = field(default=None, repr=False)
    files: tuple[Path, ...] = ()
    """A change in any of them means: read all of it again."""
    refresh: Callable[[], str] | None = None
    """Gives the authorization anew where it runs out by the clock."""

    def context(self) -> ssl.SSLContext | None:
        """TLS settings; none for plain HTTP."""
        if not self.host.startswith("https"):
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            # CAs made by many cluster installers lack an extension that newer Pythons insist on.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            if not self.verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if self.cert_file:
                # An encrypted key must fail, not ask at a terminal that nobody watches.
                context.load_cert_chain(self.cert_file, self.key_file, password="")
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or "unreadable"
            names = " or ".join(filter(None, (self.ca_file, self.cert_file, self.key_file)))
            raise SettingsError(f"a certificate or key file cannot be used ({reason}): {names}") from error
        return context


def _read_access(settings: ClusterSettings) -> _Access:
    """Find and read the credentials.

    :raises SettingsError: there are none, or they cannot be read.
    """
    in_cluster = (SERVICE_ACCOUNT / "token").is_file() and (SERVICE_ACCOUNT / "ca.crt").is_file()
    if settings.kubeconfig is not None:
        access = _read_kubeconfig(str(settings.kubeconfig), settings.context)
    elif settings.context is None and settings.master_url is not None:
        return _Access(host=settings.master_url.rstrip("/"))
    elif settings.context is None and in_cluster:
        return _read_service_account()
    else:
        access = _read_kubeconfig(os.environ.get("KUBECONFIG") or "~/.kube/config", settings.context)
    if settings.master_url is not None:
        access = dataclasses.replace(access, host=settings.master_url.rstrip("/"))
    return access


def _read_service_account() -> _Access:
    # Imported here and below only: the package costs a quarter of a second and 14 MB.
    from kubernetes.config import ConfigException
    from kubernetes.config.incluster_config import InClusterConfigLoader

    load: Any = InClusterConfigLoader
    token, ca = SERVICE_ACCOUNT / "token", SERVICE_ACCOUNT / "ca.crt"
    loaded = _blank()
    try:
        load(str(token), str(ca), try_refresh_token=False).load_and_set(loaded)
    except ConfigException as error:
        raise SettingsError(
            f"the pod's service account cannot be used: {error} Or name the cluster with --kubeconfig."
        ) from error
    except OSError as error:
        raise SettingsError(f"the pod's service account cannot be read: {error.strerror}") from error
    return _Access(host=loaded.host, authorization=_authorization(loaded), ca_file=str(ca), files=(token, ca))


def _read_kubeconfig(names: str, context: str | None) -> _Access:
    paths = tuple(Path(name).expanduser() for name in names.split(os.pathsep) if name)
    if not any(path.is_file() for path in paths):
        raise SettingsError(
            f"no kubeconfig at {names}, and this is no pod: "
            "name a cluster with --kubeconfig or --kube-master-url"
        )
    import yaml
    from kubernetes.config import ConfigException, load_kube_config

    load: Any = load_kube_config
    loaded = _blank()
    try:
        load(config_file=names, context=context, client_configuration=loaded, persist_config=False)
    except ConfigException as error:
        raise SettingsError(f"the kubeconfig {names} cannot be used: {_one_line(str(error))}") from error
    except OSError as error:
        raise SettingsError(
            f"the kubeconfig {names} cannot be read: {error.strerror}: {error.filename}"
        ) from error
    except yaml.YAMLError as error:
        # The parser's own text may quote the line, and the line may hold a token.
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark is not None else ""
        raise SettingsError(f"the kubeconfig {names} is not YAML{where}") from None
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        raise SettingsError(
            f"the kubeconfig {names} has not the form of one ({type(error).__name__})"
        ) from None
    if not loaded.host:
        raise SettingsError(f"the kubeconfig {names} names no server for this context")

    lock = threading.Lock()

    def refresh() -> str:
        with lock:
            hook = loaded.refresh_api_key_hook
            try:
                hook(loaded)
            except (ConfigException, OSError) as error:
                raise ApiUnavailable(
                    f"the credentials of the kubeconfig {names} cannot be renewed"
                ) from error
            return _authorization(loaded)

    return _Access(
        host=loaded.host,
        authorization=_authorization(loaded),
        ca_file=loaded.ssl_ca_cert,
        cert_file=loaded.cert_file,
        key_file=loaded.key_file,
        verify=loaded.verify_ssl,
        server_name=loaded.tls_server_name,
        proxy=loaded.proxy,
        files=tuple(
            path
            for path in (
                *paths,
                *(Path(f) for f in (loaded.ssl_ca_cert, loaded.cert_file, loaded.key_file) if f),
            )
        ),
        refresh=refresh if loaded.refresh_api_key_hook is not None else None,
    )


def _blank() -> SimpleNamespace:
    """What the loaders fill.  Not their ``Configuration``: that one takes proxies from the environment."""
    return SimpleNamespace(
        host="",
        api_key={},
        ssl_ca_cert=None,
        cert_file=None,
        key_file=None,
        verify_ssl=True,
        tls_server_name=None,
        proxy=None,
        refresh_api_key_hook=None,
    )


def _authorization(loaded: SimpleNamespace) -> str:
    # One entry, whose key has changed between releases.
    value = next(iter(loaded.api_key.values()), "")
    scheme, _, secret = value.strip().partition(" ")
    # Two loaders, two spellings.
    return f"{'Bearer' if scheme.lower() == 'bearer' else scheme} {secret.strip()}" if secret else ""


def _fingerprint(files: tuple[Path, ...]) -> tuple[object, ...]:
    """Changes whenever one of the files does; a mounted secret changes its inode."""

    def one(path: Path) -> object:
        try:
            stat = path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    return tuple(one(path) for path in files)


# --- The connection ---------------------------------------------------------------------------------


class _Session:
    """One reading of the credentials, with the pool that belongs to it."""

    def __init__(self, access: _Access, generation: int) -> None:
        self.access = access
        self.generation = generation
        self.fingerprint = _fingerprint(access.files)
        if not access.verify:
            urllib3.disable_warnings(InsecureRequestWarning)
        options: dict[str, Any] = {"socket_options": list(_KEEPALIVE), "maxsize": 16}
        context = access.context()
        if context is not None:
            options["ssl_context"] = context
            options["cert_reqs"] = "CERT_REQUIRED" if access.verify else "CERT_NONE"
            if access.server_name:
                options["server_hostname"] = access.server_name
        self.pool: urllib3.PoolManager = (
            urllib3.ProxyManager(access.proxy, **options) if access.proxy else urllib3.PoolManager(**options)
        )
        self.pool.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    def headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": f"kube2etcd/{__version__}"}
        authorization = self.access.refresh() if self.access.refresh else self.access.authorization
        if authorization:
            headers["Authorization"] = authorization
        return headers


class ApiConnection:
    """Requests to one API server; may be used from several threads.

    Credentials are looked at before every request: changed files are read again, a token that ran
    out is renewed, and a 401 makes everything be read again and the request be repeated, once.
    """

    def __init__(self, settings: ClusterSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._session = _Session(_read_access(settings), 0)
        _check_url(self._session.access.host)
        self.reloads = 0
        """How often credentials were read again."""
        if not self._session.access.verify:
            _log.warning("the certificate of %s is not checked, as the kubeconfig says", self.server)

    @property
    def server(self) -> str:
        """The server's URL, without whatever secret it may carry."""
        return _public(self._session.access.host)

    def get(
        self, path: str, params: Mapping[str, str], *, timeout: float, abort: Abort | None = None
    ) -> Response:
        """Fetch one complete answer within ``timeout`` seconds altogether.

        :raises ApiError: anything but a complete 2xx answer, as the class that says what to do.
        """
        deadline = time.monotonic() + timeout
        limits = urllib3.Timeout(connect=min(CONNECT_TIMEOUT, timeout), read=timeout)
        with _lending(abort):
            session, response = self._send(path, params, limits, timeout)
            explain = self._explainer(session, timeout, abort, whole=True)
            try:
                body = self._read_all(response, deadline, timeout, explain)
            finally:
                response.close()  # back in the pool if it was read to its end, gone otherwise
            return Response(response.status, response.headers, body)

    @contextlib.contextmanager
    def stream(
        self,
        path: str,
        params: Mapping[str, str],
        *,
        connect_timeout: float,
        read_timeout: float,
        abort: Abort | None = None,
    ) -> Iterator[Stream]:
        """Open an answer that arrives line by line.

        ``connect_timeout`` holds for TCP, for TLS and for the answer's first byte; after that the
        stream may be silent for ``read_timeout`` seconds.

        :raises ApiError: as for :meth:`get`; later, while iterating, :class:`ApiUnavailable`.
        """
        limits = urllib3.Timeout(connect=connect_timeout, read=connect_timeout)
        with _lending(abort):
            session, response = self._send(path, params, limits, connect_timeout)
            try:
                # The first byte is here: from now on silence means something else.
                connection = response.connection
                if connection is not None and getattr(connection, "sock", None) is not None:
                    connection.sock.settimeout(read_timeout)  # type: ignore[attr-defined]
                yield Stream(response, self._explainer(session, read_timeout, abort))
            finally:
                # Never back into the pool: there may be more to come that nobody reads.
                response.close()

    def close(self) -> None:
        """Close idle connections."""
        self._session.pool.clear()

    # -- inner

    def _send(
        self, path: str, params: Mapping[str, str], limits: urllib3.Timeout, seconds: float
    ) -> tuple[_Session, urllib3.BaseHTTPResponse]:
        session = self._current_session()
        response = self._send_once(session, path, params, limits, seconds)
        if response.status == 401:  # the token may have been replaced a moment ago
            response.close()
            session = self._reload(session.generation)
            response = self._send_once(session, path, params, limits, seconds)
        if 200 <= response.status < 300:
            return session, response
        try:
            raise self._refusal(session, path, params, response)
        finally:
            response.close()

    def _send_once(
        self,
        session: _Session,
        path: str,
        params: Mapping[str, str],
        limits: urllib3.Timeout,
        seconds: float,
    ) -> urllib3.BaseHTTPResponse:
        url = session.access.host + quote(path) + ("?" + urlencode(params) if params else "")
        abort: Abort | None = getattr(_current, "abort", None)
        if abort is not None and abort.triggered:
            raise ApiUnavailable("the request was called off")
        explain = self._explainer(session, seconds, abort)
        request = partial(
            session.pool.request,
            "GET",
            url,
            timeout=limits,
            retries=False,
            redirect=False,
            preload_content=False,
        )
        try:
            headers = session.headers()
            try:
                return request(headers=headers)
            except ProtocolError:
                # An idle connection that the server closed just as we took it up again: once more, anew.
                if _current.fresh or (abort is not None and abort.triggered):
                    raise
                session.pool.clear()
                return request(headers=headers)
        except (HTTPError, OSError, ValueError) as error:
            # A ValueError may quote the header that it does not like, so its text goes nowhere.
            raise explain(error) from (None if isinstance(error, ValueError) else error)

    @staticmethod
    def _read_all(
        response: urllib3.BaseHTTPResponse,
        deadline: float,
        timeout: float,
        explain: Callable[[Exception], ApiError],
    ) -> bytes:
        parts = []
        try:
            while chunk := response.read1(READ_SIZE):
                parts.append(chunk)
                if time.monotonic() > deadline:
                    raise ApiUnavailable(f"the answer was not complete after {timeout:g} s")
        except (HTTPError, OSError, ValueError) as error:
            raise explain(error) from error
        return b"".join(parts)

    def _current_session(self) -> _Session:
        session = self._session
        if _fingerprint(session.access.files) != session.fingerprint:
            return self._reload(session.generation)
        return session

    def _reload(self, seen: int) -> _Session:
        """Read the credentials again, unless another thread has done so since ``seen``."""
        with self._lock:
            old = self._session
            if old.generation != seen:
                return old
            try:
                new = _Session(_read_access(self._settings), old.generation + 1)
            except SettingsError as error:
                # Half-written or gone for a moment: what we have may still be good.
                _log.warning("keeping the old credentials for %s: %s", self.server, error)
                return old
            self._session = new
            self.reloads += 1
            old.pool.clear()
            return new

    def _explainer(
        self, session: _Session, seconds: float, abort: Abort | None, *, whole: bool = False
    ) -> Callable[[Exception], ApiError]:
        server = _public(session.access.host)

        def explain(error: Exception) -> ApiError:
            if abort is not None and abort.triggered:
                return ApiUnavailable("the request was called off")
            return _explain(server, error, seconds, whole=whole)

        return explain

    def _refusal(
        self,
        session: _Session,
        path: str,
        params: Mapping[str, str],
        response: urllib3.BaseHTTPResponse,
    ) -> ApiError:
        """The error that stands for a status other than 2xx."""
        status = response.status
        server = _public(session.access.host)
        asked = _asked(path, params)
        said = self._said(session, response)
        told = f": {said}" if said else ""
        if status == 401:
            who = (
                "the credentials are"
                if session.access.authorization or session.access.cert_file
                else ("there are no credentials, and a request without any is")
            )
            return ApiForbidden(
                f"{server} does not know us when we {asked} (401{told}): {who} not accepted; "
                "correct the token, certificate or exec plugin of the kubeconfig or service account"
            )
        if status == 403:
            return ApiForbidden(
                f"{server} forbids us to {asked} (403{told}); grant this right to our account with RBAC"
            )
        if status == 404:
            return ApiNotFound(f"{server} cannot {asked} (404): this kind is not installed there")
        if status == 410:
            return ApiGone(f"{server} no longer has the version from which we {asked} (410{told})")
        retry_after = _retry_after(response.headers.get("Retry-After"))
        if status == 429 or (status >= 500 and retry_after is not None):
            return ApiTooMany(
                f"{server} asks us to wait before we {asked} ({status}{told})",
                1.0 if retry_after is None else retry_after,
            )
        if status >= 500:
            return ApiUnavailable(f"{server} fails when we {asked} ({status}{told}); trying again")
        if 300 <= status < 400:
            return ApiUnavailable(f"{server} redirects elsewhere ({status}); is it a Kubernetes API server?")
        return ApiRefused(f"{server} refuses when we {asked} ({status}{told})", status)

    @staticmethod
    def _said(session: _Session, response: urllib3.BaseHTTPResponse) -> str:
        """The server's own message, shortened, and without our token should it echo it."""
        try:
            body = response.read1(4096)
            text = msgspec.json.decode(body, type=_StatusBody).message or ""
        except msgspec.MsgspecError:
            text = body.decode("utf-8", "replace") if not body.lstrip().startswith(b"<") else ""
        except (HTTPError, OSError, ValueError):
            return ""
        secret = session.access.authorization.partition(" ")[2]
        if secret:
            text = text.replace(secret, "…")
        return _one_line(text)


class _StatusBody(msgspec.Struct):
    message: str | None = None


def connect(settings: ClusterSettings) -> ApiConnection:
    """Read the credentials and make a connection; no request is sent yet.

    Nothing given: the pod's service account if there is one, else the default kubeconfig.

    :raises SettingsError: no cluster is named, or the credentials cannot be read.
    """
    return ApiConnection(settings)


# --- Words ------------------------------------------------------------------------------------------


def _check_url(host: str) -> None:
    parts = urlsplit(host)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(
            f"{_public(host)!r} is no address of an API server; it should look like https://HOST:PORT"
        )


def _public(host: str) -> str:
    """A URL without user, password and query."""
    return re.sub(r"(?<=//)[^/@]*@|[?#].*", "", host)


def _one_line(text: str, limit: int = 300) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _retry_after(value: str | None) -> float | None:
    try:
        return max(0.0, float(value)) if value is not None else None
    except ValueError:
        return 1.0  # a date; the API server writes seconds, so a proxy did: be brief and ask again


def _asked(path: str, params: Mapping[str, str]) -> str:
    """In words: ``list endpointslices.discovery.k8s.io in namespace demo``."""
    verb = "watch" if params.get("watch") in ("true", "1") else "list"
    parts = path.strip("/").split("/")
    if parts[:1] == ["api"]:
        group, rest = "", parts[2:]
    elif parts[:1] == ["apis"] and len(parts) > 1:
        group, rest = "." + parts[1], parts[3:]
    else:
        return f"get {path}"
    if not rest:
        return f"get {path}"
    if len(rest) >= 3 and rest[0] == "namespaces":
        return f"{verb} {rest[2]}{group} in namespace {rest[1]}"
    return f"{verb} {rest[0]}{group}"


def _explain(server: str, error: Exception, seconds: float, *, whole: bool) -> ApiError:
    """One sentence for a failure below HTTP.  The causes' own texts are not passed on unseen."""
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
    if isinstance(error, NewConnectionError):  # urllib3 counts it among the timeouts as well
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


def _tls_reason(error: ssl.SSLError) -> str:
    return (error.reason or "unknown reason").replace("_", " ").lower()


def _root(error: BaseException) -> BaseException:
    """The innermost cause; urllib3 wraps some in arguments and some in ``__cause__``."""
    for _ in range(8):
        inner = error.__cause__ or next((a for a in error.args if isinstance(a, BaseException)), None)
        if inner is None:
            break
        error = inner
    return error
