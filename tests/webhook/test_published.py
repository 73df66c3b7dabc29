"""What of the state names anything, and the lines of a hosts file."""

from __future__ import annotations

import pytest

from kube2etcd.external import Domain, Endpoint
from kube2etcd.webhook.adjust import NOWHERE, ClusterAddress
from kube2etcd.webhook.published import HostLines, Published, alias_target, host_lines, published
from kube2etcd.webhook.state import State

DOMAINS = (Domain.parse("dtk.io"),)
CLUSTER = ClusterAddress.parse("192.168.122.167")


def state(*endpoints: Endpoint) -> State:
    return State({endpoint.key: endpoint for endpoint in endpoints})


def a(name: str, *targets: str, sid: str = "") -> Endpoint:
    return Endpoint(f"{name}.dtk.io", targets, "A" if ":" not in targets[0] else "AAAA", sid)


def alias(name: str, target: str, sid: str = "") -> Endpoint:
    return Endpoint(f"{name}.dtk.io", (target,), "CNAME", sid)


def lines(*endpoints: Endpoint, cluster: ClusterAddress = NOWHERE, own: str = "") -> HostLines:
    return host_lines(published(state(*endpoints), DOMAINS, cluster).names, cluster, own)


def test_one_line_per_address_and_name_sorted() -> None:
    found = lines(a("b", "10.0.0.10", "10.0.0.9"), a("b", "fd00::1"), a("a", "10.0.0.1"))
    assert found.lines == [
        ("a.dtk.io", "10.0.0.1"),
        ("b.dtk.io", "10.0.0.9"),
        ("b.dtk.io", "10.0.0.10"),
        ("b.dtk.io", "fd00::1"),
    ]
    assert found.warnings == []


def test_all_sets_of_a_name_together_and_each_address_once() -> None:
    found = lines(a("b", "10.0.0.1", sid="1"), a("b", "10.0.0.2", "10.0.0.1", sid="2"))
    assert found.lines == [("b.dtk.io", "10.0.0.1"), ("b.dtk.io", "10.0.0.2")]


def test_an_alias_has_the_addresses_of_its_target_through_chains() -> None:
    found = lines(a("a", "10.0.0.1"), alias("b", "C.dtk.io."), alias("c", "a.dtk.io"), cluster=CLUSTER)
    assert found.lines == [(f"{name}.dtk.io", "10.0.0.1") for name in "abc"]


@pytest.mark.parametrize("end", [[a("a0999", "10.0.0.1")], []])
def test_a_long_chain_is_walked_once(end: list[Endpoint], monkeypatch: pytest.MonkeyPatch) -> None:
    walked = []

    def counted(endpoint: Endpoint) -> str:
        walked.append(endpoint)
        return alias_target(endpoint)

    monkeypatch.setattr("kube2etcd.webhook.published.alias_target", counted)
    links = [alias(f"a{number:04}", f"a{number + 1:04}.dtk.io") for number in range(999)]
    found = lines(*links, *end)
    assert [address for _, address in found.lines] == ["10.0.0.1"] * (1000 if end else 0)
    assert len(found.warnings) == (0 if end else 999)
    assert len(walked) < 3000


@pytest.mark.parametrize("target", ["out.example", "gone.dtk.io", "text.dtk.io"])
def test_an_alias_to_elsewhere_is_the_cluster_or_nothing(target: str) -> None:
    text = Endpoint("text.dtk.io", ("x",), "TXT")
    assert lines(text, alias("b", target), cluster=CLUSTER).lines == [("b.dtk.io", "192.168.122.167")]
    found = lines(text, alias("b", target))
    assert found.lines == []
    assert len(found.warnings) == 1


@pytest.mark.parametrize(
    "ring",
    [
        (alias("a", "a.dtk.io"),),
        (alias("a", "A.dtk.io."),),
        (alias("a", "b.dtk.io"), alias("b", "a.dtk.io")),
        (alias("a", "b.dtk.io"), alias("b", "c.dtk.io"), alias("c", "a.dtk.io")),
    ],
)
def test_an_alias_to_itself_or_in_a_ring(ring: tuple[Endpoint, ...]) -> None:
    names = [endpoint.dns_name for endpoint in ring]
    found = published(state(*ring), DOMAINS, CLUSTER)
    assert {name: [(one.record_type, one.targets) for one in some] for name, some in found.names.items()} == {
        name: [("A", ("192.168.122.167",))] for name in names
    }
    assert lines(*ring, cluster=CLUSTER).lines == [(name, "192.168.122.167") for name in names]
    none = published(state(*ring), DOMAINS, NOWHERE)
    assert none.names == {}
    assert len(none.warnings) == len(ring)


def test_what_leads_into_a_ring_is_an_alias_of_it() -> None:
    found = published(state(alias("x", "a.dtk.io"), alias("a", "a.dtk.io")), DOMAINS, CLUSTER)
    assert [one.record_type for one in found.names["x.dtk.io"]] == ["CNAME"]
    assert lines(alias("x", "a.dtk.io"), alias("a", "a.dtk.io")).lines == []


def test_addresses_win_over_an_alias() -> None:
    found = published(state(a("b", "10.0.0.1"), alias("b", "x.example")), DOMAINS, NOWHERE)
    assert [one.record_type for one in found.names["b.dtk.io"]] == ["A"]
    assert len(found.warnings) == 1


def test_one_alias_of_several_sets() -> None:
    found = published(state(alias("b", "x.example", "2"), alias("b", "y.example", "1")), DOMAINS, NOWHERE)
    assert [one.targets for one in found.names["b.dtk.io"]] == [("y.example",)]
    assert len(found.warnings) == 1


@pytest.mark.parametrize(
    "endpoint",
    [
        Endpoint("a-foo.dtk.io", ("secret",), "TXT", labels={"ownedRecord": "foo.dtk.io"}),
        Endpoint("a-foo.dtk.io", ('"heritage=external-dns"',), "TXT"),
    ],
)
def test_bookkeeping_is_never_published(endpoint: Endpoint) -> None:
    assert published(state(endpoint), DOMAINS, CLUSTER) == Published()


def test_what_is_no_longer_in_our_domains_is_not_published() -> None:
    found = published(state(Endpoint("x.old.io", ("10.0.0.1",), "A")), DOMAINS, CLUSTER)
    assert found.names == {}
    assert len(found.warnings) == 1


def test_texts_are_published_but_not_in_the_hosts_file() -> None:
    text = Endpoint("t.dtk.io", ("v=spf1 -all",), "TXT")
    assert published(state(text), DOMAINS, CLUSTER).names == {"t.dtk.io": (text,)}
    assert lines(text, cluster=CLUSTER) == HostLines()


def test_a_wildcard_is_not_in_the_hosts_file() -> None:
    found = lines(a("*.wild", "10.0.0.1"))
    assert found.lines == []
    assert len(found.warnings) == 1


def test_this_machine_is_never_taken() -> None:
    found = lines(a("desk", "10.0.0.1"), own="Desk.dtk.io")
    assert found.lines == []
    assert len(found.warnings) == 1
    local = Endpoint("localhost", ("10.0.0.1",), "A")
    names = published(state(local), [Domain.parse("localhost")], NOWHERE).names
    assert host_lines(names, NOWHERE).lines == []


def test_unusable_targets_are_passed_over() -> None:
    mixed = Endpoint("b.dtk.io", ("10.0.0.1", "x"), "A")
    assert lines(mixed).lines == [("b.dtk.io", "10.0.0.1")]
    odd = Endpoint("b.dtk.io", ("a b", "c.dtk.io"), "CNAME")
    assert lines(odd, a("c", "10.0.0.1")).lines[0] == ("b.dtk.io", "10.0.0.1")
