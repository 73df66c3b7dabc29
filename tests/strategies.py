"""Hypothesis strategies for API objects: few names and addresses, so that they collide."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from hypothesis import settings
from hypothesis import strategies as st

from kube2etcd.external import Endpoint as ExternalEndpoint
from kube2etcd.kube.objects import (
    ApiObject,
    DnsEndpoint,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Event,
    Interface,
    Metadata,
    Namespace,
    Pod,
    Port,
    Rejected,
    Service,
    VirtualMachineInstance,
)

#: What the profile of this run says (tests/conftest.py): quick, or thorough.
LAW = settings()

ADDRESSES = ("10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1", "fd00::2")
STAMPS = ("", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")
SERVICES = ("web", "db", "any")
NAMESPACES = ("shop", "any")
EXTERNAL = ("a.dtk.io", "b.a.dtk.io", "*.dtk.io", "www.shop.example")

LABELS: tuple[dict[str, str], ...] = ({"env": "stage", "tier": "web"}, {"env": "stage"}, {})

Present: TypeAlias = dict[tuple[str, str, str], ApiObject]

_stamps = st.sampled_from(STAMPS)
_labels = st.sampled_from(LABELS)
_NONE: st.SearchStrategy[dict[str, str]] = st.just({})


def metadata(
    namespace: str, name: str, annotations: st.SearchStrategy[dict[str, str]] = _NONE
) -> st.SearchStrategy[Metadata]:
    return st.builds(
        Metadata,
        st.just(namespace),
        st.just(name),
        creation_timestamp=_stamps,
        labels=_labels,
        annotations=annotations,
    )


_ports = st.lists(
    st.builds(
        Port,
        st.sampled_from(["", "http", "dns"]),
        st.sampled_from(["TCP", "UDP"]),
        st.sampled_from([80, 443]),
    ),
    max_size=3,
    # The API server accepts no port twice, neither by its name nor by its number.
    unique_by=(lambda port: (port.protocol, port.port), lambda port: port.name),
).map(tuple)

_slice_ports = st.lists(
    st.builds(
        EndpointPort,
        st.sampled_from(["", "http", "dns"]),
        st.sampled_from(["TCP", "UDP"]),
        st.sampled_from([80, 8080, None]),
    ),
    max_size=2,
    unique_by=lambda port: port.name,
).map(tuple)


@st.composite
def services(draw: st.DrawFn, namespace: str, name: str) -> Service:
    meta = draw(metadata(namespace, name))
    kind = draw(st.sampled_from(["addresses", "headless", "external", "none"]))
    ports = draw(_ports)
    if kind == "addresses":
        ips = draw(st.sampled_from([("10.0.0.1",), ("10.0.0.2", "fd00::2"), ("fd00::1",)]))
        return Service(meta, "ClusterIP", ips[0], ips, ports=ports)
    if kind == "headless":
        return Service(meta, "ClusterIP", "None", ("None",), ports=ports)
    if kind == "external":
        target = draw(
            st.sampled_from(
                [
                    "ext.example",
                    "web.shop.svc.cluster.local",
                    "shop.svc.cluster.local",
                    "svc.cluster.local",
                    "10.0.0.1",
                    "-",
                ]
            )
        )
        return Service(meta, "ExternalName", external_name=target, ports=ports)
    return Service(meta, ports=ports)


@st.composite
def slices(
    draw: st.DrawFn, namespace: str, name: str, hostnames: tuple[str, ...] = ("", "ep1", "ep2")
) -> EndpointSlice:
    family = draw(st.sampled_from(["IPv4", "IPv6"]))
    addresses = st.sampled_from([one for one in ADDRESSES if (":" in one) == (family == "IPv6")])
    endpoints = draw(
        st.lists(
            st.builds(
                Endpoint,
                st.tuples(addresses),
                st.sampled_from([True, None, False]),
                hostname=st.sampled_from(hostnames),
            ),
            max_size=3,
            unique_by=lambda one: one.addresses,
        )
    )
    return EndpointSlice(
        draw(metadata(namespace, name)),
        draw(st.sampled_from([*SERVICES, ""])),
        family,
        draw(_slice_ports),
        tuple(endpoints),
    )


@st.composite
def pods(draw: st.DrawFn, namespace: str, name: str) -> Pod:
    address = draw(st.sampled_from(["", *ADDRESSES]))
    phase = draw(st.sampled_from(["Running", "Failed"]))
    return Pod(draw(metadata(namespace, name)), address, (address,) if address else (), phase)


@st.composite
def machines(draw: st.DrawFn, namespace: str, name: str) -> VirtualMachineInstance:
    interface = st.builds(
        Interface,
        st.sampled_from(["eth1", "my"]),
        st.sampled_from(["", "-", *ADDRESSES]).map(lambda one: (one,)),
    )
    found = draw(st.lists(interface, max_size=3))
    return VirtualMachineInstance(draw(metadata(namespace, name)), tuple(found))


@st.composite
def dns_endpoints(draw: st.DrawFn, namespace: str, name: str) -> DnsEndpoint:
    said = st.one_of(
        st.tuples(st.just("A"), st.sampled_from([("10.0.0.1",), ("10.0.0.2", "10.0.0.3"), ("-",), ()])),
        st.tuples(st.just("AAAA"), st.just(("fd00::1",))),
        st.tuples(st.just("TXT"), st.just(("text",))),
        st.tuples(
            st.just("CNAME"),
            st.sampled_from([*EXTERNAL, "web.shop.svc.cluster.local", "x.org"]).map(lambda to: (to,)),
        ),
    )
    one = st.builds(
        lambda name, said: ExternalEndpoint(name, said[1], said[0]),
        st.sampled_from([*EXTERNAL, "elsewhere.org"]),
        said,
    )
    return DnsEndpoint(draw(metadata(namespace, name)), tuple(draw(st.lists(one, max_size=4))))


#: An object of a kind, by its namespace and name.
Makers: TypeAlias = Mapping[str, Callable[[str, str], st.SearchStrategy[ApiObject]]]
MAKERS: Makers = {
    "namespaces": lambda _, name: st.builds(Namespace, metadata("", name)),
    "services": services,
    "endpointslices": slices,
    "pods": pods,
    "virtualmachineinstances": machines,
    "dnsendpoints": dns_endpoints,
}
Identities: TypeAlias = Sequence[tuple[str, str, str]]

IDENTITIES = [
    *(("namespaces", "", name) for name in NAMESPACES),
    *(("services", namespace, name) for namespace in NAMESPACES for name in SERVICES),
    *(("endpointslices", namespace, name) for namespace in NAMESPACES for name in ("s1", "s2")),
    *(("pods", "shop", name) for name in ("p1", "p2")),
]
#: With the kinds that only some zones ask for.
ALL_IDENTITIES = [
    *IDENTITIES,
    *(("virtualmachineinstances", namespace, name) for namespace in NAMESPACES for name in ("vm1", "web")),
    *(("dnsendpoints", "shop", name) for name in ("d1", "d2", "d3")),
]


@st.composite
def clusters(draw: st.DrawFn, identities: Identities = IDENTITIES) -> Present:
    chosen = draw(st.lists(st.sampled_from(identities), unique=True, max_size=len(identities)))
    return {one: draw(MAKERS[one[0]](*one[1:])) for one in chosen}


@st.composite
def events(
    draw: st.DrawFn, identities: Identities = IDENTITIES, makers: Makers = MAKERS
) -> tuple[str, Event]:
    kind, namespace, name = draw(st.sampled_from(identities))
    change = draw(st.sampled_from(["ADDED", "MODIFIED", "MODIFIED", "DELETED", "BOOKMARK"]))
    if draw(st.integers(0, 5)) == 0:
        return kind, Event(change, None, namespace, name, rejected=Rejected(kind, namespace, name, "odd"))
    present = None if change == "BOOKMARK" else draw(makers[kind](namespace, name))
    return kind, Event(change, present, namespace, name)


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, Event]]:
    """Every kind of object that there is, and what happens to some of them then."""
    full = [
        (kind, Event("ADDED", draw(MAKERS[kind](namespace, name)), namespace, name))
        for kind, namespace, name in ALL_IDENTITIES
    ]
    return full + draw(st.lists(events(ALL_IDENTITIES), max_size=15))
