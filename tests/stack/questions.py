"""Every question that a client may ask about API objects, and many that it should not."""

import ipaddress
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tests.stack.kubeclient import Object
from tests.stack.objects import SERVICE_NAME

TYPES = ("A", "AAAA", "SRV", "TXT", "CNAME", "PTR", "NS", "SOA", "MX")


class Question(NamedTuple):
    """A name, a type, and the kind of name, by which differences are classified."""

    name: str
    rdtype: str
    kind: str


def questions(objects: Iterable[Object], zone: str = "cluster.local") -> list[Question]:
    """Each name once, with all types, or fewer if it should not exist.

    The objects are as the API server returns them, with addresses.
    """
    names: dict[str, str] = {}
    for name, kind in _names(list(objects), zone):
        names.setdefault(name.rstrip(".") + ".", kind)
    return [
        Question(name, rdtype, kind)
        for number, (name, kind) in enumerate(names.items())
        for rdtype in (few_types(number) if has_few_types(kind) else TYPES)
    ]


def has_few_types(kind: str) -> bool:
    """Whether names of this kind, many missing ones or variants, are asked with three types only."""
    return kind.startswith(("no ", "search list", "reverse of a pod", "below a pod", "pod in no")) or any(
        word in kind
        for word in (" no such ", "wrong", "too many", "capitals", "without underscores", "unnamed", "half a")
    )


def few_types(number: int) -> tuple[str, ...]:
    """A, SRV, and one of the other types in turn."""
    others = [rdtype for rdtype in TYPES if rdtype not in ("A", "SRV")]
    return ("A", "SRV", others[number % len(others)])


def _names(objects: list[Object], zone: str) -> Iterator[tuple[str, str]]:
    """Names with their kind; of a repeated name the first kind counts."""
    services = {
        (obj["metadata"]["namespace"], obj["metadata"]["name"]): obj
        for obj in objects
        if obj["kind"] == "Service"
    }
    slices = [obj for obj in objects if obj["kind"] == "EndpointSlice"]
    namespaces = sorted(obj["metadata"]["name"] for obj in objects if obj["kind"] == "Namespace")
    yield from _above_services(zone)
    for namespace in namespaces:
        yield from _namespace(namespace, zone)
    for (namespace, name), service in sorted(services.items()):
        slices_of = [
            one
            for one in slices
            if one["metadata"]["namespace"] == namespace
            and (one["metadata"].get("labels") or {}).get(SERVICE_NAME) == name
        ]
        yield from _service(service, slices_of, zone)
    for pod in (obj for obj in objects if obj["kind"] == "Pod"):
        yield from _pod(pod, zone)
    yield from _unusual_pods(namespaces, zone)
    yield from _reverse(objects)


def _below(parent: str, kind: str, names: str) -> Iterator[tuple[str, str]]:
    """These names, separated by spaces, below a parent."""
    for name in names.split():
        yield f"{name}.{parent}", kind


def _above_services(zone: str) -> Iterator[tuple[str, str]]:
    yield zone, "apex"
    yield zone.title(), "apex"
    yield from _below(zone, "top", "svc pod SVC")
    yield from _below(zone, "dns-version", "dns-version DNS-Version")
    nowhere = "no such name above services"
    yield from _below(zone, nowhere, "x.dns-version")
    yield from _below(zone, "ns.dns", "ns.dns")
    yield from _below(zone, nowhere, "dns x.ns.dns nope.dns nope a.nope a.b.c.d.nope * any _tcp default")
    searched = "www.example.com www.example.com.svc www.example.com.default.svc _http._tcp _tcp.svc"
    yield from _below(zone, "search list", searched)
    missing = "*.svc any.svc *.pod missing.svc missing.pod a.missing.svc _http._tcp.svc"
    yield from _below(zone, "no such namespace", missing)


def _namespace(namespace: str, zone: str) -> Iterator[tuple[str, str]]:
    below = f"{namespace}.svc.{zone}"
    yield below, "namespace"
    yield f"{namespace.upper()}.svc.{zone}", "namespace in capitals"
    yield f"{namespace}.pod.{zone}", "pod namespace"
    yield f"{namespace}.{zone}", "no such name above services"
    missing = "nope * any _tcp _http._tcp _http._tcp.nope gone svc a.b.c.d.nope"
    yield from _below(below, "no such service", missing)
    yield from _below(below, "search list", "www.example.com api.internal registry-1.example.io")


def _service(service: Object, slices: list[Object], zone: str) -> Iterator[tuple[str, str]]:
    metadata, spec = service["metadata"], service["spec"]
    kind = "headless" if spec.get("clusterIP") == "None" else spec.get("type", "ClusterIP")
    kind = kind if kind in ("headless", "ExternalName") else "ClusterIP"
    own = f"{metadata['name']}.{metadata['namespace']}.svc.{zone}"
    yield own, f"{kind} service"
    capitals = f"{metadata['name'].title()}.{metadata['namespace'].title()}.SVC.{zone.upper()}"
    yield f"{metadata['name'].upper()}.{metadata['namespace']}.svc.{zone}", f"{kind} service in capitals"
    yield capitals, f"{kind} service in capitals"
    ports = {(port.get("name", ""), port.get("protocol", "TCP")) for port in spec.get("ports", [])}
    if kind == "headless":  # its ports are those of its slices
        ports = {port for port in ports if port[0]} | {
            (port.get("name", ""), port.get("protocol", "TCP"))
            for one in slices
            for port in one.get("ports") or []
        }
    for port, protocol in sorted(ports):
        label = f"_{protocol.lower()}"
        if not port:
            yield f"_.{label}.{own}", f"{kind} unnamed port"
            continue
        yield f"_{port}.{label}.{own}", f"{kind} port"
        yield f"_{port.upper()}.{label.upper()}.{own}", f"{kind} port in capitals"
        yield f"{port}.{protocol.lower()}.{own}", f"{kind} port without underscores"
        yield f"_{port}.{own}", f"{kind} half a port"
        for other in ("_tcp", "_udp", "_sctp", "_quic"):
            if (port, other[1:].upper()) not in ports:
                yield f"_{port}.{other}.{own}", f"{kind} wrong protocol"
        yield f"x._{port}.{label}.{own}", f"{kind} too many labels"
    for protocol in ("tcp", "udp", "sctp"):
        yield f"_nope._{protocol}.{own}", f"{kind} wrong port"
        yield f"_{protocol}.{own}", f"{kind} half a port"
    yield from _below(own, f"{kind} no such endpoint", "nope * any 1-2-3-4")
    yield from _below(own, f"{kind} wrong port", "*._tcp _any._tcp")
    yield from _below(own, f"{kind} too many labels", "a.b.c.d")
    yield f"{metadata['name']}.*.svc.{zone}", "no such namespace"
    yield f"{metadata['name']}.{metadata['namespace']}.{zone}", "no such name above services"
    yield f"{metadata['name']}.{zone}", "no such name above services"
    for one in slices:
        for endpoint in one.get("endpoints") or []:
            yield from _endpoint(endpoint, own, kind)


def _endpoint(endpoint: Object, service: str, kind: str) -> Iterator[tuple[str, str]]:
    names = [dashed(address) for address in endpoint["addresses"]]
    names += [dashed(address, tail="0") for address in endpoint["addresses"] if address.endswith("::")]
    if endpoint.get("hostname"):
        names.append(endpoint["hostname"])
    for name in names:
        yield f"{name}.{service}", f"{kind} endpoint"
    yield f"{names[-1].upper()}.{service}", f"{kind} endpoint in capitals"
    yield from _below(f"{names[-1]}.{service}", f"{kind} too many labels", "x _tcp _http._tcp")


def dashed(address: str, tail: str = "") -> str:
    """An address as a label, as in names of endpoints and Pods."""
    return address.replace(".", "-").replace(":", "-") + tail


def _pod(pod: Object, zone: str) -> Iterator[tuple[str, str]]:
    namespace = pod["metadata"]["namespace"]
    for entry in pod.get("status", {}).get("podIPs") or []:
        address = entry["ip"]
        yield f"{dashed(address)}.{namespace}.pod.{zone}", "pod"
        yield f"{dashed(address).upper()}.{namespace.upper()}.pod.{zone}", "pod in capitals"
        yield f"{dashed(address)}.missing.pod.{zone}", "pod in no namespace"
        yield f"{dashed(address)}.empty.pod.{zone}", "pod elsewhere"
        exploded = ipaddress.ip_address(address).exploded
        yield f"{dashed(exploded)}.{namespace}.pod.{zone}", "pod in another spelling"
        yield f"{pod['metadata']['name']}.{namespace}.pod.{zone}", "no pod"
        yield f"x.{dashed(pod['status']['podIP'])}.{namespace}.pod.{zone}", "below a pod"


def _unusual_pods(namespaces: list[str], zone: str) -> Iterator[tuple[str, str]]:
    any_address = "1-2-3-4 0-0-0-0 255-255-255-255 --1 1-- fd00--1 1-2-3-4-5-6-7-8 --"
    no_address = "1-2-3 1-2-3-400 01-2-3-4 1-2-3-4-5 abc 1--2--3 fd00-20--g fd00--12345 any *"
    no_address += " 1-2-3-4-5-6-7-8-9 - 1-2-3-4- 256-1-1-1 1---2"
    for namespace in namespaces[:3]:
        yield from _below(f"{namespace}.pod.{zone}", "any address", any_address)
        yield from _below(f"{namespace}.pod.{zone}", "no address", no_address)


def _reverse(objects: list[Object]) -> Iterator[tuple[str, str]]:
    addresses: dict[str, str] = {}
    for obj in objects:
        if obj["kind"] == "Service":
            found = [address for address in obj["spec"].get("clusterIPs") or [] if address != "None"]
            addresses |= dict.fromkeys(found, "reverse of a service")
        if obj["kind"] == "EndpointSlice" and obj["addressType"] != "FQDN":
            found = [address for endpoint in obj.get("endpoints") or [] for address in endpoint["addresses"]]
            addresses |= dict.fromkeys(found, "reverse of an endpoint")
        if obj["kind"] == "Pod":
            for entry in obj.get("status", {}).get("podIPs") or []:
                addresses.setdefault(entry["ip"], "reverse of a pod")
    for address, kind in sorted(addresses.items()):
        yield ipaddress.ip_address(address).reverse_pointer, kind
        yield ipaddress.ip_address(address).reverse_pointer.upper(), f"{kind} in capitals"
        if kind != "reverse of a pod":
            yield f"9.{ipaddress.ip_address(address).reverse_pointer}", "no such reverse"
    for address in ("10.0.255.254", "172.15.0.1", "192.0.2.1", "fd00:10::fffe", "2001:db8:ffff::1"):
        yield ipaddress.ip_address(address).reverse_pointer, "no such reverse"
    yield from _below("in-addr.arpa", "no such reverse", "0.10 10 1.16.172 172 x 300.0.0.10 *.0.0.10")
    yield from _below("ip6.arpa", "no such reverse", "d.f 0.0.d.f f x g.0.0.d.f")
    yield "in-addr.arpa", "reverse apex"
    yield "ip6.arpa", "reverse apex"
