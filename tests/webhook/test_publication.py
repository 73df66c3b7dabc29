"""The state as lines of the hosts file and as names for the reconciler."""

from collections.abc import Mapping

import pytest

from kube2etcd.external import Domain, Endpoint, parse_cluster_address
from kube2etcd.kube.objects import DnsEndpoint, Metadata
from kube2etcd.webhook import provider as publication_module
from kube2etcd.webhook.provider import Conditions, Effective, Publication, host_addresses
from kube2etcd.webhook.state import State
from kube2etcd.zones.targets import MAX_ALIASES
from tests.webhook.fakes import MemoryHosts

DOMAINS = (Domain.parse("dtk.io"),)
CLUSTER = parse_cluster_address("10.9.9.9")


def state(*endpoints: Endpoint) -> State:
    return State({endpoint.key: endpoint for endpoint in endpoints})


def a(name: str, *targets: str, sid: str = "") -> Endpoint:
    return Endpoint(f"{name}.dtk.io", targets, "AAAA" if ":" in targets[0] else "A", sid)


def alias(name: str, *targets: str, sid: str = "") -> Endpoint:
    return Endpoint(f"{name}.dtk.io", targets, "CNAME", sid)


def published(*states: State) -> list[dict[str, DnsEndpoint | None]]:
    """The names sent for these states, one after the other."""
    sent: list[dict[str, DnsEndpoint | None]] = []
    publication = Publication(None, lambda _, names, __: sent.append({**names}), "", Conditions())
    for one in states:
        publication.update(Effective(one, DOMAINS, ()))
        publication.write_hosts()  # no hosts file
        publication.publish()
    return sent


TEXT = Endpoint("text.dtk.io", ("v=spf1 -all",), "TXT")
ONE, NINE = a("one", "10.0.0.1"), a("nine", "10.0.0.9")
CHAIN = [
    *(alias(f"a{at:02}", f"a{at + 1:02}.dtk.io") for at in range(MAX_ALIASES + 1)),
    a(f"a{MAX_ALIASES + 1:02}", "10.0.0.1"),
]


@pytest.mark.parametrize(
    ("endpoints", "expected"),
    [
        pytest.param([TEXT], "", id="no addresses"),
        pytest.param([Endpoint("x.old.io", ("10.0.0.1",), "A")], "", id="outside the domains"),
        pytest.param(
            [a("b", "10.0.0.10", "10.0.0.9"), a("b", "fd00::1"), a("a", "10.0.0.1")],
            "a 10.0.0.1, b 10.0.0.9, b 10.0.0.10, b fd00::1",
            id="line per address and name",
        ),
        pytest.param([alias("b", "out.example")], "b 10.9.9.9", id="CNAME outside our domains"),
        pytest.param([alias("b", "gone.dtk.io")], "b 10.9.9.9", id="dangling CNAME"),
        pytest.param([alias("b", "text.dtk.io"), TEXT], "b 10.9.9.9", id="CNAME to a TXT record"),
        pytest.param([alias("b", "10.0.0.5")], "", id="CNAME to an address, left out as in DNS"),
        pytest.param(
            [a("b", "10.0.0.2"), alias("b", "one.dtk.io")], "b 10.0.0.2", id="addresses beat a CNAME"
        ),
        pytest.param(
            [alias("b", "one.dtk.io", "nine.dtk.io"), NINE, ONE],
            "b 10.0.0.1, nine 10.0.0.9, one 10.0.0.1",
            id="first CNAME target",
        ),
        pytest.param(
            [alias("b", "nine.dtk.io", sid="2"), alias("b", "one.dtk.io", sid="1"), NINE, ONE],
            "b 10.0.0.1, nine 10.0.0.9, one 10.0.0.1",
            id="first set identifier",
        ),
        pytest.param([a("b", "10.0.0.1", "x")], "b 10.0.0.1", id="invalid address"),
        pytest.param(
            [alias("b", "a b", "one.dtk.io"), ONE], "b 10.0.0.1, one 10.0.0.1", id="invalid CNAME target"
        ),
    ],
)
def test_lines_of_the_hosts_file(endpoints: list[Endpoint], expected: str) -> None:
    hosts = MemoryHosts()
    publication = Publication(hosts, None, "", Conditions())
    publication.publish()
    publication.update(Effective(state(*endpoints), DOMAINS, CLUSTER))
    publication.write_hosts()
    assert ", ".join(f"{name.removesuffix('.dtk.io')} {address}" for name, address in hosts.lines) == expected


@pytest.mark.parametrize(
    ("endpoints", "expected"),
    [
        pytest.param([alias("b", "out.example")], "no cluster address", id="CNAME outside our domains"),
        pytest.param(CHAIN, f"more than {MAX_ALIASES} aliases", id="CNAME chain too long"),
        pytest.param([a("*.wild", "10.0.0.1")], "wildcard", id="wildcard"),
        pytest.param([a("desk", "10.0.0.1")], "this machine", id="our host name"),
        pytest.param([Endpoint("localhost", ("10.0.0.1",), "A")], "this machine", id="localhost"),
    ],
)
def test_names_without_a_line(endpoints: list[Endpoint], expected: str) -> None:
    by_name = {one.name: [one] for one in endpoints}
    found, reason = host_addresses(endpoints[0].name, lambda name: by_name.get(name, []), (), "Desk.dtk.io")
    assert found == ()
    assert expected in reason


@pytest.mark.parametrize(
    "endpoint",
    [
        Endpoint("a-foo.dtk.io", ("secret",), "TXT", labels={"ownedRecord": "foo.dtk.io"}),
        Endpoint("a-foo.dtk.io", ('"heritage=external-dns"',), "TXT"),
    ],
)
def test_ownership_records_are_never_published(endpoint: Endpoint) -> None:
    assert published(state(endpoint)) == [{}]


def test_only_changed_names_are_resolved_again(monkeypatch: pytest.MonkeyPatch) -> None:
    resolved: list[str] = []

    def counted(name: str, *args: object) -> object:
        resolved.append(name)
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
    resolved.clear()
    after = Effective(state(*many, alias("to", "late.dtk.io"), a("late", "10.0.0.2")), DOMAINS, ())
    # A call that cannot be written is rolled back and not published.
    for current, expected in ((after, 1002), (before, 1000), (after, 1002)):
        publication.update(current)
        publication.write_hosts()
        assert len(hosts.lines) == expected
    publication.publish()
    assert sorted(set(resolved)) == ["late.dtk.io", "to.dtk.io"]
    assert sent[1:] == [["late.dtk.io", "to.dtk.io"]]


def test_name_whose_refusal_changes_is_sent_again() -> None:
    name, kept = "b.dtk.io", state(a("b", "10.0.0.1")).endpoints
    reasons = {name: "no address"}
    refused = DnsEndpoint(Metadata("", name), (), reasons)
    both = DnsEndpoint(Metadata("", name), tuple(kept.values()), reasons)
    assert published(
        State(), State(refused=reasons), State(refused=reasons), State(kept, refused=reasons), State()
    ) == [
        {},
        {name: refused},
        {},
        {name: both},
        {name: None},
    ]


def test_names_that_failed_to_be_sent_are_sent_again() -> None:
    sent: list[tuple[list[str], bool]] = []

    def publish(_current: Effective, names: Mapping[str, object], relist: bool) -> None:
        sent.append((sorted(names), relist))
        assert len(sent) != 2, "fails once"

    publication = Publication(None, publish, "", Conditions())
    publication.update(Effective(state(a("b", "10.0.0.1")), DOMAINS, ()))
    publication.publish()
    publication.update(Effective(state(a("b", "10.0.0.1"), a("c", "10.0.0.1")), DOMAINS, ()))
    with pytest.raises(AssertionError):
        publication.publish()
    publication.publish()
    assert sent == [(["b.dtk.io"], True), (["c.dtk.io"], False), (["b.dtk.io", "c.dtk.io"], True)]
