"""Each reason is logged once for each object, and no object talks without end."""

from __future__ import annotations

from kube2etcd.kube.store import Unit
from kube2etcd.sync.reasons import AT_ONCE, ENOUGH, LONGEST, MOST, LoggedReasons, lines

UNIT = Unit("services", "shop", "web")
OTHER = Unit("services", "shop", "api")


def test_each_reason_is_told_once_for_each_object() -> None:
    logged = LoggedReasons()
    assert logged.fresh(UNIT, ["a", "b", "a"]) == ["a", "b"]
    assert logged.fresh(UNIT, ["b", "c"]) == ["c"]
    assert logged.fresh(UNIT, []) == []
    assert logged.fresh(UNIT, ["a", "b", "c"]) == []
    assert logged.fresh(OTHER, ["a"]) == ["a"]


def test_what_is_gone_and_comes_again_is_another_object() -> None:
    logged = LoggedReasons()
    logged.fresh(UNIT, ["a"])
    logged.forget(UNIT)
    logged.forget(UNIT)
    assert logged.fresh(UNIT, ["a"]) == ["a"]


def test_a_list_says_who_of_its_kind_is_gone() -> None:
    logged = LoggedReasons()
    elsewhere = Unit("pods", "shop", "web")
    for unit in (UNIT, OTHER, elsewhere):
        logged.fresh(unit, ["a"])
    logged.listed("services", lambda unit: unit == OTHER)
    assert len(logged) == 2
    assert [logged.fresh(unit, ["a"]) for unit in (UNIT, OTHER, elsewhere)] == [["a"], [], []]


def test_who_changes_its_reasons_for_ever_is_told_so_once() -> None:
    logged = LoggedReasons()
    lines = [line for number in range(5 * MOST) for line in logged.fresh(UNIT, [f"address {number}"])]
    assert len(lines) == MOST
    assert lines[-2:] == [f"address {MOST - 2}", ENOUGH]


def test_a_log_is_told_no_more_than_somebody_reads() -> None:
    assert lines([]) == []
    assert lines([(UNIT, "a"), (OTHER, "b" * LONGEST)]) == [f"{UNIT}: a", f"{OTHER}: {'b' * LONGEST}"]
    assert lines([(UNIT, "b" * LONGEST + "c")]) == [f"{UNIT}: {'b' * LONGEST}…"]
    many = lines([(UNIT, str(number)) for number in range(AT_ONCE + 5)])
    assert len(many) == AT_ONCE + 1
    assert many[-1].startswith("5 more records are left out")
