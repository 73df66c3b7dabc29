"""gRPC status codes and etcd messages become our errors."""

from __future__ import annotations

import grpc
import pytest

from kube2etcd.errors import (
    EtcdCompacted,
    EtcdError,
    EtcdNoSpace,
    EtcdRefused,
    EtcdSilent,
    EtcdUnauthenticated,
    EtcdUnavailable,
)
from kube2etcd.etcd.failures import is_stale_token, meaning, try_each

SERVER = "http://127.0.0.1:2379"


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        (
            "UNAVAILABLE",
            "failed to connect to all addresses; last error: Connection refused (111)",
            EtcdUnavailable,
        ),
        ("UNAVAILABLE", "etcdserver: leader changed", EtcdUnavailable),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", EtcdSilent),
        ("CANCELLED", "Channel closed!", EtcdUnavailable),
        ("UNKNOWN", "raft: stopped", EtcdUnavailable),
        ("INTERNAL", "", EtcdUnavailable),
        ("DATA_LOSS", "etcdserver: corrupt cluster", EtcdUnavailable),
        ("RESOURCE_EXHAUSTED", "etcdserver: too many requests", EtcdUnavailable),
        ("RESOURCE_EXHAUSTED", "etcdserver: mvcc: database space exceeded", EtcdNoSpace),
        ("RESOURCE_EXHAUSTED", "grpc: received message larger than max (2 vs. 1)", EtcdRefused),
        ("INVALID_ARGUMENT", "etcdserver: too many operations in txn request", EtcdRefused),
        ("INVALID_ARGUMENT", "etcdserver: request is too large", EtcdRefused),
        ("INVALID_ARGUMENT", "etcdserver: duplicate key given in txn request", EtcdRefused),
        ("PERMISSION_DENIED", "etcdserver: permission denied", EtcdRefused),
        ("UNIMPLEMENTED", "unknown service", EtcdRefused),
        ("UNAUTHENTICATED", "etcdserver: invalid auth token", EtcdUnauthenticated),
        ("INVALID_ARGUMENT", "etcdserver: user name is empty", EtcdUnauthenticated),
        (
            "INVALID_ARGUMENT",
            "etcdserver: authentication failed, invalid user ID or password",
            EtcdUnauthenticated,
        ),
        ("INVALID_ARGUMENT", "etcdserver: revision of auth store is old", EtcdUnauthenticated),
        # between asking for a lease and using it we were held up for longer than it lasts
        ("NOT_FOUND", "etcdserver: requested lease not found", EtcdUnavailable),
        ("OUT_OF_RANGE", "etcdserver: mvcc: required revision has been compacted", EtcdCompacted),
        ("OUT_OF_RANGE", "etcdserver: mvcc: required revision is a future revision", EtcdCompacted),
    ],
)
def test_kind(code: str, details: str, kind: type[EtcdError]) -> None:
    error = meaning(SERVER, "Txn", code, details)
    assert type(error) is kind
    assert SERVER in str(error)
    assert "Txn" in str(error)
    assert ": " in str(error), "it says what to try"


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_every_code_has_a_meaning(code: grpc.StatusCode) -> None:
    assert isinstance(meaning(SERVER, "Range", code.name, ""), EtcdError)


def test_details_are_cut_to_the_reason() -> None:
    long = f"failed to connect to all addresses; last error: {'x' * 500}"
    assert "failed to connect" not in str(meaning(SERVER, "Range", "UNAVAILABLE", long))
    assert len(str(meaning(SERVER, "Range", "UNAVAILABLE", long))) < 400


def test_an_unreachable_server_is_named_once() -> None:
    details = "last error: UNKNOWN: ipv4:127.0.0.1:2379: Failed to connect to remote host: Connection refused"
    assert "(Txn: Connection refused)" in str(meaning(SERVER, "Txn", "UNAVAILABLE", details))


def test_stale_token() -> None:
    assert is_stale_token("etcdserver: invalid auth token")
    assert not is_stale_token("etcdserver: permission denied")


@pytest.mark.parametrize("error", [EtcdUnauthenticated("no"), EtcdNoSpace("full")], ids=lambda one: str(one))
def test_what_no_other_server_cures_is_raised_at_once(error: EtcdUnavailable) -> None:
    tried = []

    def attempt() -> None:
        tried.append(1)
        raise error

    with pytest.raises(type(error)):
        try_each(3, attempt)
    assert tried == [1]
