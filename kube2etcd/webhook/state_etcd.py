"""The state in etcd: one key for each endpoint, and one (the head) for everything else.

A state is what the keys held at the revision of the head: of a call that needs several transactions the
last one writes the head, so it is stored whole or not at all.  Every transaction is conditional on the
head that we know, so two writers cannot mix.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterable
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
from kube2etcd.external import EndpointKey
from kube2etcd.webhook.state import (
    Head,
    NotStored,
    Overtaken,
    State,
    decode_endpoints,
    decode_head,
    encode_head,
)

log = logging.getLogger(__name__)

#: Operations in one transaction; etcd's default limit is 128.
MAX_OPS: Final = 100
#: Octets in one transaction; etcd's default limit is 1.5 MiB.
MAX_BYTES: Final = 1024 * 1024


class _Overtaken(Exception):
    """The head is not the one that we know."""


class EtcdState:
    """A `StateStore` below ``prefix``, a path without a final slash."""

    def __init__(self, connection: EtcdConnection, prefix: str) -> None:
        self._connection, self._prefix = connection, prefix
        self._below = f"{prefix}/".encode()
        self._head_key = f"{prefix}/head".encode()
        self._writer = secrets.token_hex(8)
        self._generation = 0
        """Of the newest head that we know; each head has a higher one than that before."""
        self._theirs: State | None = None
        """Another writer's state, which `check` has not given to the caller yet."""
        self._forget()

    def _forget(self) -> None:
        self._revision = 0
        """Of the head's last write; 0: none."""
        self._head: Head | None = None
        """The head without generation and writer; None: it is to be written in any case."""
        self._stored: dict[bytes, bytes] = {}
        """All other keys, committed or not."""
        self._in_doubt = False
        """The outcome of a transaction is unknown: read before the next one."""

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
            except _Overtaken:
                continue
        raise NotStored(f"another process writes under {self._prefix}: try again")

    def check(self, state: State, deadline: float) -> State:
        """See `StateStore`."""
        if self._theirs is None:
            if self._is_stored(deadline):
                return state
            fresh = not self._revision
            self._look(deadline)
        if self._theirs is not None:
            theirs, self._theirs = self._theirs, None
            return theirs
        if not fresh:
            log.warning("the state under %s differed; writing it again", self._prefix)
        self.save(state, deadline)
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
        if not changes and head == self._head:
            return
        # Unknown until all transactions have succeeded.
        self._in_doubt = True
        *before, last = _batches(changes)
        for batch in before:
            self._commit(batch, deadline)
        marked = structs.replace(head, generation=self._generation + 1, writer=self._writer)
        answer = self._commit([*last, Put(self._head_key, encode_head(marked))], deadline)
        del self._stored[self._head_key]
        self._revision, self._head = answer.header.revision, head
        self._generation += 1
        self._in_doubt = False

    def _key(self, key: EndpointKey) -> bytes:
        # Nothing in an accepted name or type has to be quoted.
        return (
            f"{self._prefix}/endpoint/{key.name}/{key.record_type}/{quote(key.set_identifier, '*')}".encode()
        )

    def _commit(self, batch: list[Change], deadline: float) -> Message:
        """One transaction, if the head is still the one that we know."""
        request = transaction(tuple(batch))
        known = rpc.Compare(result="EQUAL", target="MOD", key=self._head_key, mod_revision=self._revision)
        request.compare.append(known)
        answer = self._ask("Txn", request, deadline)
        if not answer.succeeded:
            raise _Overtaken
        for change in batch:
            if isinstance(change, Put):
                self._stored[change.key] = change.value
            else:
                self._stored.pop(change.key, None)
        return answer

    # --- reading ----------------------------------------------------------------------------------

    def _is_stored(self, deadline: float) -> bool:
        """Whether nothing changed since our last write; cheap, however large the state is."""
        if self._in_doubt or self._head is None:
            return False
        request = rpc.TxnRequest()
        head = request.success.add().request_range
        head.key, head.keys_only = self._head_key, True
        newer = request.success.add().request_range
        newer.key, newer.range_end, newer.keys_only = self._below, successor(self._below), True
        newer.min_mod_revision = self._revision + 1
        head_answer, newer_answer = (
            one.response_range for one in self._ask("Txn", request, deadline).responses
        )
        return (
            [kv.mod_revision for kv in head_answer.kvs] == [self._revision]
            and not newer_answer.kvs
            and newer_answer.count == len(self._stored) + 1
        )

    def _look(self, deadline: float) -> None:
        """Read the stored state, to overwrite it, or to adopt it if another writer is ahead of us.

        A head with a lower generation than ours comes from a backup that was restored.
        """
        known, doubtful = self._revision, self._in_doubt or self._head is None
        head, state = self._read(deadline)
        theirs = self._head is not None and head.writer != self._writer
        ahead = theirs and self._revision != known and head.generation >= self._generation
        self._generation = max(self._generation, head.generation)
        if doubtful and not ahead:
            # A hung server may still carry out a transaction of ours: a new head rules that out.
            self._head = None
        self._theirs = state if ahead else None

    def _read(self, deadline: float) -> tuple[Head, State]:
        """Head and state; updates what is known of the keys."""
        now = self._range(deadline)
        head_kv = now.pop(self._head_key, None)
        committed = now
        if head_kv is not None and any(kv.mod_revision > head_kv.mod_revision for kv in now.values()):
            try:
                committed = self._range(deadline, head_kv.mod_revision)
            except EtcdCompacted:
                log.warning("an interrupted call is stored in part under %s", self._prefix)
        below = f"{self._prefix}/endpoint/".encode()
        values = [kv.value for key, kv in committed.items() if key.startswith(below)]
        try:
            head = Head.of(State()) if head_kv is None else decode_head(head_kv.value, Head)
            state = head.state(decode_endpoints(map(msgspec.json.decode, values)))
        except (ValueError, RecursionError) as error:
            raise NotStored(
                f"the state under {self._prefix} cannot be used ({error}): restore etcd, or begin anew with"
                " --cleanup"
            ) from None
        self._revision = head_kv.mod_revision if head_kv is not None else 0
        self._head = structs.replace(head, generation=0, writer="") if head_kv is not None else None
        self._stored = {key: kv.value for key, kv in now.items()}
        self._in_doubt = False
        return head, state

    def _range(self, deadline: float, revision: int = 0) -> dict[bytes, Message]:
        request = rpc.RangeRequest(key=self._below, range_end=successor(self._below), revision=revision)
        return {kv.key: kv for kv in self._ask("Range", request, deadline).kvs}

    def _ask(self, method: str, request: Message, deadline: float) -> Message:
        """One request, to one server after the other while there is time.

        A transaction may be sent twice so; its condition lets it be carried out once.
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
