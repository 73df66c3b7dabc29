"""A throw-away certificate authority."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its private key, as PEM files."""

    cert_file: Path
    key_file: Path


class Authority:
    """A CA that lives in a folder; each certificate it issues is a pair of files beside it."""

    def __init__(self, directory: Path, name: str = "test-ca") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.ca_file = directory / f"{name}.crt"
        self._ca = trustme.CA(organization_unit_name=name)
        self._ca.cert_pem.write_to_path(self.ca_file)

    def issue(self, name: str, group: str = "", *, file: str = "", hosts: Sequence[str] = ()) -> KeyPair:
        """A certificate for the loopback addresses and ``hosts``, good for servers and clients.

        ``name`` becomes the common name (a user's name to the API server and to etcd), ``group`` the
        organization.
        """
        made = self._ca.issue_cert(
            *("localhost", "127.0.0.1", "::1", *hosts), common_name=name, organization_name=group or None
        )
        pair = KeyPair(*(self.directory / f"{file or name}.{kind}" for kind in ("crt", "key")))
        made.cert_chain_pems[0].write_to_path(pair.cert_file)
        made.private_key_pem.write_to_path(pair.key_file)
        return pair
