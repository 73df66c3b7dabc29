"""Connections to one server of etcd's v2 API: the only place of the project that imports ``requests``.

TLS files and credentials are those of the settings alone: the environment's proxies, CA bundles and
``.netrc`` have no say.  ``requests`` makes the pool of connections and opens watches; single requests go
to the pool itself, since what ``requests`` does around each of them costs as much again as all the rest
(``tests/bench/v2_keys.py``).  Knows HTTP; must never let an error of ``requests`` out, never wait without a
limit, never follow a redirection, never log or show a password, and decides nothing about servers:
`kube2etcd.etcd.v2_http` does.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

import requests
import urllib3
from requests.adapters import HTTPAdapter

from kube2etcd.errors import EtcdUnavailable
from kube2etcd.etcd import v2_failures
from kube2etcd.etcd.settings import Endpoint, EtcdSettings
from kube2etcd.etcd.v2_nodes import Reply, decode

log = logging.getLogger(__name__)

#: Requests on their way at once.
IN_FLIGHT = 8
# Watches that may stand beside them, one of them about to end.
_WATCHES = 4


class LeftError(Exception):
    """These connections were closed before anything was sent."""


class NoAnswerError(Exception):
    """No answer came; ``meaning`` is what the caller is to be told."""

    def __init__(self, meaning: EtcdUnavailable) -> None:
        super().__init__(str(meaning))
        self.meaning = meaning


@dataclass(frozen=True, slots=True)
class Response:
    """What the server sent."""

    status: int
    reason: str
    index: int | None
    """How far etcd was; None where it does not say."""
    body: bytes


class Session:
    """Connections to one server, with the credentials as they were when it was made."""

    def __init__(self, endpoint: Endpoint, settings: EtcdSettings) -> None:
        """Read the TLS files and the password as they are now; nothing is sent yet.

        :raises OSError: a TLS file cannot be used.
        :raises EtcdUnauthenticated: the password file cannot.
        """
        self.endpoint = endpoint
        self._timeout = settings.timeout
        self._http = requests.Session()
        # Neither proxies, nor REQUESTS_CA_BUNDLE, nor a .netrc.
        self._http.trust_env = False
        adapter = HTTPAdapter(pool_maxsize=IN_FLIGHT + _WATCHES, max_retries=0)
        for scheme in ("http://", "https://"):
            self._http.mount(scheme, adapter)
        if endpoint.tls:
            settings.try_tls_files()
            self._http.verify = str(settings.authority_file())
            if settings.certfile is not None and settings.keyfile is not None:
                self._http.cert = (str(settings.certfile), str(settings.keyfile))
        if settings.user is not None:
            # As bytes: requests would write text in Latin-1.
            self._http.auth = (settings.user.encode(), settings.password().encode())  # type: ignore[assignment]
        like_all = self._http.prepare_request(requests.Request("GET", str(endpoint)))
        self._headers = dict(like_all.headers)
        pool = adapter.get_connection_with_tls_context(
            like_all, verify=self._http.verify or True, cert=self._http.cert
        )
        assert isinstance(pool, urllib3.HTTPConnectionPool)
        self._pool = pool

    def request(
        self, method: str, url: str, params: Mapping[str, str], data: Mapping[str, bytes] | None
    ) -> Response:
        """One request; ``url`` is the path as a URL has it.

        :raises NoAnswerError: within the timeout.
        :raises LeftError: it may be sent to another server, or with other credentials.
        """
        headers, body = self._headers, None
        if data is not None:
            headers = headers | {"Content-Type": "application/x-www-form-urlencoded"}
            body = urlencode(data)
        try:
            response = self._pool.urlopen(
                method,
                f"{url}?{urlencode(params)}" if params else url,
                body=body,
                headers=headers,
                retries=False,
                redirect=False,
                timeout=urllib3.Timeout(self._timeout, self._timeout),
            )
            return Response(response.status, response.reason or "", _index(response.headers), response.data)
        except urllib3.exceptions.ClosedPoolError as error:
            raise LeftError from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise NoAnswerError(self._meaning(method, error)) from error

    @contextlib.contextmanager
    def watch(self, url: str, params: Mapping[str, str]) -> Iterator[Response | Stream]:
        """The events of a watch, as they come, over a connection of its own; or the refusal.

        :raises NoAnswerError: when it cannot be opened, or breaks in the middle of something.
        """
        try:
            with self._http.get(
                f"{self.endpoint}{url}",
                params=params,
                stream=True,
                timeout=self._timeout,
                allow_redirects=False,
            ) as response:
                if response.status_code != 200:
                    index = _index(response.headers)
                    yield Response(response.status_code, response.reason or "", index, response.content)
                else:
                    yield Stream(str(self.endpoint), response)
        except (requests.RequestException, OSError) as error:
            raise NoAnswerError(self._meaning("Watch", error)) from error

    def close(self) -> None:
        """Close what is idle."""
        self._http.close()

    def _meaning(self, what: str, error: Exception) -> EtcdUnavailable:
        server = str(self.endpoint)
        if isinstance(error, (requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError)):
            return v2_failures.silent(server, what)
        if isinstance(error, (requests.RequestException, urllib3.exceptions.HTTPError)):
            return v2_failures.unreachable(server, what, _reason(error))
        # A rotation that is half done: the next attempt reads the files again.
        return EtcdUnavailable(f"the TLS files for etcd at {server} cannot be read: {error}")


class Stream:
    """An open watch."""

    def __init__(self, server: str, response: requests.Response) -> None:
        self.server = server
        self._response = response
        self.index = _index(response.headers) or 0
        """How far etcd was when it began to watch: what it tells first is all up to here."""

    def replies(self) -> Iterator[Reply]:
        """The events, one a line, until the server is quiet for the timeout or ends it."""
        rest = b""
        try:
            for piece in self._response.iter_content(None):
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    if line.strip():
                        yield decode(line)
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
            # Quiet and gone look the same from here; the next request tells them apart.
            log.debug("the watch on etcd at %s paused: %s", self.server, _reason(error))
        except ValueError:
            raise v2_failures.unreachable(self.server, "Watch", "the answer is not etcd's") from None


def _index(headers: Mapping[str, str]) -> int | None:
    index = headers.get("X-Etcd-Index", "")
    return int(index) if index.isdigit() else None


def _reason(error: Exception) -> str:
    """The last words of a chain of reasons, without object addresses."""
    deepest: BaseException = error
    for _ in range(8):
        following = deepest.__cause__ or deepest.__context__
        if following is None:
            break
        deepest = following
    words = str(deepest) or type(deepest).__name__
    return words if len(words) <= 200 else f"{words[:199]}…"
