"""What a watch has passed over: what is ours, what is to be looked at, and when."""

from __future__ import annotations

import pytest

from kube2etcd.etcd.v2_untold import Made, Untold


class World:
    """A watch that answers are certain for after ten seconds, and its clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.made = Made()
        self.untold = Untold(self.made, 10.0, lambda: self.now)


@pytest.fixture
def world() -> World:
    return World()


def test_what_was_passed_over_is_due_after_a_while(world: World) -> None:
    world.untold.passed(5, 7)
    assert world.untold.due() is None
    assert not world.untold.others(5), "it may be ours"
    world.now += 10
    world.untold.passed(9, 9)
    assert world.untold.due() == 5
    assert world.untold.others(6)
    assert not world.untold.others(6), "it was looked at"
    assert not world.untold.others(8), "nothing was passed over there"
    world.untold.looked_at(1, 7)
    assert world.untold.due() is None
    world.now += 10
    assert world.untold.due() == 9


def test_what_we_wrote_is_never_due(world: World) -> None:
    world.untold.passed(5, 7)
    for index in (5, 6, 7):
        world.made.add(index)
    world.now += 10
    assert not world.untold.others(6)
    assert world.untold.due() is None


def test_looking_at_some_leaves_the_others(world: World) -> None:
    world.untold.passed(5, 7)
    world.untold.looked_at(6, 6)
    world.now += 10
    assert world.untold.due() == 5
    world.untold.looked_at(5, 5)
    assert world.untold.due() == 7


def test_no_more_is_kept_than_etcd_remembers(world: World) -> None:
    world.untold.passed(1, 5000)
    world.untold.passed(6001, 6001)
    world.now += 10
    assert world.untold.due() == 4002


def test_of_our_own_the_latest_are_kept() -> None:
    made = Made()
    for index in range(10_000):
        made.add(index)
    assert [index in made for index in (0, 5000, 7000, 9999)] == [False, False, True, True]
