from __future__ import annotations

import pytest

from kube2etcd.errors import EtcdCompacted, EtcdError, EtcdRefused, EtcdUnauthenticated, EtcdUnavailable
from kube2etcd.etcd import v2_failures

SERVER = "http://192.0.2.1:2379"


@pytest.mark.parametrize(
    ("status", "code", "error", "hint"),
    [
        (400, 401, EtcdCompacted, "read a new snapshot"),
        (400, 400, EtcdUnavailable, "watch again"),
        (401, 0, EtcdUnauthenticated, "its password file and its role"),
        (401, 110, EtcdUnauthenticated, "its password file and its role"),
        (403, 0, EtcdUnauthenticated, "its password file and its role"),
        (404, 0, EtcdRefused, "--enable-v2"),
        (400, 104, EtcdRefused, "/skydns/a holds a value"),
        (403, 102, EtcdRefused, "/skydns/a is a directory"),
        (500, 300, EtcdUnavailable, "whether it has a leader"),
        (500, 301, EtcdUnavailable, "whether it has a leader"),
        (307, 0, EtcdUnavailable, "see its log"),
        (503, 0, EtcdUnavailable, "see its log"),
        (400, 209, EtcdRefused, "refuses the request"),
        (413, 0, EtcdRefused, "refuses the request"),
    ],
)
def test_what_a_failure_means(status: int, code: int, error: type[EtcdError], hint: str) -> None:
    found = v2_failures.meaning(SERVER, "PUT", status, code, "words", "/skydns/a")
    assert type(found) is error
    assert hint in str(found)


def test_no_answer_at_all() -> None:
    assert "(PUT: refused): check that it runs" in str(v2_failures.unreachable(SERVER, "PUT", "refused"))
    assert "did not answer in time (GET)" in str(v2_failures.silent(SERVER, "GET"))
