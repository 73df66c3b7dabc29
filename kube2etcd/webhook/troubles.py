"""What is wrong at present, by what it concerns: told once when it comes, and once when it goes.

Knows sentences and the log; must never decide what is wrong, nor make a caller wait.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from kube2etcd.errors import Kube2EtcdError

log = logging.getLogger(__name__)


class NotNow(Kube2EtcdError):
    """It cannot be done at present and nothing was taken over: try again."""


class Troubles:
    """A sentence for each thing that is not well.  Written by one thread at a time, read by any."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}

    def __contains__(self, what: str) -> bool:
        return what in self._found

    def __iter__(self) -> Iterator[str]:
        return iter(self._found.values())

    def note(self, what: str, why: str) -> None:
        """``what`` is so, or well where ``why`` is empty."""
        before = self._found.get(what, "")
        if why == before:
            return
        if why:
            log.warning("%s", why)
        else:
            log.info("it is well again: %s", before)
        # Another one each time: whoever reads it meanwhile reads one or the other.
        found = {key: value for key, value in self._found.items() if key != what}
        self._found = found | ({what: why} if why else {})
