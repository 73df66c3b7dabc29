"""What the loop counts and logs as written and as repaired: what etcd took, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from skydns_compat.message import Message, encode
from tests.objects import gone
from tests.sync.loop import World, added


def changes(told: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(one)["fields"] for one in told.records if one.getMessage() == "records changed"]


def test_what_etcd_refuses_is_not_counted_as_written(world: World, told: pytest.LogCaptureFixture) -> None:
    before = set(world.etcd.entries)
    assert world.count("writes_total", op="put") == len(before)
    world.turn(added("db", "10.0.0.2"))
    new = set(world.etcd.entries) - before
    assert world.count("writes_total", op="put") == len(before | new)
    assert new
    world.etcd.refused = {sorted(new)[0]}
    told.clear()
    world.turn(gone("db"))
    assert world.count("writes_total", op="delete") == len(new) - 1
    assert sum(fields["deleted"] for fields in changes(told)) == len(new) - 1
    assert {fields["object"] for fields in changes(told)} == {"services/shop/db"}
    assert all(fields["latency"].endswith("ms") for fields in changes(told))


def test_log_of_many_changes(
    world: World, told: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kube2etcd.sync.status.LOG_TOTAL_ABOVE", 1)
    told.clear()
    world.turn(added("db", "10.0.0.2"))
    [fields] = changes(told)
    assert fields["added"] == 3
    assert "zone" not in fields


def test_a_stale_key_of_ours_that_is_no_name_goes_and_is_logged(
    world: World, told: pytest.LogCaptureFixture
) -> None:
    told.clear()
    world.turn(
        world.etcd.by_hand(b"/skydns/local/cluster/svc/no..name/H", encode(Message(owner="kube2etcd")))
    )
    assert [fields["deleted"] for fields in changes(told) if "zone" not in fields] == [1]
    world.assert_equal()


@pytest.mark.parametrize("refused", [False, True])
def test_a_repair_that_etcd_refuses_is_none(world: World, refused: bool) -> None:
    key = sorted(world.etcd.entries)[0]
    world.etcd.refused = {key} if refused else set()
    world.turn(world.etcd.by_hand(key, None))
    assert (key in world.etcd.entries) is not refused
    assert world.count("repairs_total") == (not refused)
