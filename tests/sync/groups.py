"""Groups of keys for the tests of claims and plans."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

from kube2etcd.sync.claims import Groups
from skydns_compat.layout import Layout


class GroupsBy(Groups):
    """Groups that a function of the key decides, whatever the zones."""

    def __init__(self, of: Callable[[bytes], bytes]) -> None:
        super().__init__(Layout())
        self._of = of

    def of(self, key: bytes) -> bytes:
        return self._of(key)

    def common(self, keys: Collection[bytes]) -> bytes | None:
        first, *others = {self._of(key) for key in keys}
        return None if others else first

    def runs(self, keys: Iterable[bytes]) -> Iterator[tuple[bytes, list[bytes]]]:
        return ((self._of(key), [key]) for key in keys)
