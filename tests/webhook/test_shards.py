"""A state in pieces."""

from __future__ import annotations

import zlib

import pytest

from kube2etcd.external import Endpoint
from kube2etcd.webhook import shards
from kube2etcd.webhook.shards import Cutter, Manifest, join
from kube2etcd.webhook.state import State, UnreadableState, encode_head


def many(count: int, size: int = 0) -> State:
    found = [
        Endpoint(
            f"n{number}.dtk.io", (f"10.0.{number // 250}.{number % 250}",), "A", labels={"x": "y" * size}
        )
        for number in range(count)
    ]
    return State({one.key: one for one in found})


def cut(state: State, cutter: Cutter | None = None) -> tuple[Manifest, dict[str, bytes]]:
    pieces = (cutter or Cutter()).cut(state)
    manifest = Manifest(1, encode_head(state), tuple(tuple(shard) for shard in pieces))
    return manifest, {name: piece for shard in pieces for name, piece in shard.items()}


def test_cut_and_joined_again(monkeypatch: pytest.MonkeyPatch) -> None:
    state = many(1000)
    assert join(*cut(state)) == state
    monkeypatch.setattr(shards, "PIECE", 50)
    manifest, pieces = cut(state)
    assert max(map(len, pieces.values())) == 50
    assert join(Manifest.decode(manifest.encode()), pieces) == state
    assert Manifest.decode(manifest.encode()) == manifest


def test_one_endpoint_more_is_one_piece_more() -> None:
    cutter = Cutter()
    _, before = cut(many(1000), cutter)
    _, after = cut(many(1001), cutter)
    assert len(after.keys() - before.keys()) == 1


def test_the_same_state_is_the_same_pieces() -> None:
    state = many(100)
    turned = State(dict(reversed(list(state.endpoints.items()))))
    assert cut(turned) == cut(state)


def test_places_are_part_of_names() -> None:
    assert shards._name(0, b"x") != shards._name(1, b"x")


def test_damage_is_told() -> None:
    manifest, pieces = cut(many(1))
    (name,) = pieces
    with pytest.raises(UnreadableState, match="missing or damaged"):
        join(manifest, {})
    with pytest.raises(UnreadableState, match="missing or damaged"):
        join(manifest, {name: b"x"})
    for odd in (b"x", zlib.compress(b"{")):
        piece = shards._name(0, odd)
        with pytest.raises(UnreadableState, match="cannot be read"):
            join(Manifest(1, manifest.head, ((piece,),)), {piece: odd})


@pytest.mark.parametrize("data", [b"", b"[]", b'{"version":1}', b'{"version":1,"shards":5,"generation":1}'])
def test_what_is_no_manifest(data: bytes) -> None:
    with pytest.raises(UnreadableState):
        Manifest.decode(data)


def test_what_counts() -> None:
    manifest, pieces = cut(many(10))
    assert manifest.pieces == pieces.keys()
