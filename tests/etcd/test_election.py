"""The leader election against an in-memory etcd: lost responses, refusals, outages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast
from unittest.mock import Mock

import pytest

from kube2etcd.errors import EtcdDeposed, EtcdRefused, EtcdUnavailable
from kube2etcd.etcd import election as module
from kube2etcd.etcd.client import EtcdConnection
from kube2etcd.etcd.election import BLIND_AFTER, LEASE, Election
from kube2etcd.etcd.wire import Message, rpc
from tests.sync.loop import Clock

KEY = b"/kube2etcd/leader/skydns/test"


class Server:
    """The part of etcd that an election needs; ``before`` and ``after`` are hooks by method."""

    def __init__(self) -> None:
        self.leader_key: Message | None = None
        self.leases: set[int] = set()
        self.revision = 10
        self.before: dict[str, Callable[[], object]] = {}
        self.after: dict[str, Callable[[], object]] = {}
        self.closed = False

    def call(self, method: str, request: Message) -> Any:
        self.before.get(method, bool)()
        answer = getattr(self, method)(request)
        self.after.get(method, bool)()
        return answer

    def close(self) -> None:
        self.closed = True

    def Range(self, request: Message) -> Any:
        return rpc.RangeResponse(kvs=[] if self.leader_key is None else [self.leader_key])

    def LeaseGrant(self, request: Message) -> Any:
        self.revision += 1
        self.leases.add(self.revision)
        return rpc.LeaseGrantResponse(ID=self.revision, TTL=request.TTL)

    def LeaseRevoke(self, request: Message) -> Any:
        self.leases.discard(request.ID)
        if self.leader_key is not None and self.leader_key.lease == request.ID:
            self.leader_key = None
        return rpc.LeaseRevokeResponse()

    def LeaseKeepAlive(self, request: Message) -> Any:
        return rpc.LeaseKeepAliveResponse(ID=request.ID, TTL=LEASE if request.ID in self.leases else 0)

    def Txn(self, request: Message) -> Any:
        present = self.leader_key or key_of(0, 0, b"")
        conditions = {"CREATE": present.create_revision, "LEASE": present.lease}
        held = all(conditions[target_of(one)] == wanted_of(one) for one in request.compare)
        answer = rpc.TxnResponse(succeeded=held)
        if held:
            self.revision += 1
            put = request.success[0].request_put
            self.leader_key = key_of(put.lease, present.create_revision or self.revision, put.value)
        elif request.failure:
            answer.responses.add().response_range.kvs.append(self.leader_key)
        answer.header.revision = self.revision
        return answer


def target_of(compare: Message) -> str:
    return "LEASE" if compare.HasField("lease") else "CREATE"


def wanted_of(compare: Message) -> int:
    return int(compare.lease if compare.HasField("lease") else compare.create_revision)


def key_of(lease: int, created: int, name: bytes) -> Message:
    return rpc.KeyValue(key=KEY, lease=lease, create_revision=created, value=name)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


class Candidate:
    """An election that takes its turns in the test's thread."""

    def __init__(self, server: Server, name: str = "me") -> None:
        self.server, self.changes, self.blind_for = server, 0, 0.0
        self.election = Election(
            cast(EtcdConnection, server), KEY, name, self._changed, lambda: self.blind_for
        )

    def _changed(self) -> None:
        self.changes += 1

    def turn(self) -> Candidate:
        self.election.turn()
        return self

    @property
    def leads(self) -> bool:
        return not self.election.standing_by()


def test_first_candidate_leads_and_the_second_names_it() -> None:
    server = Server()
    first, second = Candidate(server, "first"), Candidate(server, "second")
    assert "not known yet" in first.election.standing_by()
    assert first.turn().leads
    assert first.election.guard().create_revision == server.revision
    assert "first writes" in second.turn().election.standing_by()
    with pytest.raises(EtcdDeposed):
        second.election.guard()
    assert (first.turn().turn().changes, second.turn().changes) == (1, 1), "reported once"


def test_candidate_that_follows_the_cluster_relieves_a_leader_that_does_not() -> None:
    server = Server()
    first, second = Candidate(server, "first"), Candidate(server, "second")
    assert first.turn().leads
    former = first.election.guard()
    second.blind_for = 0.1
    for blind, said in (
        (BLIND_AFTER - 1, "first writes"),
        (BLIND_AFTER, "first (not following the cluster)"),
    ):
        first.blind_for = blind
        assert first.turn().leads
        assert said in second.turn().election.standing_by(), "neither follows the cluster: the leader stays"
    first.blind_for = 0.0
    assert (first.turn().leads, "first writes" in second.turn().election.standing_by()) == (True, True)
    first.blind_for = BLIND_AFTER
    first.turn()
    second.blind_for = 0.0
    assert second.turn().leads
    assert second.election.guard() != former
    assert not first.turn().leads
    assert "second writes" in first.turn().election.standing_by()
    assert (second.turn().leads, first.turn().leads) == (True, False)


def test_relief_that_comes_too_late_changes_nothing() -> None:
    server = Server()
    first, second = Candidate(server, "first"), Candidate(server, "second")
    first.blind_for = BLIND_AFTER
    first.turn()

    def recover() -> None:
        server.leader_key = key_of(server.leader_key.lease + 100, server.revision, b"third")  # type: ignore[union-attr]

    server.before["LeaseGrant"] = recover
    assert not second.turn().leads
    server.before.clear()
    assert len(server.leases) == 1, "its lease is revoked"
    assert "third writes" in second.turn().election.standing_by()


def test_lease_that_cannot_be_renewed_ends_the_leadership(clock: Clock) -> None:
    only = Candidate(Server()).turn()
    only.server.before["LeaseKeepAlive"] = Mock(side_effect=EtcdUnavailable("unavailable"))
    clock.now += LEASE - 1
    assert only.turn().leads
    clock.now += 1
    assert not only.leads
    with pytest.raises(EtcdDeposed):
        only.election.guard()
    assert "unavailable" in only.turn().election.standing_by()
    # It has not expired: etcd extends leases after an outage.
    only.server.before.clear()
    assert only.turn().leads
    assert only.changes == 3


def test_expired_lease_is_replaced() -> None:
    only = Candidate(Server()).turn()
    before = only.election.guard()
    only.server.leases.clear()
    only.server.leader_key = None
    assert not only.turn().leads
    assert only.turn().leads
    assert only.election.guard() != before


def test_lost_key_ends_the_leadership() -> None:
    server = Server()
    only = Candidate(server).turn()
    server.leader_key = None
    assert "deleted or taken" in only.turn().election.standing_by()
    assert only.turn().leads
    # Another's at the same revision, as after etcd lost its data and restarts its revisions.
    guard = only.election.guard()
    server.leader_key = key_of(guard.lease + 1, guard.create_revision, b"another")
    assert "deleted or taken" in only.turn().election.standing_by()
    assert "another writes" in only.turn().election.standing_by()
    created, leased = guard.conditions()
    assert (created.create_revision, leased.lease) == (guard.create_revision, guard.lease)


@pytest.mark.parametrize("lost", ["Txn", "LeaseGrant"])
def test_lost_response_fails_one_attempt(lost: str) -> None:
    server = Server()
    only = Candidate(server)
    server.after[lost] = Mock(side_effect=EtcdUnavailable("timeout"))
    assert not only.turn().leads
    server.after.clear()
    assert only.turn().leads
    assert server.leader_key is not None
    assert only.election.guard().create_revision == server.leader_key.create_revision


@pytest.mark.parametrize("won", [True, False], ids=["ours, applied twice", "another's"])
def test_key_created_before_our_transaction(won: bool) -> None:
    server = Server()
    only = Candidate(server)

    def first() -> None:
        server.leader_key = key_of(max(server.leases), 99, b"me") if won else key_of(1, 99, b"another")

    server.before["Txn"] = first
    if won:
        assert only.turn().leads
        assert only.election.guard().create_revision == 99
    else:
        assert "another writes" in only.turn().election.standing_by()
        assert server.leases == set(), "lease not revoked"


def test_key_without_a_lease_has_no_leader() -> None:
    server = Server()
    server.leader_key = key_of(0, 5, b"by hand")
    assert "delete it" in Candidate(server).turn().election.standing_by()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (EtcdRefused("no"), "--leader-elect needs an etcd user that may read and write /kube2etcd/leader"),
        (EtcdUnavailable("unavailable"), "the leader cannot be determined: unavailable"),
        (ZeroDivisionError("unforeseen"), "the election failed: unforeseen"),
    ],
)
def test_errors_are_reported_and_recovered_from(error: Exception, reason: str) -> None:
    only = Candidate(Server())
    only.server.before["Range"] = Mock(side_effect=error)
    assert reason in only.turn().turn().election.standing_by()
    assert only.changes == 1
    only.server.before.clear()
    assert only.turn().leads


@pytest.mark.parametrize("outage", [False, True], ids=["reachable", "unreachable"])
def test_stopped_leader_revokes_its_lease(outage: bool) -> None:
    server = Server()
    only = Candidate(server)
    only.election.start()
    while not only.leads:
        pass
    if outage:
        server.before["LeaseRevoke"] = Mock(side_effect=EtcdUnavailable("unavailable"))
    only.election.deposed()
    only.election.stop()
    assert (server.leader_key is None) != outage
    assert server.closed
    assert not only.leads
