"""A state as small pieces under names of their own, and one manifest that says which of them count.  Pure.

One endpoint more rewrites one piece and the manifest, some kilobytes, however many endpoints there are.
A piece is named after its content, so it never changes: whoever reads the manifest reads one state,
whatever is being written meanwhile.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar

import msgspec

from kube2etcd.external import Endpoint, EndpointKey
from kube2etcd.webhook.state import (
    State,
    UnreadableState,
    decode_endpoints,
    decode_head,
    encode_endpoints,
    encode_head,
)

#: Pieces of a state, by name: a hundred and fifty endpoints each, of ten thousand.
SHARDS: Final = 64
#: Octets of a piece; what is longer is cut.  Several fit into one of etcd's requests.
PIECE: Final = 256 * 1024

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What counts: the head of the state, and the pieces of each shard in order."""

    generation: int
    head: Mapping[str, Any]
    shards: tuple[tuple[str, ...], ...]

    @property
    def pieces(self) -> frozenset[str]:
        """Every piece."""
        return frozenset(piece for shard in self.shards for piece in shard)

    def encode(self) -> bytes:
        """As it is kept."""
        return msgspec.json.encode({**self.head, "generation": self.generation, "shards": self.shards})

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """From `encode`; `UnreadableState` for anything else."""
        try:
            value = msgspec.json.decode(data)
            decode_head(value)
            shards = tuple(tuple(map(str, shard)) for shard in value["shards"])
            return cls(int(value["generation"]), encode_head(decode_head(value)), shards)
        except (LookupError, TypeError, ValueError, RecursionError) as error:
            raise UnreadableState(f"its manifest cannot be read: {error}") from None


class Parts(Generic[T]):
    """What is made of each shard of a state, and for the next one only of what differs."""

    def __init__(self, make: Callable[[list[Endpoint]], T]) -> None:
        self._make = make
        self._last: dict[int, tuple[list[Endpoint], T]] = {}

    def cut(self, state: State) -> list[T]:
        """What is made of each shard, in order."""
        members: list[list[Endpoint]] = [[] for _ in range(SHARDS)]
        for key, endpoint in state.endpoints.items():
            members[shard(key)].append(endpoint)
        for number, endpoints in enumerate(members):
            last = self._last.get(number)
            if last is None or last[0] != endpoints:
                self._last[number] = (endpoints, self._make(endpoints))
        return [self._last[number][1] for number in range(SHARDS)]


class Cutter(Parts[dict[str, bytes]]):
    """Cuts states into the pieces of each shard, by name, in order."""

    def __init__(self) -> None:
        super().__init__(_pieces)


def shard(key: EndpointKey) -> int:
    """The number of the shard that an endpoint is in; all of a name are in one."""
    return zlib.crc32(key.name.encode(errors="replace")) % SHARDS


def join(manifest: Manifest, pieces: Mapping[str, bytes]) -> State:
    """The state that was cut; `UnreadableState` when a piece is missing or is not what its name says."""
    state = decode_head(dict(manifest.head))
    endpoints = {}
    for shard in manifest.shards:
        if not shard:
            continue
        missing = [
            name for at, name in enumerate(shard) if name not in pieces or _name(at, pieces[name]) != name
        ]
        if missing:
            raise UnreadableState(f"its piece {missing[0]} is missing or damaged")
        try:
            value = msgspec.json.decode(zlib.decompress(b"".join(pieces[piece] for piece in shard)))
        except (zlib.error, ValueError, RecursionError) as error:
            raise UnreadableState(f"a piece of it cannot be read: {error}") from None
        endpoints.update(decode_endpoints(value))
    return replace(state, endpoints=endpoints)


def _pieces(endpoints: list[Endpoint]) -> dict[str, bytes]:
    if not endpoints:
        return {}
    data = zlib.compress(encode_endpoints(endpoints), 6)
    cut = [data[at : at + PIECE] for at in range(0, len(data), PIECE)]
    return {_name(at, piece): piece for at, piece in enumerate(cut)}


def _name(at: int, piece: bytes) -> str:
    """The name of what stands at this place of its shard; its place, since two may hold the same."""
    return hashlib.sha256(b"%d:%b" % (at, piece)).hexdigest()[:32]
