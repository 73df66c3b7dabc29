"""Hypothesis strategies for API objects: few names and addresses, so they collide, and many invalid values.

A VMI has the name of a Service, names of DNSEndpoints form CNAME loops, one hostname is in several slices.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

from hypothesis import settings
from hypothesis import strategies as st

from kube2etcd.external import Endpoint as ExternalEndpoint
from kube2etcd.kube.objects import (
    TENANT_CLUSTER_IP,
    ApiObject,
    DnsEndpoint,
    EndpointPort,
    EndpointSlice,
    Event,
    Ingress,
    Interface,
    Metadata,
    Namespace,
    Pod,
    Rejected,
    Service,
    ServicePort,
    SliceEndpoint,
    VirtualMachineInstance,
)

#: Settings of the profile in use: quick or thorough (tests/conftest.py).
LAW = settings()

_T = TypeVar("_T")
_Objects: TypeAlias = st.SearchStrategy[ApiObject]
Identities: TypeAlias = Sequence[tuple[str, str, str]]
Present: TypeAlias = dict[tuple[str, str, str], ApiObject]

SERVICES = ("web", "db", "any")
NAMESPACES = ("shop", "any")
#: Names in external domains, nested in each other, and in zones of Services.
_EXTERNAL = (
    "dtk.io",
    "a.dtk.io",
    "b.a.dtk.io",
    "any.dtk.io",
    "web.shop.svc.cluster.local",
    "web.stage.example",
    "www.shop.example",
)


def _few(one: st.SearchStrategy[_T], most: int = 2) -> st.SearchStrategy[tuple[_T, ...]]:
    return st.lists(one, max_size=most).map(tuple)


_v4 = st.sampled_from(["10.0.0.1", "10.0.0.2"])
_address = st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1", "::ffff:10.0.0.1", "-"])
_tenant = [{TENANT_CLUSTER_IP: text} for text in ("10.0.0.2", "fd00::1,10.0.0.1", "None", "invalid")]
_target = st.sampled_from([*_EXTERNAL[1:6], "shop.svc.cluster.local", "x.org", "10.0.0.1", "-"])
_port_name, _protocol = st.sampled_from(["", "http", "dns"]), st.sampled_from(["TCP", "UDP"])


def metadata(namespace: str, name: str) -> st.SearchStrategy[Metadata]:
    return st.builds(
        Metadata,
        st.just(namespace),
        st.just(name),
        st.sampled_from(["", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]),
        st.sampled_from([{"env": "stage", "tier": "web"}, {"env": "stage"}, {}]),
        st.sampled_from([{}, {}, *_tenant]),
    )


def services(namespace: str, name: str) -> st.SearchStrategy[Service]:
    # The API server rejects duplicate ports, by name as by number.
    ports = st.lists(
        st.builds(ServicePort, _port_name, _protocol, st.sampled_from([80, 443])),
        max_size=2,
        unique_by=(lambda port: (port.protocol, port.port), lambda port: port.name),
    )
    ingress = st.builds(Ingress, st.sampled_from(["", "10.0.0.2"]), st.sampled_from(["", "x.org"]))
    return st.builds(
        Service,
        metadata(namespace, name),
        st.sampled_from(["ClusterIP", "ClusterIP", "ExternalName"]),
        st.one_of(st.sampled_from(["None", ""]), _v4),
        _few(_address),
        external_name=_target,
        ports=ports.map(tuple),
        external_ips=_few(_address, 1),
        load_balancer=_few(ingress),
    )


def slices(namespace: str, name: str) -> st.SearchStrategy[EndpointSlice]:
    endpoint = st.builds(
        SliceEndpoint,
        st.lists(_address, min_size=1, max_size=2).map(tuple),
        st.sampled_from([True, None, False]),
        hostname=st.sampled_from(["", "web", "any", "_x", "10-0-0-1"]),
    )
    return st.builds(
        EndpointSlice,
        metadata(namespace, name),
        st.sampled_from([*SERVICES, ""]),
        st.just("IPv4"),
        _few(
            st.builds(
                EndpointPort, _port_name, st.sampled_from(["TCP", "UDP", ""]), st.sampled_from([80, None])
            )
        ),
        _few(endpoint, 3),
    )


def _pods(namespace: str, name: str) -> _Objects:
    phase = st.sampled_from(["Running", "Failed"])
    return st.builds(Pod, metadata(namespace, name), st.one_of(st.just(""), _v4), _few(_address), phase)


def _vmis(namespace: str, name: str) -> _Objects:
    interface = st.builds(Interface, st.sampled_from(["my", "web", "ns"]), st.tuples(_address))
    return st.builds(VirtualMachineInstance, metadata(namespace, name), _few(interface, 3))


def _endpoints(namespace: str, name: str, types: Sequence[str] = ("MX", "SRV", "NS")) -> _Objects:
    """Few names, with CNAMEs to each other and with addresses.

    A PTR in an external domain has the same value as a CNAME, so laws about answers exclude it.
    """
    data = st.one_of(
        st.tuples(st.just("CNAME"), st.sampled_from([*_EXTERNAL, "A.dtk.io.", "-", "x.org"])),
        st.tuples(st.just("CNAME"), st.sampled_from(_EXTERNAL[:3])),
        st.tuples(st.sampled_from(["A", "AAAA"]), _address),
        st.tuples(st.just("TXT"), st.sampled_from(["text", '"heritage=external-dns"'])),
        st.tuples(st.sampled_from(types), st.sampled_from(["a.dtk.io", "10 a.dtk.io"])),
    )
    endpoint = st.builds(
        lambda name, data, ttl: ExternalEndpoint(name, (data[1],), data[0], ttl=ttl),
        st.one_of(st.sampled_from(_EXTERNAL[:3]), st.sampled_from([*_EXTERNAL, "*.dtk.io", "A.DTK.io."])),
        data,
        st.sampled_from([0, 0, 0, 5, -1]),
    )
    return st.builds(DnsEndpoint, metadata(namespace, name), _few(endpoint, 5))


_MAKERS: dict[str, Callable[[str, str], _Objects]] = {
    "namespaces": lambda _, name: st.builds(Namespace, metadata("", name)),
    "services": services,
    "endpointslices": slices,
    "pods": _pods,
    "virtualmachineinstances": _vmis,
    "dnsendpoints": _endpoints,
    "webhook": lambda namespace, name: _endpoints(namespace, name, ("PTR", "MX", "SRV", "NS")),
}

IDENTITIES = [
    *(("namespaces", "", name) for name in NAMESPACES),
    *(("services", namespace, name) for namespace in NAMESPACES for name in SERVICES),
    *(("endpointslices", namespace, name) for namespace in NAMESPACES for name in ("s1", "s2")),
    *(("pods", "shop", name) for name in ("p1", "p2")),
]
_EXTERNAL_IDENTITIES = [*(("dnsendpoints", "shop", name) for name in ("d1", "d2")), ("webhook", "", "shard")]
#: The same, plus the kinds that only some zones read.
ALL_IDENTITIES = [
    *IDENTITIES,
    # One VMI's name may lie below another's.
    *(
        ("virtualmachineinstances", namespace, name)
        for namespace in NAMESPACES
        for name in ("web", "vm1", "my.web")
    ),
    *_EXTERNAL_IDENTITIES[:2],
]
#: Fewer objects, so they collide more often.
_FEW_IDENTITIES = [
    *(one for one in ALL_IDENTITIES if one[2] not in ("db", "vm1") and one[:2] != ("endpointslices", "any")),
    _EXTERNAL_IDENTITIES[2],
]
#: Services that share a name in a zone whose template omits the namespace.
_RIVAL_NAMESPACES = ("a", "b", "c")
_RIVALS = [
    *(("namespaces", "", namespace) for namespace in _RIVAL_NAMESPACES),
    *(("services", namespace, name) for namespace in _RIVAL_NAMESPACES for name in ("web", "web", "db")),
    *(("endpointslices", namespace, "s") for namespace in _RIVAL_NAMESPACES),
]


@st.composite
def clusters(draw: st.DrawFn, identities: Identities = IDENTITIES) -> Present:
    chosen = draw(st.lists(st.sampled_from(identities), unique=True, max_size=len(identities)))
    return {one: draw(_MAKERS[one[0]](*one[1:])) for one in chosen}


@st.composite
def events(draw: st.DrawFn, identities: Identities = IDENTITIES) -> tuple[str, Event]:
    kind, namespace, name = draw(st.sampled_from(identities))
    change = draw(st.sampled_from(["ADDED", "MODIFIED", "MODIFIED", "DELETED", "BOOKMARK"]))
    if draw(st.integers(0, 5)) == 0:
        return kind, Event(change, None, namespace, name, rejected=Rejected(kind, namespace, name, "invalid"))
    present = None if change == "BOOKMARK" else draw(_MAKERS[kind](namespace, name))
    return kind, Event(change, present, namespace, name)


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, Event]]:
    """Every object is added, then some change."""
    full = [
        (kind, Event("ADDED", draw(_MAKERS[kind](namespace, name)), namespace, name))
        for kind, namespace, name in ALL_IDENTITIES
    ]
    return full + draw(st.lists(events(ALL_IDENTITIES), max_size=15))


def few_objects() -> st.SearchStrategy[list[tuple[str, Event]]]:
    """Events of few objects that claim each other's names and addresses."""
    return st.lists(events(_FEW_IDENTITIES), max_size=30)


def cname_loops() -> st.SearchStrategy[list[tuple[str, Event]]]:
    """Events of names with CNAMEs to each other."""
    return st.lists(events(_EXTERNAL_IDENTITIES), max_size=12)


def rivals() -> st.SearchStrategy[list[tuple[str, Event]]]:
    """Events of Services of every type that share a name across namespaces."""
    return st.lists(events(_RIVALS), max_size=25)
