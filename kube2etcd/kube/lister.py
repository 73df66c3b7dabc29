"""A complete list of one kind, page by page.

What it may know: the list protocol.  What it must never do: take a part for the whole, or an error for an
empty list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Final, Protocol

from kube2etcd.errors import ApiGone, ApiUnavailable
from kube2etcd.kube.abort import Abort
from kube2etcd.kube.client import Response
from kube2etcd.kube.objects import ApiObject, Kind, Page, Rejected, decode_list

PAGE_SIZE: Final = 500
"""Objects per page: about 2 MB of JSON at most times, so a list never needs much memory at once."""

LIST_TIMEOUT: Final = 60.0
"""Seconds for one page, altogether; the API server itself gives up after as many."""


class ListerWatcher(Protocol):
    """What a Reflector needs of the connection; tests give it one that has no sockets."""

    def get(
        self, path: str, params: Mapping[str, str], *, timeout: float, abort: Abort | None = None
    ) -> Response:
        """Fetch one complete answer."""
        ...

    def stream(
        self,
        path: str,
        params: Mapping[str, str],
        *,
        connect_timeout: float,
        read_timeout: float,
        abort: Abort | None = None,
    ) -> AbstractContextManager[Iterable[bytes]]:
        """Open an answer that arrives line by line."""
        ...


def selectors(kind: Kind) -> dict[str, str]:
    """The parameters that narrow a list or a watch of ``kind``."""
    given = {"labelSelector": kind.label_selector, "fieldSelector": kind.field_selector}
    return {key: value for key, value in given.items() if value}


class Lister:
    """Lists one kind; ``bytes_read`` and ``expired`` only grow."""

    def __init__(self, kind: Kind, connection: ListerWatcher, path: str, abort: Abort) -> None:
        self.bytes_read = 0
        self.expired = 0
        self._kind, self._connection, self._path, self._abort = kind, connection, path, abort

    def read(self) -> tuple[list[ApiObject], list[Rejected], str]:
        """All pages of one list.

        No resourceVersion is given, other than client-go's first list: the answer is then the most
        recent state, read in pages.  With ``0`` it would come from any server's cache, perhaps older
        than what this process has already written, and in one piece however large.
        """
        try:
            return self._read_pages(PAGE_SIZE)
        except ApiGone:
            # The continue token grew too old on the way, or the server has compacted: in one piece then,
            # which cannot expire.
            self.expired += 1
            return self._read_pages(0)

    def _read_pages(self, size: int) -> tuple[list[ApiObject], list[Rejected], str]:
        objects: list[ApiObject] = []
        rejected: list[Rejected] = []
        version = ""
        turned: set[str] = set()
        params = selectors(self._kind) | ({"limit": str(size)} if size else {})
        while True:
            page = self._read_page(params)
            objects += page.items
            rejected += page.rejected
            version = version or page.resource_version
            if not page.continue_:
                return objects, rejected, version
            if page.continue_ in turned:
                raise ApiUnavailable(f"the list of {self._kind.resource} does not end: its pages repeat")
            turned.add(page.continue_)
            params["continue"] = page.continue_

    def _read_page(self, params: Mapping[str, str]) -> Page:
        response = self._connection.get(self._path, params, timeout=LIST_TIMEOUT, abort=self._abort)
        self.bytes_read += len(response.body)
        return decode_list(self._kind, response.body)
