"""One writer at a time: leader election among bridges on one etcd, by a lease and a key.

The creator of the key leads while its lease is alive.  A paused leader does not notice that its lease has
expired, so every transaction is conditional on the key's create revision and lease (`Guard`): etcd itself
refuses writes of a former leader.  A separate connection and thread keep the lease alive during long writes.
A leader that does not follow the cluster says so in the key, and a bridge that does takes over, if any does.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable

import msgspec

from kube2etcd.errors import EtcdDeposed, EtcdError, EtcdRefused
from kube2etcd.etcd.client import EtcdConnection
from kube2etcd.etcd.wire import Message, rpc

log = logging.getLogger(__name__)

#: TTL of the lease in seconds.  A standby checks every second and etcd expires leases within half a second,
#: so another bridge leads well within ten seconds.
LEASE = 5
#: Seconds between renewals, two of which may get lost.
RENEW = 1.5
#: Seconds between reads of the key by a standby.
LOOK = 1.0
#: Seconds between attempts while etcd is unavailable.
RETRY = 0.5
#: Seconds between attempts while etcd denies access.
REFUSED = 5.0
#: Seconds without the API server after which a leader asks to be relieved by a bridge that follows it.
BLIND_AFTER = 15.0
#: Ends the key's value then; the others show it too.
BLIND = b" (not following the cluster)"
#: Seconds that `Election.stop` waits at most for the lease to be revoked.
STOP_TIMEOUT = 0.3


class Guard(msgspec.Struct, frozen=True):
    """The condition that fences a leader's writes."""

    key: bytes
    create_revision: int
    lease: int
    """Unique even after data loss, when revisions start again."""

    def conditions(self) -> list[Message]:
        """The condition as etcd compares."""
        return [
            _created(self.key, self.create_revision),
            rpc.Compare(result="EQUAL", target="LEASE", key=self.key, lease=self.lease),
        ]


def _created(key: bytes, revision: int) -> Message:
    return rpc.Compare(result="EQUAL", target="CREATE", key=key, create_revision=revision)


def leader(connection: EtcdConnection, key: bytes) -> Message | None:
    """The key of an election, if it exists: its value names the leader, its lease is the leader's.

    :raises EtcdRefused: we may not read it.
    """
    return next(iter(connection.call("Range", rpc.RangeRequest(key=key)).kvs), None)


class Election:
    """Takes part in the election of ``key`` until stopped; ``changed`` is called when the leader changes.

    ``name`` is shown by the other bridges and should be unique.  ``blind_for`` returns the seconds for which
    this bridge has not followed the cluster, 0 if it does; called from the election's thread.
    """

    def __init__(
        self,
        connection: EtcdConnection,
        key: bytes,
        name: str,
        changed: Callable[[], None],
        blind_for: Callable[[], float] = float,
    ) -> None:
        self._connection = connection
        self._key = key
        self._shown = key.decode(errors="replace")
        self._name = name
        self._changed, self._blind_for = changed, blind_for
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="election", daemon=True)
        self._lease = 0
        self._renewed = 0.0
        # Read by the reconciler's thread: one reference, replaced as a whole.
        self._guard: Guard | None = None
        self._waiting = "the leader is not known yet"

    # -- for the reconciler's thread

    def start(self) -> None:
        """Start taking part."""
        self._thread.start()

    def stop(self) -> None:
        """Withdraw; a leader revokes its lease, so that another bridge takes over at once."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(STOP_TIMEOUT)
        self._connection.close()

    def standing_by(self) -> str:
        """Why we may not write; empty for the leader."""
        if self._guard is None:
            return self._waiting
        if time.monotonic() >= self._renewed + LEASE:
            return "standing by: our lease could not be renewed"
        return ""

    def guard(self) -> Guard:
        """The condition for the next transaction; EtcdDeposed when we do not lead."""
        guard = self._guard
        if guard is None or self.standing_by():
            raise EtcdDeposed("another bridge may lead by now: nothing is written until that is known")
        return guard

    def deposed(self) -> None:
        """etcd has refused our guard: find out at once who leads."""
        self._wake.set()

    # -- the thread

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(self.turn())
            self._wake.clear()
        if self._guard is not None:
            self._guard = None
            with contextlib.suppress(EtcdError):
                self._connection.call("LeaseRevoke", rpc.LeaseRevokeRequest(ID=self._lease))

    def turn(self) -> float:
        """Take one step; returns the seconds until the next."""
        try:
            return self._campaign() if self._guard is None else self._lead(self._guard)
        except EtcdRefused as error:
            self._resign(f"--leader-elect needs an etcd user that may read and write {self._shown}: {error}")
            return REFUSED
        except EtcdError as error:
            if self.standing_by():
                self._resign(f"standing by: the leader cannot be determined: {error}")
            return RETRY
        except Exception as error:
            log.exception("the election failed")
            self._resign(f"standing by: the election failed: {error}")
            return REFUSED

    def _campaign(self) -> float:
        found = leader(self._connection, self._key)
        if found is None:
            asked = time.monotonic()
            self._lease = self._connection.call("LeaseGrant", rpc.LeaseGrantRequest(TTL=LEASE)).ID
            request = self._claim([_created(self._key, 0)], self._lease)
            request.failure.add().request_range.key = self._key
            answer = self._connection.call("Txn", request)
            if answer.succeeded:
                self._take_over(Guard(self._key, answer.header.revision, self._lease), asked)
                return RENEW
            found = answer.responses[0].response_range.kvs[0]
            if found.lease != self._lease:
                self._connection.call("LeaseRevoke", rpc.LeaseRevokeRequest(ID=self._lease))
        if not found.lease:
            self._resign(f"standing by: the key {self._shown} has no lease, so no bridge made it: delete it")
        elif found.lease == self._lease:
            # The response to our own request was lost.
            return self._lead(Guard(self._key, found.create_revision, self._lease))
        elif found.value.endswith(BLIND) and not self._blind_for():
            return self._relieve(Guard(self._key, found.create_revision, found.lease))
        else:
            self._resign(f"standing by: {found.value.decode(errors='replace')} writes to etcd")
        return LOOK

    def _claim(self, conditions: list[Message], lease: int) -> Message:
        """A transaction that makes the key ours under these conditions."""
        request = rpc.TxnRequest(compare=conditions)
        put = request.success.add().request_put
        put.key, put.value, put.lease = self._key, self._value(), lease
        return request

    def _value(self) -> bytes:
        """What the others read: our name, and whether one that follows the cluster should relieve us."""
        return self._name.encode() + (BLIND if self._blind_for() >= BLIND_AFTER else b"")

    def _relieve(self, theirs: Guard) -> float:
        """Take over from a leader that does not follow the cluster.

        The key stays, with its create revision; the lease in every guard tells the writers apart.
        """
        asked = time.monotonic()
        self._lease = self._connection.call("LeaseGrant", rpc.LeaseGrantRequest(TTL=LEASE)).ID
        if self._connection.call("Txn", self._claim(theirs.conditions(), self._lease)).succeeded:
            self._take_over(Guard(self._key, theirs.create_revision, self._lease), asked)
            return RENEW
        self._connection.call("LeaseRevoke", rpc.LeaseRevokeRequest(ID=self._lease))
        return RETRY

    def _lead(self, guard: Guard) -> float:
        """Keep the lease alive, and check that the key is still ours: it may have been deleted."""
        asked = time.monotonic()
        left = self._connection.call("LeaseKeepAlive", rpc.LeaseKeepAliveRequest(ID=guard.lease)).TTL
        if left <= 0:
            self._resign("standing by: our lease has expired")
            return 0.0
        found = leader(self._connection, self._key)
        if found is None or (found.create_revision, found.lease) != (guard.create_revision, guard.lease):
            self._resign("standing by: the election key was deleted or taken")
            return 0.0
        if found.value != self._value():
            self._connection.call("Txn", self._claim(guard.conditions(), guard.lease))
        self._take_over(guard, asked)
        return RENEW

    def _take_over(self, guard: Guard, asked: float) -> None:
        led = not self.standing_by()
        self._renewed, self._guard = asked, guard
        if not led:
            log.info("%s leads now and writes to etcd", self._name)
            self._changed()

    def _resign(self, why: str) -> None:
        led, self._guard = self._guard is not None, None
        if led or why != self._waiting:
            self._waiting = why
            log.log(logging.WARNING if led or not why.startswith("standing by") else logging.INFO, "%s", why)
            self._changed()
