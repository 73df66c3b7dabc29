"""Endpoints by name: which names a change touches."""

import pytest

from kube2etcd.external import Endpoint, NameIndex


def end(name: str, rtype: str, *targets: str) -> Endpoint:
    return Endpoint(name, targets, rtype)


A, B = end("a.x", "A", "10.0.0.1"), end("B.x.", "CNAME", "a.x.")
C = end("c.x", "CNAME", "b.x")


def filled() -> NameIndex[str]:
    index: NameIndex[str] = NameIndex()
    index.put("one", [], [A, C])
    index.put("two", [], [B])
    return index


def test_the_endpoints_of_a_name_by_holder() -> None:
    index = filled()
    index.put("three", [], [A])
    assert index.of("a.x") == {"one": (A,), "three": (A,)}
    assert index.of("gone.x") == {}
    assert sorted(index.names()) == ["a.x", "b.x", "c.x"]


@pytest.mark.parametrize(
    ("holder", "before", "after", "touched"),
    [
        pytest.param("one", [A, C], [A, C], set(), id="nothing new"),
        pytest.param("one", [A, C], [end("a.x", "A", "10.0.0.2"), C], {"a.x"}, id="another address"),
        pytest.param(
            "one", [A, C], [C], {"a.x", "b.x", "c.x"}, id="who leads to it is touched, over any way"
        ),
        pytest.param("one", [A, C], [A, end("c.x", "CNAME", "d.x")], {"c.x"}, id="leads elsewhere"),
        pytest.param("two", [B], [end("b.x", "CNAME", "c.x")], {"b.x", "c.x"}, id="a ring"),
        pytest.param("three", [], [end("a.x", "TXT", "t")], {"a.x"}, id="a second holder"),
        pytest.param("three", [], [end("d.x", "A", "10.0.0.1")], {"d.x"}, id="a new name"),
        pytest.param("three", [], [end("b.x", "A", "10.0.0.1")], {"b.x", "c.x"}, id="an address at an alias"),
    ],
)
def test_touched(holder: str, before: list[Endpoint], after: list[Endpoint], touched: set[str]) -> None:
    assert filled().put(holder, before, after) == touched


def test_one_of_two_aliases_to_a_name_turns_away() -> None:
    index = filled()
    index.put("three", [], [end("d.x", "CNAME", "a.x")])
    assert index.put("two", [B], []) == {"b.x", "c.x"}
    assert index.put("one", [A, C], []) == {"a.x", "c.x", "d.x"}


def test_nothing_is_left_of_what_goes() -> None:
    index = filled()
    index.put("three", [], [end("c.x", "CNAME", "b.x")])
    assert index.put("one", [A, C], []) == {"a.x", "b.x", "c.x"}
    assert index.put("two", [B], []) == {"b.x", "c.x"}
    assert index.put("three", [end("c.x", "CNAME", "b.x")], []) == {"c.x"}
    assert list(index.names()) == []
    assert index.__dict__ == NameIndex().__dict__


@pytest.mark.parametrize(
    "after",
    [
        pytest.param([B, end("b.x", "A", "10.0.0.1")], id="an address that can be used"),
        pytest.param([B, end("b.x", "AAAA", "-")], id="of the other family"),
        pytest.param([Endpoint("b.x", ("a.x",), "CNAME", ttl=-1), end("b.x", "A", "-")], id="an odd TTL"),
        pytest.param(
            [end("b.x", "CNAME", "A.x"), end("b.x", "A", "-")], id="the same way, spelled otherwise"
        ),
    ],
)
def test_whatever_affects_an_alias_touches_its_referrers(after: list[Endpoint]) -> None:
    """Which addresses and aliases are usable is for the source to say, so each change of them counts."""
    index = filled()
    before = [B, end("b.x", "A", "-")]
    index.put("two", [B], before)
    assert index.put("two", before, after) == {"b.x", "c.x"}
    assert index.put("two", after, after) == set()
