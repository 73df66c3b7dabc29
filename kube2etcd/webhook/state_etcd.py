"""The state in etcd: one key per endpoint, and one (the head) for everything else.

The state is what the keys held at the revision of the head, which the last transaction of a call writes, so
a call is stored completely or not at all.  The others write the key ``pending``.  Every transaction requires
that both keys are unchanged, so the writes of two webhooks never mix.  Foreign keys are left alone.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import time
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote

import msgspec
from msgspec import structs

from kube2etcd.errors import EtcdCompacted, EtcdError
from kube2etcd.etcd.changes import Change, Delete, Put
from kube2etcd.etcd.client import EtcdConnection
from kube2etcd.etcd.ranges import successor
from kube2etcd.etcd.store import transaction
from kube2etcd.etcd.wire import Message, rpc
from kube2etcd.external import Endpoint, EndpointKey
from kube2etcd.webhook.state import (
    Head,
    NotStored,
    Overtaken,
    State,
    decode_head,
    encode_head,
)
from kube2etcd.zones.targets import brief

log = logging.getLogger(__name__)

#: Operations in one transaction; etcd's default limit is 128.
MAX_OPS: Final = 100
#: Octets in one transaction; etcd's default limit is 1.5 MiB.
MAX_BYTES: Final = 1024 * 1024


class _HeadChanged(Exception):
    """Another writer has changed the head, or is in the middle of a call."""


class EtcdState:
    """A `StateStore` below ``prefix``, a path without a final slash."""

    def __init__(self, connection: EtcdConnection, prefix: str) -> None:
        self._connection, self._prefix = connection, prefix
        self._below = f"{prefix}/".encode()
        self._head_key, self._pending_key = f"{prefix}/head".encode(), f"{prefix}/pending".encode()
        self._foreign: dict[bytes, int] = {}
        """Keys below the prefix that hold no endpoint of ours, with the revision of their last write."""
        self._writer = secrets.token_hex(8)
        self._generation = 0
        """Of the newest known head; each head has a higher one than the one before."""
        self._theirs: State | None = None
        """Another writer's state that `check` has not returned yet."""
        self._forget()

    def _forget(self) -> None:
        self._revision = 0
        """Of the head's last write; 0 if there is no head."""
        self._pending = 0
        """Revision of the last write of ``pending``; 0 if no call is incomplete."""
        self._head: Head | None = None
        """The head without generation and writer; None if it must be written in any case."""
        self._stored: dict[bytes, bytes] = {}
        """All keys of endpoints, committed or not."""
        self._checked = 0
        """Up to this revision, all keys are known from reading."""
        self._written: dict[bytes, int] = {}
        """The keys that we have written since, with their revisions."""
        self._in_doubt = False
        """Whether the outcome of a transaction is unknown, so that we must read before the next one."""

    def load(self) -> State:
        """See `StateStore`."""
        head, state = self._read(time.monotonic() + self._connection.timeout)
        self._generation, self._theirs = head.generation, None
        return state

    def save(self, state: State, deadline: float) -> None:
        """See `StateStore`."""
        for attempt in range(2):
            if self._in_doubt or attempt:
                self._look(deadline)
            if self._theirs is not None:
                raise Overtaken(f"another webhook stores its state under {self._prefix}: try again")
            try:
                return self._write(state, deadline)
            except _HeadChanged:
                continue
        raise NotStored(f"another process writes under {self._prefix}: try again")

    def check(self, state: State, deadline: float) -> State:
        """See `StateStore`."""
        if self._theirs is None:
            if self._is_stored(deadline):
                return state
            fresh = not self._revision
            self._look(deadline)
            known = self._revision
        if self._theirs is not None:
            theirs, self._theirs = self._theirs, None
            return theirs
        self.save(state, deadline)
        if self._revision != known and not fresh:
            log.warning("%s: stored state differed, written again", self._prefix)
        return state

    def clear(self) -> None:
        """See `StateStore`."""
        request = rpc.TxnRequest()
        operation = request.success.add().request_delete_range
        operation.key, operation.range_end = self._below, successor(self._below)
        self._ask("Txn", request, time.monotonic() + self._connection.timeout)
        self._theirs = None
        self._forget()

    # --- writing ----------------------------------------------------------------------------------

    def _write(self, state: State, deadline: float) -> None:
        began = time.monotonic()
        head = Head.of(state)
        wanted = {self._key(key): endpoint.encode() for key, endpoint in state.endpoints.items()}
        changes: list[Change] = [Put(*one) for one in wanted.items() if self._stored.get(one[0]) != one[1]]
        changes += [Delete(key) for key in self._stored if key not in wanted]
        # Our own work on a large state is not etcd's fault.
        deadline += time.monotonic() - began
        if not changes and not self._pending and head == self._head:
            return
        # Unknown until all transactions have succeeded.
        self._in_doubt = True
        *before, last = _batches(changes)
        for batch in before:
            self._pending = self._commit([*batch, Put(self._pending_key, self._writer.encode())], deadline)
        if self._pending:
            last.append(Delete(self._pending_key))
        marked = structs.replace(head, generation=self._generation + 1, writer=self._writer)
        self._revision = self._commit([*last, Put(self._head_key, encode_head(marked))], deadline)
        self._pending, self._head = 0, head
        self._generation += 1
        self._in_doubt = False

    def _key(self, key: EndpointKey) -> bytes:
        # Nothing in an accepted name or type has to be quoted.
        return (
            f"{self._prefix}/endpoint/{key.name}/{key.record_type}/{quote(key.set_identifier, '*')}".encode()
        )

    def _commit(self, batch: list[Change], deadline: float) -> int:
        """Write in one transaction, and return its revision; `_HeadChanged`."""
        request = transaction(tuple(batch))
        for key, revision in ((self._head_key, self._revision), (self._pending_key, self._pending)):
            request.compare.add(result="EQUAL", target="MOD", key=key, mod_revision=revision)
        answer = self._ask("Txn", request, deadline)
        if not answer.succeeded:
            raise _HeadChanged
        made = int(answer.header.revision)
        for change in batch:
            for known in (self._foreign, self._stored, self._written):
                known.pop(change.key, None)
            if isinstance(change, Put):
                self._written[change.key] = made
                if change.key not in (self._head_key, self._pending_key):
                    self._stored[change.key] = change.value
        return made

    # --- reading ----------------------------------------------------------------------------------

    def _is_stored(self, deadline: float) -> bool:
        """Whether nothing changed since our last write; the cost does not grow with the state."""
        if self._in_doubt or self._head is None:
            return False
        request = rpc.TxnRequest()
        head = request.success.add().request_range
        head.key, head.keys_only = self._head_key, True
        newer = request.success.add().request_range
        newer.key, newer.range_end, newer.keys_only = self._below, successor(self._below), True
        newer.min_mod_revision = self._checked + 1
        head_answer, newer_answer = (
            one.response_range for one in self._ask("Txn", request, deadline).responses
        )
        known = self._foreign | self._written
        equal = (
            [kv.mod_revision for kv in head_answer.kvs] == [self._revision]
            and all(known.get(kv.key) == kv.mod_revision for kv in newer_answer.kvs)
            and newer_answer.count == len(self._stored) + len(self._foreign) + 1
        )
        if equal:
            self._checked, self._written = self._revision, {}
        return equal

    def _look(self, deadline: float) -> None:
        """Read the stored state, to overwrite it, or to adopt it if another writer is ahead of us.

        A head of a lower generation than ours is from a restored backup.
        """
        known, doubtful = self._revision, self._in_doubt or self._head is None
        head, state = self._read(deadline)
        theirs = self._head is not None and head.writer != self._writer
        ahead = theirs and self._revision != known and head.generation >= self._generation
        self._generation = max(self._generation, head.generation)
        if doubtful and not ahead:
            # A hung server may still execute a transaction of ours; a new head makes it fail.
            self._head = None
        self._theirs = state if ahead else None

    def _read(self, deadline: float) -> tuple[Head, State]:
        """Head and state; updates what is known of the keys."""
        now = self._range(deadline)
        head_kv = now.pop(self._head_key, None)
        # Of a call that deletes, only the pending key is newer than the head.
        newer = head_kv is not None and any(kv.mod_revision > head_kv.mod_revision for kv in now.values())
        pending_kv = now.pop(self._pending_key, None)
        ours = committed = self._ours(now)
        if head_kv is not None and newer:
            try:
                committed = self._ours(self._range(deadline, head_kv.mod_revision))
            except EtcdCompacted:
                log.warning("%s: using keys newer than the head, whose revision is compacted", self._prefix)
        try:
            head = Head.of(State()) if head_kv is None else decode_head(head_kv.value, Head)
            state = head.state({one.key: one for one in committed.values()})
        except ValueError as error:
            raise NotStored(
                f"the state under {self._prefix} cannot be used ({error}): restore etcd, or begin anew with"
                " --cleanup"
            ) from None
        foreign = {key: kv.mod_revision for key, kv in now.items() if key not in ours}
        if odd := sorted(foreign.keys() - self._foreign.keys()):
            log.warning(
                "%s: %d foreign keys, left alone, the first is %s",
                self._prefix,
                len(odd),
                brief(odd[0].decode(errors="replace")),
            )
        self._foreign = foreign
        self._revision = head_kv.mod_revision if head_kv is not None else 0
        self._head = structs.replace(head, generation=0, writer="") if head_kv is not None else None
        self._pending = pending_kv.mod_revision if pending_kv is not None else 0
        self._stored = {key: now[key].value for key in ours}
        self._checked, self._written = self._revision, {}
        self._in_doubt = False
        return head, state

    def _ours(self, found: Mapping[bytes, Message]) -> dict[bytes, Endpoint]:
        """The endpoints among these keys; a value that does not belong to its key is foreign."""
        ours = {}
        for key, kv in found.items():
            with contextlib.suppress(ValueError, RecursionError):
                endpoint = Endpoint.from_json(msgspec.json.decode(kv.value))
                if self._key(endpoint.key) == key:
                    ours[key] = endpoint
        return ours

    def _range(self, deadline: float, revision: int = 0) -> dict[bytes, Message]:
        request = rpc.RangeRequest(key=self._below, range_end=successor(self._below), revision=revision)
        return {kv.key: kv for kv in self._ask("Range", request, deadline).kvs}

    def _ask(self, method: str, request: Message, deadline: float) -> Message:
        """Send a request to one server after another until the deadline.

        A transaction that is sent twice is executed once, because of its conditions.
        """
        if time.monotonic() > deadline:
            raise NotStored("etcd was too slow to store all of it: try again")
        try:
            return self._connection.call(method, request, deadline)
        except EtcdCompacted:
            raise
        except EtcdError as error:
            raise NotStored(str(error)) from error


def _batches(changes: Iterable[Change]) -> list[list[Change]]:
    """Changes in lists that fit into one transaction each; at least one list, the last not full."""
    batches: list[list[Change]] = [[]]
    size = 0
    for change in sorted(changes, key=lambda one: one.key):
        octets = len(change.key) + (len(change.value) if isinstance(change, Put) else 0)
        size += octets
        if batches[-1] and (len(batches[-1]) >= MAX_OPS or size > MAX_BYTES):
            batches.append([])
            size = octets
        batches[-1].append(change)
    return batches
