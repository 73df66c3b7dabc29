"""Who has a name that only one can have, and who must look again when that changes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kube2etcd.kube.store import Unit
from kube2etcd.sync.claims import ExclusiveNames
from skydns_compat.names import Name
from tests.strategies import LAW

WEB, DB = Name.parse("web.test"), Name.parse("db.test")
A, B, C = (Unit("services", namespace, "web") for namespace in "abc")


def old(unit: Unit, age: str = "1") -> tuple[str, str, str]:
    return (age, unit.namespace, unit.name)


def looking_again(contest: ExclusiveNames) -> list[Unit]:
    units = sorted(contest.changed)
    contest.changed.clear()
    return units


def test_alone_nobody_has_to_look_again() -> None:
    contest = ExclusiveNames()
    contest.want(A, {WEB: old(A)})
    contest.want(A, {WEB: old(A)})
    assert (contest.holder(WEB), contest.losers(WEB), looking_again(contest)) == (A, [], [])
    contest.want(A, {})
    assert (contest.holder(WEB), looking_again(contest)) == (None, [])


def test_the_older_takes_it_and_the_next_in_line_follows() -> None:
    contest = ExclusiveNames()
    contest.want(B, {WEB: old(B)})
    contest.want(C, {WEB: old(C)})
    assert (contest.holder(WEB), contest.losers(WEB), looking_again(contest)) == (B, [C], [C])
    contest.want(A, {WEB: old(A, "2")})
    assert (contest.losers(WEB), looking_again(contest)) == ([C, A], [A])
    contest.want(A, {WEB: old(A, "0")})
    assert (contest.holder(WEB), looking_again(contest)) == (A, [B])
    contest.want(A, {})
    assert (contest.holder(WEB), looking_again(contest)) == (B, [B])
    assert looking_again(contest) == []


def test_who_does_not_have_it_looks_again_whenever_it_is_looked_at() -> None:
    contest = ExclusiveNames()
    contest.want(A, {WEB: old(A)})
    for _ in range(2):
        contest.want(B, {WEB: old(B), DB: old(B)})
        assert looking_again(contest) == [B]
    assert contest.holder(DB) == B


@LAW
@given(
    st.lists(
        st.tuples(
            st.sampled_from([A, B, C]), st.dictionaries(st.sampled_from([WEB, DB]), st.sampled_from("123"))
        )
    )
)
def test_the_present_decides_and_everybody_is_told(steps: list[tuple[Unit, dict[Name, str]]]) -> None:
    contest = ExclusiveNames()
    present: dict[Unit, dict[Name, str]] = {}
    has: dict[Unit, set[Name]] = {}
    for unit, wanted in steps:
        contest.want(unit, {name: old(unit, age) for name, age in wanted.items()})
        present[unit] = wanted
        for one in [*looking_again(contest), unit]:
            has[one] = {name for name in present.get(one, {}) if contest.holder(name) == one}
        for name in (WEB, DB):
            order = sorted((old(one, ages[name]), one) for one, ages in present.items() if name in ages)
            wanting = [one for _, one in order]
            assert contest.holder(name) == next(iter(wanting), None)
            assert contest.losers(name) == wanting[1:]
            assert [one for one in has if name in has[one]] == wanting[:1]
