"""Classes and messages of etcd's failures."""

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
from kube2etcd.etcd.failures import is_stale_token, meaning

SERVER = "http://127.0.0.1:2379"


@pytest.mark.parametrize(
    ("code", "details", "expected"),
    [
        ("UNAVAILABLE", "failed to connect to all addresses; last error: x", EtcdUnavailable),
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
        ("PERMISSION_DENIED", "etcdserver: permission denied", EtcdRefused),
        ("UNIMPLEMENTED", "unknown service", EtcdRefused),
        ("UNAUTHENTICATED", "etcdserver: invalid auth token", EtcdUnauthenticated),
        ("INVALID_ARGUMENT", "etcdserver: user name is empty", EtcdUnauthenticated),
        ("INVALID_ARGUMENT", "etcdserver: authentication failed, invalid user ID", EtcdUnauthenticated),
        ("INVALID_ARGUMENT", "etcdserver: revision of auth store is old", EtcdUnauthenticated),
        # The lease ended between its grant and its use.
        ("NOT_FOUND", "etcdserver: requested lease not found", EtcdUnavailable),
        ("OUT_OF_RANGE", "etcdserver: mvcc: required revision has been compacted", EtcdCompacted),
        *((code.name, "", EtcdError) for code in grpc.StatusCode),
    ],
)
def test_class_of_error(code: str, details: str, expected: type[EtcdError]) -> None:
    error = meaning(SERVER, "Txn", code, details)
    assert type(error) is expected or expected is EtcdError
    assert SERVER in str(error)
    assert "Txn" in str(error)
    assert ": " in str(error), "no advice"


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        (f"failed to connect to all addresses; last error: {'x' * 500}", f"{'x' * 199}…"),
        (
            "last error: UNKNOWN: ipv4:127.0.0.1:2379: Failed to connect to remote host: Connection refused",
            "Connection refused",
        ),
    ],
    ids=["truncated", "server named once"],
)
def test_details_are_reduced_to_the_reason(details: str, reason: str) -> None:
    assert f"(Txn: {reason})" in str(meaning(SERVER, "Txn", "UNAVAILABLE", details))


def test_stale_token() -> None:
    assert is_stale_token("etcdserver: invalid auth token")
    assert not is_stale_token("etcdserver: permission denied")


@pytest.mark.parametrize("fault", ["Unwrap failed (TSI_DATA_CORRUPTED)", "Tls handshake failed (TSI_X): why"])
def test_tls_failure_names_the_certificates(fault: str) -> None:
    error = meaning(SERVER, "Range", "UNAVAILABLE", f"last error: UNKNOWN: {fault}")
    assert type(error) is EtcdUnavailable
    assert fault in str(error)
    assert "none has expired" in str(error)
