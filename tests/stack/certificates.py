"""A throwaway certificate authority."""

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
    """A CA in a directory, to which it issues its certificates."""

    def __init__(self, directory: Path, name: str = "test-ca") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.ca_file = directory / f"{name}.crt"
        self._ca = trustme.CA(organization_unit_name=name)
        self._ca.cert_pem.write_to_path(self.ca_file)

    def issue(self, name: str, group: str = "", *, file: str = "", hosts: Sequence[str] = ()) -> KeyPair:
        """A certificate for the loopback addresses and ``hosts``, for servers and clients.

        ``name`` is the common name (the user, to the API server and etcd), ``group`` the organization.
        """
        made = self._ca.issue_cert(
            *("localhost", "127.0.0.1", "::1", *hosts), common_name=name, organization_name=group or None
        )
        pair = KeyPair(*(self.directory / f"{file or name}.{kind}" for kind in ("crt", "key")))
        made.cert_chain_pems[0].write_to_path(pair.cert_file)
        made.private_key_pem.write_to_path(pair.key_file)
        return pair
