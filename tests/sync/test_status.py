"""Only changes that etcd accepted are counted and logged as written or repaired."""

from __future__ import annotations

from typing import Any

import pytest

from skydns_compat.message import Message, encode
from tests.objects import deleted
from tests.sync.loop import World, added


def logged_changes(logged: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(one)["fields"] for one in logged.records if one.getMessage() == "records changed"]


def test_refused_changes_are_not_counted_as_written(world: World, logged: pytest.LogCaptureFixture) -> None:
    before = set(world.etcd.entries)
    assert world.count("writes_total", op="put") == len(before)
    world.turn(added("db", "10.0.0.2"))
    new = set(world.etcd.entries) - before
    assert world.count("writes_total", op="put") == len(before | new)
    assert new
    world.etcd.refused = {sorted(new)[0]}
    logged.clear()
    world.turn(deleted("db"))
    assert world.count("writes_total", op="delete") == len(new) - 1
    assert sum(fields["deleted"] for fields in logged_changes(logged)) == len(new) - 1
    assert {fields["object"] for fields in logged_changes(logged)} == {"services/shop/db"}
    assert all(fields["latency"].endswith("ms") for fields in logged_changes(logged))


def test_many_changes_are_logged_as_a_total(
    world: World, logged: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kube2etcd.sync.status.LOG_TOTAL_ABOVE", 1)
    logged.clear()
    world.turn(added("db", "10.0.0.2"))
    [fields] = logged_changes(logged)
    assert fields["added"] == 3
    assert "zone" not in fields


def test_deletion_of_a_stale_key_that_is_no_name_is_logged(
    world: World, logged: pytest.LogCaptureFixture
) -> None:
    logged.clear()
    world.turn(
        world.etcd.foreign_write(b"/skydns/local/cluster/svc/no..name/H", encode(Message(owner="kube2etcd")))
    )
    assert [fields["deleted"] for fields in logged_changes(logged) if "zone" not in fields] == [1]
    world.assert_equal()


def test_deletions_in_a_former_zone_are_not_logged_as_reverse(
    world: World, logged: pytest.LogCaptureFixture
) -> None:
    logged.clear()
    stale, other = encode(Message(owner="kube2etcd")), "/skydns/example/shop/web"
    for key in (other, "/skydns/arpa/in-addr/10/0/0/9"):
        world.turn(world.etcd.foreign_write(key.encode(), stale))
    assert [fields.get("zone") for fields in logged_changes(logged)] == [None, "reverse"]
    world.assert_equal()


@pytest.mark.parametrize("refused", [False, True], ids=["accepted", "refused"])
def test_only_an_accepted_repair_is_counted(world: World, refused: bool) -> None:
    key = sorted(world.etcd.entries)[0]
    world.etcd.refused = {key} if refused else set()
    world.turn(world.etcd.foreign_write(key, None))
    assert (key in world.etcd.entries) is not refused
    assert world.count("repairs_total") == (not refused)
