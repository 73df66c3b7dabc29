"""The state in etcd, under a prefix outside of what is served.

Pieces go first, as many transactions as they need; the manifest goes last, on the condition that it is
still the one that we know.  So a call is kept whole or not at all, however large it is, and two writers
cannot mix.  Knows keys and transactions; what a piece holds is for `shards` to say.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator

from kube2etcd.errors import EtcdError, EtcdNoSpace, EtcdUnauthenticated, EtcdUnavailable
from kube2etcd.etcd.client import EtcdConnection
from kube2etcd.etcd.ranges import successor
from kube2etcd.etcd.wire import Message, rpc
from kube2etcd.webhook.keep import NotKept, Overtaken
from kube2etcd.webhook.shards import Cutter, Manifest, join
from kube2etcd.webhook.state import State, UnreadableState, encode_head

log = logging.getLogger(__name__)

#: Changes of one transaction; etcd takes 128.
MAX_OPS = 100
#: Octets of one transaction; etcd takes 1.5 MiB.
MAX_BYTES = 1024 * 1024


class _Overtaken(Exception):
    """The manifest is not the one that we know."""


class EtcdKeeper:
    """Keeps the state below ``prefix``, a path without a slash at its end."""

    def __init__(self, connection: EtcdConnection, prefix: str) -> None:
        self._connection = connection
        self._prefix = prefix
        self._manifest_key = f"{prefix}/manifest".encode()
        self._piece_prefix = f"{prefix}/piece/".encode()
        self._cutter = Cutter()
        self._manifest: Manifest | None = None
        self._revision = 0
        """At which the manifest was written; 0: it is not there."""
        self._present: set[str] = set()
        self._doubtful: set[bytes] = set()
        """Manifests that we sent and whose fate we have not heard of."""

    def load(self) -> State:
        """As `Keeper` says."""
        return self._load(time.monotonic() + self._connection.settings.timeout)

    def _load(self, deadline: float) -> State:
        manifest, revision, pieces = self._read(deadline)
        state = State() if manifest is None else self._join(manifest, pieces)
        self._know(manifest, revision, pieces)
        return state

    def save(self, state: State, deadline: float) -> None:
        """As `Keeper` says."""
        try:
            self._write(state, deadline)
        except _Overtaken:
            if self._look(deadline):
                raise Overtaken(f"another webhook keeps its state under {self._prefix}: try again") from None
            try:
                self._write(state, deadline)
            except _Overtaken:
                raise NotKept(f"somebody else writes under {self._prefix}: try again") from None

    def check(self, state: State, deadline: float) -> State:
        """As `Keeper` says."""
        if self._is_kept(deadline):
            return state
        if self._look(deadline):
            return self._load(deadline)
        log.warning("the state under %s was not as written, and is again", self._prefix)
        self.save(state, deadline)
        return state

    def clear(self) -> None:
        """As `Keeper` says."""
        below = f"{self._prefix}/".encode()
        request = rpc.TxnRequest()
        operation = request.success.add().request_delete_range
        operation.key, operation.range_end = below, successor(below)
        self._ask("Txn", request, time.monotonic() + self._connection.settings.timeout)
        self._know(None, 0, {})

    # --- writing ----------------------------------------------------------------------------------

    def _write(self, state: State, deadline: float) -> None:
        began = time.monotonic()
        shards = self._cutter.cut(state)
        # Our own work on a large state is no fault of etcd's.
        deadline += time.monotonic() - began
        generation = self._manifest.generation + 1 if self._manifest else 1
        manifest = Manifest(generation, encode_head(state), tuple(tuple(shard) for shard in shards))
        if not self._doubtful and self._manifest is not None:
            same = (manifest.head, manifest.shards) == (self._manifest.head, self._manifest.shards)
            if same and manifest.pieces <= self._present:
                return
        new = {name: piece for shard in shards for name, piece in shard.items() if name not in self._present}
        *before, last = _batches(new)
        for batch in before:
            request = rpc.TxnRequest()
            self._put(request, batch)
            self._ask("Txn", request, deadline)
            self._present.update(name for name, _ in batch)
        data = manifest.encode()
        request = rpc.TxnRequest()
        condition = request.compare.add()
        condition.key = self._manifest_key
        condition.target = rpc.Compare.MOD
        condition.result = rpc.Compare.EQUAL
        condition.mod_revision = self._revision
        self._put(request, last)
        put = request.success.add().request_put
        put.key, put.value = self._manifest_key, data
        gone = sorted(self._present - manifest.pieces - new.keys())[: MAX_OPS - len(last)]
        for name in gone:
            request.success.add().request_delete_range.key = self._piece_prefix + name.encode()
        self._doubtful.add(data)
        answer = self._ask("Txn", request, deadline)
        if not answer.succeeded:
            raise _Overtaken
        self._doubtful.clear()
        self._present = (self._present | new.keys()) - set(gone)
        self._manifest, self._revision = manifest, answer.header.revision

    def _put(self, request: Message, batch: Iterable[tuple[str, bytes]]) -> None:
        for name, piece in batch:
            put = request.success.add().request_put
            put.key, put.value = self._piece_prefix + name.encode(), piece

    # --- reading ----------------------------------------------------------------------------------

    def _is_kept(self, deadline: float) -> bool:
        """Whether manifest and pieces are there as we know them."""
        below = f"{self._prefix}/".encode()
        request = rpc.RangeRequest(key=below, range_end=successor(below), keys_only=True)
        found = {kv.key: kv.mod_revision for kv in self._ask("Range", request, deadline).kvs}
        pieces = self._manifest.pieces if self._manifest else frozenset()
        return (
            not self._doubtful
            and found.get(self._manifest_key, 0) == self._revision
            and all(self._piece_prefix + name.encode() in found for name in pieces)
        )

    def _look(self, deadline: float) -> bool:
        """Take in what is there to write over it; whether another writer has got ahead of us instead.

        An older manifest than ours is that of a backup which was put back; one whose fate we did not
        know is ours.
        """
        manifest, revision, pieces = self._read(deadline)
        ours = self._manifest.generation if self._manifest else 0
        ahead = (
            manifest is not None
            and revision != self._revision
            and manifest.encode() not in self._doubtful
            and manifest.generation >= ours
        )
        if not ahead:
            there = manifest or Manifest(0, {}, ())
            generation = max(ours, there.generation)
            self._manifest = Manifest(generation, there.head, there.shards)
            # What is doubtful stays so until our next manifest: a server that hung may carry it out yet.
            self._revision, self._present = revision, set(pieces)
        return ahead

    def _read(self, deadline: float) -> tuple[Manifest | None, int, dict[str, bytes]]:
        """Manifest, the revision at which it was written, and all pieces, at one moment."""
        below = f"{self._prefix}/".encode()
        answer = self._ask("Range", rpc.RangeRequest(key=below, range_end=successor(below)), deadline)
        manifest, revision, pieces = None, 0, {}
        for kv in answer.kvs:
            if kv.key == self._manifest_key:
                try:
                    manifest, revision = Manifest.decode(kv.value), kv.mod_revision
                except UnreadableState as error:
                    raise self._unusable(error) from None
            elif kv.key.startswith(self._piece_prefix):
                pieces[kv.key.removeprefix(self._piece_prefix).decode(errors="replace")] = kv.value
        return manifest, revision, pieces

    def _join(self, manifest: Manifest, pieces: dict[str, bytes]) -> State:
        try:
            return join(manifest, pieces)
        except UnreadableState as error:
            raise self._unusable(error) from None

    def _unusable(self, error: UnreadableState) -> NotKept:
        return NotKept(
            f"the state under {self._prefix} cannot be used ({error}): restore etcd, or begin anew with"
            " --cleanup"
        )

    def _know(self, manifest: Manifest | None, revision: int, pieces: Iterable[str]) -> None:
        """What is there is what counts, whoever wrote it."""
        self._manifest, self._revision, self._present = manifest, revision, set(pieces)
        self._doubtful.clear()

    def _ask(self, method: str, request: Message, deadline: float) -> Message:
        """One request, at one server after the other while there is time.

        A transaction may so be sent twice.  Its condition lets it be carried out once, and the manifest
        that is then there is one that we know to be ours.
        """
        if time.monotonic() > deadline:
            raise NotKept("etcd was too slow to keep all of it: try again")
        tries = len(self._connection.endpoints)
        while True:
            tries -= 1
            try:
                return self._connection.start(method, request).result()
            except EtcdError as error:
                passing = isinstance(error, EtcdUnavailable) and not isinstance(
                    error, EtcdUnauthenticated | EtcdNoSpace
                )
                if not (passing and tries) or time.monotonic() > deadline:
                    raise NotKept(str(error)) from error


def _batches(pieces: dict[str, bytes]) -> Iterator[list[tuple[str, bytes]]]:
    """The pieces in lists that fit into one transaction each; at least one list, the last not full."""
    batch: list[tuple[str, bytes]] = []
    size = 0
    for name, piece in pieces.items():
        if batch and (len(batch) >= MAX_OPS - 1 or size + len(piece) > MAX_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((name, piece))
        size += len(piece)
    yield batch
