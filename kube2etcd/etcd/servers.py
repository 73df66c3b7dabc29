"""etcd's servers, the credentials for them, and failover from one to the next, for both APIs."""

from __future__ import annotations

import logging
import math
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Protocol, Self, TypeVar

from urllib3.util import Url, parse_url

from kube2etcd.errors import EtcdNoSpace, EtcdUnauthenticated, EtcdUnavailable, SettingsError
from kube2etcd.settings import Etcd

log = logging.getLogger(__name__)

DEFAULT_PORT = 2379
#: Seconds for each request.
TIMEOUT = 5.0

_T = TypeVar("_T")
_Conn = TypeVar("_Conn", bound="_Closable")


def endpoint_of(url: str) -> Url:
    """Scheme, host (an IPv6 address in brackets, as gRPC wants it) and port of a server; the default is 2379.

    ``url`` has been checked by `kube2etcd.settings`.
    """
    found = parse_url(url)
    return Url(found.scheme, host=found.host, port=found.port or DEFAULT_PORT)


def endpoints(settings: Etcd) -> tuple[Url, ...]:
    """The servers in the given order; `SettingsError`: the TLS files cannot be used."""
    found = tuple(map(endpoint_of, settings.servers))
    if any(endpoint.scheme == "https" for endpoint in found):
        try:
            tls_files(settings)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            given = filter(None, (settings.cafile, settings.cert, settings.key))
            names = ", ".join(given) or "the system's CA file"
            raise SettingsError(f"the TLS files for etcd cannot be used ({names}): {error}") from error
    return found


def tls_files(settings: Etcd) -> tuple[str, tuple[str, str] | None]:
    """The CA bundle, given or the system's, and our certificate with its key, after a trial load.

    :raises OSError: one is unreadable, empty or invalid (ssl.SSLError), or they do not match.
    :raises SettingsError: no CA is given, and the system has none.
    """
    authority = settings.cafile or ssl.get_default_verify_paths().cafile
    if authority is None:
        raise SettingsError("an etcd server is https and the system has no CA file: give the CA file")
    context = ssl.create_default_context(cafile=authority)
    if settings.cert is None or settings.key is None:
        return authority, None
    # With the callback, an encrypted key is an error instead of a prompt.
    context.load_cert_chain(settings.cert, settings.key, password=lambda: "")
    return authority, (settings.cert, settings.key)


def password(settings: Etcd) -> str:
    """The password as now in its file; empty if there is no file.

    :raises EtcdUnauthenticated: it cannot be read now; a secret may be mounted late or half-written.
    """
    if settings.password_file is None:
        return ""
    file = f"the etcd password file {settings.password_file}"
    try:
        # Editors and `echo` append a newline.
        password = Path(settings.password_file).read_text("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise EtcdUnauthenticated(f"{file} is not UTF-8 text") from None
    except OSError as error:
        raise EtcdUnauthenticated(f"{file} cannot be read: {error.strerror}") from error
    if not password:
        raise EtcdUnauthenticated(f"{file} is empty")
    return password


class _Closable(Protocol):
    def close(self) -> None: ...


class Failover(Generic[_Conn]):
    """The configured servers as one: a connection to one of them, and to the next when that fails.

    Connects on first use.  Thread-safe.
    """

    def __init__(self, settings: Etcd, timeout: float = TIMEOUT) -> None:
        """Read the TLS files (`SettingsError`); does not connect yet.

        ``timeout``: seconds for each request.
        """
        self.settings, self.timeout = settings, timeout
        self.endpoints = endpoints(settings)
        self._lock = threading.RLock()
        self._current: _Conn | None = None
        self._turn = 0
        self._closed = False

    def current(self) -> _Conn:
        """The current connection, made if necessary with the current TLS and password files."""
        with self._lock:
            if self._closed:
                raise closed_error()
            if self._current is None:
                endpoint = self.endpoints[self._turn % len(self.endpoints)]
                try:
                    self._current = self._connect(endpoint)
                except (OSError, ValueError) as error:
                    # Perhaps a rotation in progress: the next attempt reads the files again.
                    raise EtcdUnavailable(
                        f"the TLS files for etcd at {endpoint} cannot be read: {error}"
                    ) from error
            return self._current

    def leave(self, conn: _Conn, turn: int = 1) -> None:
        """Close the connection if it is still current; the next one is to the ``turn``-th server after it.

        Reconnecting would use the old certificates; a new connection is made or fails at once.
        """
        with self._lock:
            if conn is self._current:
                self._turn += turn
                self._current = None
                conn.close()

    def close(self) -> None:
        """Close for good: requests in flight and all later ones fail as EtcdUnavailable."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connect(self, endpoint: Url) -> _Conn:
        raise NotImplementedError


def try_each(servers: int, attempt: Callable[[], _T], until: float = math.inf) -> _T:
    """Try an idempotent request once per server; a failure moves the connection to the next one.

    None is asked after ``until`` (`time.monotonic`).  Raises the last server's EtcdUnavailable, or at once
    any error that another server would not cure.
    """
    for _ in range(servers - 1):
        try:
            return attempt()
        except (EtcdUnauthenticated, EtcdNoSpace):
            raise
        except EtcdUnavailable as error:
            if time.monotonic() > until:
                raise
            log.info("%s", error)
    return attempt()


def closed_error() -> EtcdUnavailable:
    """The error of every request after `Failover.close`."""
    return EtcdUnavailable("the connection to etcd is closed")
