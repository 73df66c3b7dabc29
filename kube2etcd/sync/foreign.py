"""Keys under our prefix that are not ours (guarantee G6): counted, told once, never changed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Set

from kube2etcd.sync.plan import Plan

log = logging.getLogger(__name__)


class Foreign:
    """What was seen of others' keys; kept up to date plan by plan."""

    def __init__(self, name: Callable[[bytes], object]) -> None:
        """``name`` says which DNS name a key is about."""
        self.keys: frozenset[bytes] = frozenset()
        self.malformed: frozenset[bytes] = frozenset()
        self.contested: frozenset[bytes] = frozenset()
        """Keys that we want too, and that another writer has by right."""
        self._name = name

    def note(self, plan: Plan, looked_at: Set[bytes] | None) -> None:
        """Take in what a plan came across; ``looked_at``: the keys it was made for, None for all."""
        for key in plan.malformed - self.malformed:
            log.warning(
                "foreign key %s is malformed and spoils the names above it", key.decode(errors="replace")
            )
        for key in plan.contested - self.contested:
            log.warning("%s is held by another writer, whose owner id comes before ours", self._name(key))
        self.keys = _rest(self.keys, looked_at) | plan.foreign
        self.malformed = _rest(self.malformed, looked_at) | plan.malformed
        self.contested = _rest(self.contested, looked_at) | plan.contested


def _rest(keys: frozenset[bytes], looked_at: Set[bytes] | None) -> frozenset[bytes]:
    return frozenset() if looked_at is None else keys - looked_at
