"""What is made of the outcome of each change: refusals, conflicts, and when to give up."""

from __future__ import annotations

import pytest

from kube2etcd.errors import EtcdRefused, EtcdUnavailable
from kube2etcd.etcd.changes import Put
from kube2etcd.etcd.v2_account import Account, ChangedError

CHANGE = Put(b"/skydns/x", b"1")


def test_what_was_written_refused_and_told_is_added_up() -> None:
    told: list[int] = []
    account = Account(told.append)
    account.settle(CHANGE, 7)
    account.settle(CHANGE, 0)  # nothing was to be done
    account.settle(CHANGE, EtcdRefused("no"))
    account.revisions([9, 8])
    result = account.result()
    assert told == [1, 2]
    assert (result.revision, result.own_revisions, result.written) == (9, frozenset({7, 8, 9}), 2)
    assert result.refused == ((CHANGE, "no"),)


def test_a_conflict_is_no_refusal_and_is_told_at_the_end() -> None:
    account = Account(None)
    account.settle(CHANGE, 7)
    account.settle(CHANGE, ChangedError("/skydns/x"))
    assert account.refused == []
    with pytest.raises(EtcdUnavailable, match=r"1 keys in etcd were changed by others.*/skydns/x"):
        account.result()


@pytest.mark.parametrize("written", [0, 1])
def test_refusals_alone_are_hopeless_but_beside_a_success_they_are_not(written: int) -> None:
    account = Account(None)
    for _ in range(written):
        account.settle(CHANGE, 7)
    for _ in range(63):
        account.settle(CHANGE, EtcdRefused("no"))
    assert not account.hopeless
    account.settle(CHANGE, EtcdRefused("no"))
    assert account.hopeless == (written == 0)
