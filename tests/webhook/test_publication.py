"""State to hosts file lines and names for the reconciler."""

from collections.abc import Mapping

import pytest

from kube2etcd.external import Domain, Endpoint, parse_cluster_address
from kube2etcd.kube.objects import DnsEndpoint, Metadata
from kube2etcd.webhook import provider as publication_module
from kube2etcd.webhook.provider import Conditions, Effective, Publication, host_addresses
from kube2etcd.webhook.state import State
from kube2etcd.zones.targets import MAX_ALIASES
from skydns_compat.names import Address
from tests.webhook.fakes import MemoryHosts

DOMAINS = (Domain.parse("dtk.io"),)
CLUSTER = parse_cluster_address("192.168.122.167")


def state(*endpoints: Endpoint) -> State:
    return State({endpoint.key: endpoint for endpoint in endpoints})


def a(name: str, *targets: str, sid: str = "") -> Endpoint:
    return Endpoint(f"{name}.dtk.io", targets, "AAAA" if ":" in targets[0] else "A", sid)


def alias(name: str, *targets: str, sid: str = "") -> Endpoint:
    return Endpoint(f"{name}.dtk.io", targets, "CNAME", sid)


def lines(*endpoints: Endpoint, cluster: tuple[Address, ...] = (), own: str = "") -> list[tuple[str, str]]:
    hosts = MemoryHosts()
    publication = Publication(hosts, None, own, Conditions())
    publication.publish()
    publication.update(Effective(state(*endpoints), DOMAINS, cluster))
    publication.write_hosts()
    return list(hosts.lines)


def reason(name: str, *endpoints: Endpoint, cluster: tuple[Address, ...] = (), own: str = "") -> str:
    by_name = {one.name: [one] for one in endpoints}
    return host_addresses(f"{name}.dtk.io", lambda known: by_name.get(known, []), cluster, own)[1]


def published(*states: State) -> list[dict[str, DnsEndpoint | None]]:
    """What is sent of these states, one after the other."""
    sent: list[dict[str, DnsEndpoint | None]] = []
    publication = Publication(None, lambda _, names, __: sent.append({**names}), "", Conditions())
    for one in states:
        publication.update(Effective(one, DOMAINS, ()))
        publication.write_hosts()  # there is none
        publication.publish()
    return sent


def test_one_line_per_address_and_name_sorted() -> None:
    assert lines(a("b", "10.0.0.10", "10.0.0.9"), a("b", "fd00::1"), a("a", "10.0.0.1")) == [
        ("a.dtk.io", "10.0.0.1"),
        ("b.dtk.io", "10.0.0.9"),
        ("b.dtk.io", "10.0.0.10"),
        ("b.dtk.io", "fd00::1"),
    ]


def test_a_chain_that_is_too_long_has_no_address() -> None:
    links = [alias(f"a{number:02}", f"a{number + 1:02}.dtk.io") for number in range(MAX_ALIASES + 3)]
    end = a(f"a{MAX_ALIASES + 3:02}", "10.0.0.1")
    found = [name for name, _ in lines(*links, end, cluster=CLUSTER)]
    assert found[0] == "a03.dtk.io"
    assert f"more than {MAX_ALIASES} aliases" in reason("a00", *links, end)


@pytest.mark.parametrize("target", ["out.example", "gone.dtk.io", "text.dtk.io"])
def test_an_alias_to_an_unknown_target_is_the_cluster_address_or_nothing(target: str) -> None:
    text = Endpoint("text.dtk.io", ("x",), "TXT")
    assert lines(text, alias("b", target), cluster=CLUSTER) == [("b.dtk.io", "192.168.122.167")]
    assert lines(text, alias("b", target)) == []
    assert "no cluster address" in reason("b", text, alias("b", target))


def test_addresses_win_over_an_alias_and_the_first_alias_over_others() -> None:
    assert lines(a("b", "10.0.0.1"), alias("b", "c.dtk.io"), a("c", "10.0.0.9"))[0] == (
        "b.dtk.io",
        "10.0.0.1",
    )
    two = alias("b", "z.dtk.io", "c.dtk.io")
    assert lines(two, a("c", "10.0.0.9"), a("z", "10.0.0.1"))[0] == ("b.dtk.io", "10.0.0.1")
    sets = (alias("b", "c.dtk.io", sid="2"), alias("b", "z.dtk.io", sid="1"))
    assert lines(*sets, a("c", "10.0.0.9"), a("z", "10.0.0.1"))[0] == ("b.dtk.io", "10.0.0.1")


def test_an_alias_to_an_address_is_none_here_and_in_dns() -> None:
    assert lines(alias("b", "10.0.0.5"), cluster=CLUSTER) == []


@pytest.mark.parametrize(
    "endpoint",
    [
        Endpoint("a-foo.dtk.io", ("secret",), "TXT", labels={"ownedRecord": "foo.dtk.io"}),
        Endpoint("a-foo.dtk.io", ('"heritage=external-dns"',), "TXT"),
    ],
)
def test_ownership_texts_are_never_published(endpoint: Endpoint) -> None:
    assert published(state(endpoint)) == [{}]


def test_names_outside_the_domains_are_not_in_the_hosts_file() -> None:
    assert lines(Endpoint("x.old.io", ("10.0.0.1",), "A")) == []


def test_texts_wildcards_and_this_machine_are_not_in_the_hosts_file() -> None:
    assert lines(Endpoint("t.dtk.io", ("v=spf1 -all",), "TXT"), cluster=CLUSTER) == []
    assert lines(a("*.wild", "10.0.0.1")) == []
    assert "wildcard" in reason("*.wild", a("*.wild", "10.0.0.1"))
    assert lines(a("desk", "10.0.0.1"), own="Desk.dtk.io") == []
    assert "this machine" in reason("desk", a("desk", "10.0.0.1"), own="Desk.dtk.io")
    local = Endpoint("localhost", ("10.0.0.1",), "A")
    assert host_addresses("localhost", lambda _: [local], ())[0] == ()


def test_unusable_targets_are_skipped() -> None:
    assert lines(Endpoint("b.dtk.io", ("10.0.0.1", "x"), "A")) == [("b.dtk.io", "10.0.0.1")]
    odd = Endpoint("b.dtk.io", ("a b", "c.dtk.io"), "CNAME")
    assert lines(odd, a("c", "10.0.0.1"))[0] == ("b.dtk.io", "10.0.0.1")


def test_only_changed_names_are_resolved_again(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    def counted(name: str, *args: object) -> object:
        looked.append(name)
        return host_addresses(name, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(publication_module, "host_addresses", counted)
    sent: list[list[str]] = []
    hosts = MemoryHosts()
    publication = Publication(hosts, lambda _, names, __: sent.append(sorted(names)), "", Conditions())
    many = [a(f"n{number}", "10.0.0.1") for number in range(1000)]
    before = Effective(state(*many, alias("to", "late.dtk.io")), DOMAINS, ())
    publication.update(before)
    publication.write_hosts()
    publication.publish()
    wanted = hosts.lines
    looked.clear()
    after = Effective(state(*many, alias("to", "late.dtk.io"), a("late", "10.0.0.2")), DOMAINS, ())
    # A call that cannot be written is taken back, and published as if it had never been.
    for current, expected in ((after, 1002), (before, 1000), (after, 1002)):
        publication.update(current)
        publication.write_hosts()
        assert len(hosts.lines) == expected
    publication.publish()
    assert sorted(set(looked)) == ["late.dtk.io", "to.dtk.io"]
    assert sent[1:] == [["late.dtk.io", "to.dtk.io"]]
    assert hosts.lines is not wanted
    wanted = hosts.lines
    publication.write_hosts()
    assert hosts.lines is wanted


def test_an_alias_follows_a_new_address_of_its_target() -> None:
    hosts = MemoryHosts()
    publication = Publication(hosts, None, "", Conditions())
    for address in ("10.0.0.1", "10.0.0.2"):
        one = state(alias("b", "c.dtk.io"), alias("c", "a.dtk.io"), a("a", address))
        publication.update(Effective(one, DOMAINS, ()))
        publication.write_hosts()
        assert hosts.lines == [(f"{name}.dtk.io", address) for name in "abc"]


def test_a_name_whose_refusal_changes_is_sent_again() -> None:
    name, kept = "b.dtk.io", state(a("b", "10.0.0.1")).endpoints
    why = {name: "no address"}
    refused = DnsEndpoint(Metadata("", name), (), why)
    both = DnsEndpoint(Metadata("", name), tuple(kept.values()), why)
    assert published(State(), State(refused=why), State(refused=why), State(kept, refused=why), State()) == [
        {},
        {name: refused},
        {},
        {name: both},
        {name: None},
    ]


def test_lines_of_a_removed_domain_are_removed() -> None:
    hosts = MemoryHosts()
    publication = Publication(hosts, None, "", Conditions())
    one = state(a("b", "10.0.0.1"))
    for domains, expected in ((DOMAINS, 1), ((), 0), (DOMAINS, 1)):
        publication.update(Effective(one, domains, ()))
        publication.write_hosts()
        assert len(hosts.lines) == expected


def test_names_that_could_not_be_sent_are_sent_again() -> None:
    sent: list[tuple[list[str], bool]] = []

    def publish(_current: Effective, names: Mapping[str, object], relist: bool) -> None:
        sent.append((sorted(names), relist))
        assert len(sent) != 2, "it fails once"

    publication = Publication(None, publish, "", Conditions())
    publication.update(Effective(state(a("b", "10.0.0.1")), DOMAINS, ()))
    publication.publish()
    publication.update(Effective(state(a("b", "10.0.0.1"), a("c", "10.0.0.1")), DOMAINS, ()))
    with pytest.raises(AssertionError):
        publication.publish()
    publication.publish()
    assert sent == [(["b.dtk.io"], True), (["c.dtk.io"], False), (["b.dtk.io", "c.dtk.io"], True)]
