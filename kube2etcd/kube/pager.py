"""A complete list of one kind, in pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kube2etcd.errors import ApiGone, ApiTooLarge, ApiUnavailable
from kube2etcd.kube.client import ApiConnection
from kube2etcd.kube.objects import ApiObject, Kind, Rejected, decode_list
from kube2etcd.kube.transport import Abort

PAGE_SIZE: Final = 500
"""Objects per page: usually about 2 MB of JSON, so a list never needs much memory at once."""

MAX_PAGE_BYTES: Final = 64 << 20
"""A larger page is requested again with fewer objects; etcd limits one object to 1.5 MiB."""

LIST_TIMEOUT: Final = 60.0
"""Seconds for one page, altogether; the API server itself gives up after as many."""


def selectors(kind: Kind) -> dict[str, str]:
    """The parameters that narrow a list or a watch of ``kind``."""
    given = {"labelSelector": kind.label_selector, "fieldSelector": kind.field_selector}
    return {key: value for key, value in given.items() if value}


Known = Callable[[str, list[ApiObject]], list[ApiObject]]
"""Objects of a kind, each replaced by an equal one that is held already: a list is not held twice."""


def list_all(
    kind: Kind,
    connection: ApiConnection,
    path: str,
    abort: Abort,
    received: Callable[[int], object],
    known: Known,
) -> tuple[list[ApiObject], list[Rejected], str]:
    """Objects, rejected objects and resourceVersion of one complete list; `ApiError`.

    ``received`` is called with the bytes of each page, ``known`` with its objects.
    Without a resourceVersion, unlike client-go's first list: the answer is then the most recent state,
    in pages.  With ``0`` it would come from any server's cache, perhaps older than what this process
    has already written, and in one piece however large.
    """
    try:
        return _read_pages(kind, connection, path, abort, received, known, PAGE_SIZE)
    except ApiGone:
        # The continue token expired, or the server has compacted: one piece cannot expire.
        return _read_pages(kind, connection, path, abort, received, known, 0)


def _read_pages(
    kind: Kind,
    connection: ApiConnection,
    path: str,
    abort: Abort,
    received: Callable[[int], object],
    known: Known,
    size: int,
) -> tuple[list[ApiObject], list[Rejected], str]:
    objects: list[ApiObject] = []
    rejected: list[Rejected] = []
    version = ""
    seen: set[str] = set()
    params = selectors(kind) | ({"limit": str(size)} if size else {})
    while True:
        limit = MAX_PAGE_BYTES if size > 1 else None
        try:
            body = connection.get(path, params, timeout=LIST_TIMEOUT, abort=abort, max_bytes=limit)
        except ApiTooLarge:
            size //= 8
            params["limit"] = str(max(size, 1))
            continue
        received(len(body))
        page = decode_list(kind, body)
        objects += known(kind.name, page.items)
        rejected += page.rejected
        version = version or page.resource_version
        if not page.continue_:
            return objects, rejected, version
        if page.continue_ in seen:
            raise ApiUnavailable(f"the list of {kind.resource} does not end: its pages repeat")
        seen.add(page.continue_)
        params["continue"] = page.continue_
