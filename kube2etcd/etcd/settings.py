"""Where etcd is, and the credentials for it."""

from __future__ import annotations

import ssl
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from kube2etcd.errors import EtcdUnauthenticated, SettingsError

DEFAULT_PORT = 2379


class EtcdServer(msgspec.Struct, frozen=True):
    """One server."""

    host: str
    """As gRPC wants it: an IPv6 address in brackets."""
    port: int
    tls: bool

    @classmethod
    def parse(cls, url: str) -> EtcdServer:
        """The server at a URL that `kube2etcd.settings` has checked; the default port is 2379."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        return cls(f"[{host}]" if ":" in host else host, parts.port or DEFAULT_PORT, parts.scheme == "https")

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"


class EtcdSettings(msgspec.Struct, frozen=True):
    """How etcd is reached; URLs and combinations were checked by `kube2etcd.settings`."""

    servers: tuple[str, ...] = (f"http://127.0.0.1:{DEFAULT_PORT}",)
    cafile: Path | None = None
    certfile: Path | None = None
    keyfile: Path | None = None
    user: str | None = None
    password_file: Path | None = None
    timeout: float = 5.0
    """Seconds that any one request may take."""

    def endpoints(self) -> tuple[EtcdServer, ...]:
        """The servers in the order given; `SettingsError`: the TLS files cannot be used."""
        found = tuple(map(EtcdServer.parse, self.servers))
        if any(endpoint.tls for endpoint in found):
            try:
                self.try_tls_files()
            except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
                given = filter(None, (self.cafile, self.certfile, self.keyfile))
                names = ", ".join(map(str, given)) or "the system's CA file"
                raise SettingsError(f"the TLS files for etcd cannot be used ({names}): {error}") from error
        return found

    def authority_file(self) -> Path:
        """The CA bundle given, or the system's."""
        if self.cafile is not None:
            return self.cafile
        system = ssl.get_default_verify_paths().cafile
        if system is None:
            raise SettingsError("an etcd server is https and the system has no CA file: give the CA file")
        return Path(system)

    def password(self) -> str:
        """The password in its file now; empty without one.

        :raises EtcdUnauthenticated: not readable, which may pass: secrets are mounted late or half-written.
        """
        if self.password_file is None:
            return ""
        file = f"the etcd password file {self.password_file}"
        try:
            # Editors and `echo` append a newline.
            password = self.password_file.read_text("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise EtcdUnauthenticated(f"{file} is not UTF-8 text") from None
        except OSError as error:
            raise EtcdUnauthenticated(f"{file} cannot be read: {error.strerror}") from error
        if not password:
            raise EtcdUnauthenticated(f"{file} is empty")
        return password

    def try_tls_files(self) -> None:
        """Read the certificates and the key, and check that they belong together.

        :raises OSError: one is unreadable, empty or invalid (ssl.SSLError).
        :raises SettingsError: none are given, and the system has none.
        """
        context = ssl.create_default_context(cafile=str(self.authority_file()))
        if self.certfile is not None and self.keyfile is not None:
            # The callback makes an encrypted key an error instead of a prompt.
            context.load_cert_chain(self.certfile, self.keyfile, password=lambda: "")
