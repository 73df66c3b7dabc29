"""One writer at a time: an election among bridges on one etcd, by a lease and a key.

Whoever creates the key leads while its lease is kept alive.  A leader that was paused does not know that its
time is over, so the key's create revision and lease go with every transaction as conditions (`Guard`): etcd
itself refuses what a former leader writes.  The election has a connection and a thread of its own, so that
neither a long write nor a silent server lets the lease end.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from kube2etcd.errors import EtcdDeposed, EtcdError, EtcdRefused
from kube2etcd.etcd.client import EtcdConnection
from kube2etcd.etcd.wire import Message, rpc

log = logging.getLogger(__name__)

#: Seconds that a lease lasts without being renewed.  With the standby's look each second and the half second
#: in which etcd notices that a lease has ended, another bridge leads well within ten seconds.
LEASE = 5
#: Seconds between renewals: two may get lost.
RENEW = 1.5
#: Seconds between reads of the key by a standby.
LOOK = 1.0
#: Seconds between attempts while etcd is away.
RETRY = 0.5
#: Seconds between attempts while etcd does not let us.
REFUSED = 5.0
#: Seconds that `Election.stop` waits at most for the lease to be given back.
STOP_TIMEOUT = 0.3


@dataclass(frozen=True, slots=True)
class Guard:
    """The condition under which a leader may write."""

    key: bytes
    create_revision: int
    lease: int
    """From etcd's clock: revisions start again when etcd loses its data, so one may come twice."""

    def conditions(self) -> list[Message]:
        """The condition as etcd wants it."""
        return [
            _created(self.key, self.create_revision),
            rpc.Compare(result="EQUAL", target="LEASE", key=self.key, lease=self.lease),
        ]

    def holds(self, found: Message) -> bool:
        """Whether ``found`` is the key that this guard is about."""
        return (found.create_revision, found.lease) == (self.create_revision, self.lease)


def _created(key: bytes, revision: int) -> Message:
    return rpc.Compare(result="EQUAL", target="CREATE", key=key, create_revision=revision)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has the key of an election."""

    name: str
    leased: bool
    """Whether it has a lease, as a bridge's always has."""


def holder(connection: EtcdConnection, key: bytes) -> Holder | None:
    """Who has the key of an election, if anybody; `EtcdRefused`: it may not be read."""
    for found in connection.call("Range", rpc.RangeRequest(key=key)).kvs:
        return Holder(found.value.decode(errors="backslashreplace"), found.lease != 0)
    return None


class Election:
    """Takes part in the election of ``key`` until stopped; ``changed`` is called when the leader changes.

    ``name`` is what the others see, and should be unique.
    """

    def __init__(
        self, connection: EtcdConnection, key: bytes, name: str, changed: Callable[[], None]
    ) -> None:
        self._connection = connection
        self._key = key
        self._name = name
        self._changed = changed
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="election", daemon=True)
        self._lease = 0
        self._renewed = 0.0
        # Read by the reconciler's thread: one reference, replaced as a whole.
        self._guard: Guard | None = None
        self._waiting = "who leads is not known yet"

    # -- for the reconciler's thread

    def start(self) -> None:
        """Take part."""
        self._thread.start()

    def stop(self) -> None:
        """Leave; a leader revokes its lease, so that another bridge need not wait for its end."""
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
            return "standing by: the lease of the leader could not be kept alive"
        return ""

    def guard(self) -> Guard:
        """The condition for the next transaction; EtcdDeposed when we do not lead."""
        guard = self._guard
        if guard is None or self.standing_by():
            raise EtcdDeposed("another bridge may lead by now: nothing is written before that is clear")
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
        """One step; the seconds until the next one."""
        try:
            return self._lead() if self._guard is not None else self._campaign()
        except EtcdRefused as error:
            self._resign(f"--leader-elect needs an etcd user that may read and write {self._shown}: {error}")
            return REFUSED
        except EtcdError as error:
            if self.standing_by():
                self._resign(f"standing by: who leads cannot be found out: {error}")
            return RETRY
        except Exception as error:
            log.exception("the election failed")
            self._resign(f"standing by: the election failed: {error}")
            return REFUSED

    def _campaign(self) -> float:
        found = self._connection.call("Range", rpc.RangeRequest(key=self._key)).kvs
        if found and not found[0].lease:
            self._resign(f"standing by: the key {self._shown} has no lease, so no bridge made it: delete it")
            return LOOK
        if found and found[0].lease == self._lease:
            # The answer to our own request was lost.
            return self._lead(Guard(self._key, found[0].create_revision, self._lease))
        if found:
            self._stand_by(found[0])
            return LOOK
        asked = time.monotonic()
        self._lease = self._connection.call("LeaseGrant", rpc.LeaseGrantRequest(TTL=LEASE)).ID
        request = rpc.TxnRequest(compare=[_created(self._key, 0)])
        put = request.success.add().request_put
        put.key, put.value, put.lease = self._key, self._name.encode(), self._lease
        request.failure.add().request_range.key = self._key
        answer = self._connection.call("Txn", request)
        if answer.succeeded:
            self._take_over(Guard(self._key, answer.header.revision, self._lease), asked)
            return RENEW
        holder = answer.responses[0].response_range.kvs[0]
        if holder.lease == self._lease:
            # The first server carried it out and its answer was lost; a second one was asked.
            self._take_over(Guard(self._key, holder.create_revision, self._lease), asked)
            return RENEW
        self._connection.call("LeaseRevoke", rpc.LeaseRevokeRequest(ID=self._lease))
        self._stand_by(holder)
        return LOOK

    def _lead(self, guard: Guard | None = None) -> float:
        """Keep the lease alive, and see whether the key is still ours: somebody may have deleted it."""
        guard = guard or self._guard
        asked = time.monotonic()
        left = self._connection.call("LeaseKeepAlive", rpc.LeaseKeepAliveRequest(ID=self._lease)).TTL
        if left <= 0:
            self._resign("standing by: the lease of the leader has ended")
            return 0.0
        found = self._connection.call("Range", rpc.RangeRequest(key=self._key)).kvs
        if guard is None or not found or not guard.holds(found[0]):
            self._resign("standing by: the key of the election was taken away")
            return 0.0
        self._take_over(guard, asked)
        return RENEW

    def _take_over(self, guard: Guard, asked: float) -> None:
        led = not self.standing_by()
        self._renewed, self._guard = asked, guard
        if not led:
            log.info("%s leads from now on and writes to etcd", self._name)
            self._changed()

    def _stand_by(self, holder: Message) -> None:
        self._resign(f"standing by: {holder.value.decode(errors='replace')} writes to etcd")

    def _resign(self, why: str) -> None:
        led, self._guard = self._guard is not None, None
        if led or why != self._waiting:
            self._waiting = why
            log.log(logging.WARNING if led or not why.startswith("standing by") else logging.INFO, "%s", why)
            self._changed()

    @property
    def _shown(self) -> str:
        return self._key.decode(errors="replace")
