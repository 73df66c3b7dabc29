"""One reading of the credentials, with the pool of connections that belongs to it.

What it may know: HTTP pools and what a kubeconfig says of them.  What it must never do: read the
credentials anew, let the environment's proxy or CA variables decide, or send a request.
"""

from __future__ import annotations

import socket
from typing import Any, Final

import urllib3
from urllib3.exceptions import InsecureRequestWarning

from kube2etcd import __version__
from kube2etcd.kube.abort import AbortablePool, AbortableTlsPool
from kube2etcd.kube.credentials import Access, fingerprint
from kube2etcd.kube.failures import check_proxy, check_url

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


class Session:
    """One reading of the credentials, with the pool that belongs to it.

    :raises SettingsError: they name no server or proxy that can be asked, or a file that cannot be used.
    """

    def __init__(self, access: Access, generation: int) -> None:
        check_url(access.host)
        if access.proxy:
            check_proxy(access.proxy)
        self.access = access
        self.generation = generation
        self.doubtful = False
        """Whether the server may have ended a handshake because of our certificate."""
        self.fingerprint = fingerprint(access.files)
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
        self.pool.pool_classes_by_scheme = {"http": AbortablePool, "https": AbortableTlsPool}

    @property
    def stale(self) -> bool:
        """Whether the credentials are to be read again before the next request."""
        return self.doubtful or fingerprint(self.access.files) != self.fingerprint

    def headers(self) -> dict[str, str]:
        """What every request carries; a token that ran out is renewed for it."""
        headers = {"Accept": "application/json", "User-Agent": f"kube2etcd/{__version__}"}
        authorization = self.access.refresh() if self.access.refresh else self.access.authorization
        if authorization:
            headers["Authorization"] = authorization
        return headers
