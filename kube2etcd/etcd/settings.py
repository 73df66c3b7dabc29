"""Where etcd is and how to prove who we are: values, checked before anything is connected.

Knows URLs and files; must never open a connection, import gRPC, or put a password into a message.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from kube2etcd.errors import EtcdUnauthenticated, SettingsError

DEFAULT_PORT = 2379


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server."""

    host: str
    """As gRPC wants it: an IPv6 address in brackets."""
    port: int
    tls: bool

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"


@dataclass(frozen=True)
class EtcdSettings:
    """Everything that says how etcd is reached."""

    servers: tuple[str, ...] = (f"http://127.0.0.1:{DEFAULT_PORT}",)
    cafile: Path | None = None
    certfile: Path | None = None
    keyfile: Path | None = None
    user: str | None = None
    password_file: Path | None = None
    timeout: float = 5.0
    """Seconds that any one request may take."""

    def endpoints(self) -> tuple[Endpoint, ...]:
        """The servers in the order given; every fault of the settings at once as SettingsError."""
        faults: list[str] = []
        endpoints: list[Endpoint] = []
        for server in self.servers:
            try:
                endpoints.append(parse_server(server))
            except SettingsError as error:
                faults.extend(error.faults)
        if not self.servers:
            faults.append("no etcd server is given: give at least one URL, such as http://127.0.0.1:2379")
        faults.extend(self._tls_faults(endpoints))
        faults.extend(self._password_faults())
        if not self.timeout > 0:
            faults.append(f"the etcd timeout is {self.timeout} seconds: give more than 0")
        if faults:
            raise SettingsError(*faults)
        return tuple(endpoints)

    def authority_file(self) -> Path:
        """The certificates that sign the server's; the system's when none are given."""
        if self.cafile is not None:
            return self.cafile
        system = ssl.get_default_verify_paths().cafile
        if system is None:
            raise SettingsError("an etcd server is https and the system has no CA file: give the CA file")
        return Path(system)

    def password(self) -> str:
        """The password as it is in its file now; EtcdUnauthenticated while there is none.

        A secret may be mounted late, or be half-written: no fault of the settings, and no reason to end.
        """
        if self.password_file is None:
            return ""
        file = f"the etcd password file {self.password_file}"
        try:
            # Editors and `echo` end a file with a line end, which is no part of the password.
            password = self.password_file.read_text("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise EtcdUnauthenticated(f"{file} is not UTF-8 text") from None
        except OSError as error:
            raise EtcdUnauthenticated(f"{file} cannot be read: {error.strerror}") from error
        if not password:
            raise EtcdUnauthenticated(f"{file} is empty")
        return password

    def try_tls_files(self) -> None:
        """Read the certificates and the key, and see whether they belong together.

        :raises OSError: one cannot be read, is empty or is none.
        :raises SettingsError: none are given, and the system has none.
        """
        context = ssl.create_default_context(cafile=str(self.authority_file()))
        if self.certfile is not None and self.keyfile is not None:
            # A password callback, so that a key with a password is an error and no question.
            context.load_cert_chain(self.certfile, self.keyfile, password=lambda: "")

    def _tls_faults(self, endpoints: list[Endpoint]) -> list[str]:
        given = [file for file in (self.cafile, self.certfile, self.keyfile) if file is not None]
        if (self.certfile is None) != (self.keyfile is None):
            return ["the etcd client certificate and its key belong together: give both or neither"]
        if endpoints and not any(endpoint.tls for endpoint in endpoints):
            if given:
                # Somebody believes that the connection is encrypted; silence would leave it so.
                return [f"{given[0]} is given for etcd, but no etcd server is https"]
            return []
        if not endpoints:
            return []
        try:
            self.try_tls_files()
        except SettingsError as error:
            return list(error.faults)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            names = ", ".join(str(file) for file in given) or "the system's CA file"
            return [f"the TLS files for etcd cannot be used ({names}): {error}"]
        return []

    def _password_faults(self) -> list[str]:
        if (self.user is None) != (self.password_file is None):
            return ["the etcd user and its password file belong together: give both or neither"]
        return []


def parse_server(text: str) -> Endpoint:
    """An etcd URL; what is left out is port 2379."""
    hint = "write it as http://HOST:2379 or https://HOST:2379"
    try:
        url = urlsplit(text.strip())
        port = url.port
    except ValueError as error:
        raise SettingsError(f"the etcd server {_shown(text)!r} is no URL ({error}): {hint}") from None
    if url.scheme not in ("http", "https") or not url.hostname:
        raise SettingsError(f"the etcd server {_shown(text)!r} is no http or https URL: {hint}")
    if url.username is not None or url.password is not None:
        raise SettingsError(
            f"the etcd server {_shown(text)!r} holds a user: give it as etcd user, with a password file"
        )
    if url.path not in ("", "/") or url.query or url.fragment:
        raise SettingsError(f"the etcd server {_shown(text)!r} has something behind the port: {hint}")
    if port == 0 or any(char.isspace() or char in "%,;" for char in url.hostname):
        raise SettingsError(f"the etcd server {_shown(text)!r} has a bad host or port: {hint}")
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    return Endpoint(host, DEFAULT_PORT if port is None else port, url.scheme == "https")


def _shown(text: str) -> str:
    """The URL for a message: whatever stands before an @ may be a password."""
    before, at, after = text.rpartition("@")
    scheme, slashes, _ = before.partition("://")
    if not at:
        return text
    return f"{scheme}://…@{after}" if slashes else f"…@{after}"
