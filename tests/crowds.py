"""Made-up objects that all want the same: few names, few addresses, so that collisions are the rule.

Beside `tests.strategies`, whose objects meet now and then: here a machine is called as a Service is,
names of DNSEndpoints lead around in rings, hostnames stand in several slices, and half of what is said
cannot be used.
"""

from hypothesis import strategies as st

from kube2etcd.external import Endpoint as ExternalEndpoint
from kube2etcd.kube.objects import (
    TENANT_CLUSTER_IP,
    ApiObject,
    DnsEndpoint,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Event,
    Ingress,
    Interface,
    Metadata,
    Namespace,
    Pod,
    Port,
    Service,
    VirtualMachineInstance,
)
from tests.strategies import Makers, events, metadata

NAMESPACES = ("shop", "ns")
NAMES = ("web", "any")
#: Names in external domains, in each other, and in zones of Services.
EXTERNAL = (
    "dtk.io",
    "a.dtk.io",
    "b.a.dtk.io",
    "any.dtk.io",
    "web.shop.svc.cluster.local",
    "web.stage.example",
)

_v4 = st.sampled_from(["10.0.0.1", "10.0.0.2"])
_address = st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1", "::ffff:10.0.0.1", "-"])
_annotations = st.sampled_from(
    [{}, {}, *({TENANT_CLUSTER_IP: said} for said in ("10.0.0.2", "fd00::1,10.0.0.1", "None", "odd"))]
)
_target = st.sampled_from(
    ["web.shop.svc.cluster.local", "web.stage.example", "a.dtk.io", "x.org", "10.0.0.1"]
)


def _metadata(namespace: str, name: str) -> st.SearchStrategy[Metadata]:
    return metadata(namespace, name, _annotations)


_ports = st.lists(
    st.builds(Port, st.sampled_from(["", "http"]), st.sampled_from(["TCP", "UDP"]), st.just(80)),
    max_size=2,
    unique_by=lambda port: port.protocol,
).map(tuple)
_balancer = st.lists(
    st.builds(Ingress, st.sampled_from(["", "10.0.0.2"]), st.sampled_from(["", "x.org"])), max_size=2
).map(tuple)


def _services(namespace: str, name: str) -> st.SearchStrategy[ApiObject]:
    kind = st.sampled_from(["ClusterIP", "ClusterIP", "ExternalName"])
    return st.builds(
        Service,
        _metadata(namespace, name),
        kind,
        st.one_of(st.sampled_from(["None", ""]), _v4),
        st.lists(_address, max_size=2).map(tuple),
        external_name=_target,
        ports=_ports,
        external_ips=st.lists(_address, max_size=1).map(tuple),
        load_balancer=_balancer,
    )


_slice_ports = st.lists(
    st.builds(
        EndpointPort, st.sampled_from(["", "http"]), st.sampled_from(["TCP", ""]), st.sampled_from([80, None])
    ),
    max_size=2,
).map(tuple)
_endpoints = st.lists(
    st.builds(
        Endpoint,
        st.lists(_address, min_size=1, max_size=2).map(tuple),
        st.sampled_from([None, False]),
        hostname=st.sampled_from(["", "web", "any", "_x", "10-0-0-1"]),
    ),
    max_size=2,
).map(tuple)


def _slices(namespace: str, name: str) -> st.SearchStrategy[ApiObject]:
    return st.builds(
        EndpointSlice,
        _metadata(namespace, name),
        st.sampled_from([*NAMES, ""]),
        st.just("IPv4"),
        _slice_ports,
        _endpoints,
    )


def _pods(namespace: str, name: str) -> st.SearchStrategy[ApiObject]:
    addresses = st.lists(_address, max_size=2).map(tuple)
    return st.builds(Pod, _metadata(namespace, name), _v4, addresses, st.sampled_from(["Running", "Failed"]))


_interfaces = st.lists(
    st.builds(Interface, st.sampled_from(["my", "web", "ns"]), st.tuples(_address)), max_size=3
).map(tuple)


def _machines(namespace: str, name: str) -> st.SearchStrategy[ApiObject]:
    return st.builds(VirtualMachineInstance, _metadata(namespace, name), _interfaces)


def _spoken(namespace: str, name: str) -> st.SearchStrategy[ApiObject]:
    """Few names that lead to each other, with addresses beside: what decides about an alias, and what not."""
    said = st.one_of(
        st.tuples(st.just("CNAME"), st.sampled_from([*EXTERNAL, "A.dtk.io.", "-", "x.org"])),
        st.tuples(st.just("CNAME"), st.sampled_from(EXTERNAL[:3])),
        st.tuples(st.sampled_from(["A", "AAAA"]), _address),
        st.tuples(st.just("TXT"), st.sampled_from(["text", '"heritage=external-dns"'])),
        st.tuples(st.sampled_from(["PTR", "MX", "SRV", "NS"]), st.sampled_from(["a.dtk.io", "10 a.dtk.io"])),
    )
    endpoint = st.builds(
        lambda name, said, ttl: ExternalEndpoint(name, (said[1],), said[0], ttl=ttl),
        st.one_of(st.sampled_from(EXTERNAL[:3]), st.sampled_from([*EXTERNAL, "*.dtk.io", "A.DTK.io."])),
        said,
        st.sampled_from([0, 0, 0, 5, -1]),
    )
    return st.builds(DnsEndpoint, _metadata(namespace, name), st.lists(endpoint, max_size=5).map(tuple))


_MAKERS: Makers = {
    "namespaces": lambda _, name: st.builds(Namespace, _metadata("", name)),
    "services": _services,
    "endpointslices": _slices,
    "pods": _pods,
    "virtualmachineinstances": _machines,
    "dnsendpoints": _spoken,
    "webhook": _spoken,
}
_IDENTITIES = [
    *(("namespaces", "", namespace) for namespace in NAMESPACES),
    *(("services", namespace, name) for namespace in NAMESPACES for name in NAMES),
    *(("endpointslices", "shop", name) for name in ("s1", "s2")),
    *(("pods", "shop", name) for name in ("p1", "p2")),
    *(("virtualmachineinstances", namespace, name) for namespace in NAMESPACES for name in ("web", "my.web")),
    *(("dnsendpoints", "shop", name) for name in ("d1", "d2")),
    ("webhook", "", "shard"),
]
_HOLDERS = [identity for identity in _IDENTITIES if _MAKERS[identity[0]] is _spoken]


def crowds() -> st.SearchStrategy[list[tuple[str, Event]]]:
    """What happens to few objects that are in each other's way."""
    return st.lists(events(_IDENTITIES, _MAKERS), max_size=30)


def rings() -> st.SearchStrategy[list[tuple[str, Event]]]:
    """What happens to names that lead to each other."""
    return st.lists(events(_HOLDERS, _MAKERS), max_size=12)


#: Who wants one name in a zone whose names come of the Service alone.
_TEAMS = ("a", "b", "c")
_RIVALS = [
    *(("namespaces", "", team) for team in _TEAMS),
    *(("services", team, name) for team in _TEAMS for name in ("web", "web", "db")),
    *(("endpointslices", team, "s") for team in _TEAMS),
]


def rivals() -> st.SearchStrategy[list[tuple[str, Event]]]:
    """What happens to Services of one name in several namespaces, of every type."""
    return st.lists(events(_RIVALS, _MAKERS), max_size=25)
