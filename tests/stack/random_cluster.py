"""Random clusters from a seed: every kind of Service, EndpointSlice and Pod that a real API server accepts.

Without controllers the EndpointSlices are random too, some as no controller would write them: DNS answers
follow the slices. The API server allocates cluster IPs. Everything else is a function of the seed.
"""

import copy
import functools
import ipaddress
import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from tests.stack import objects
from tests.stack.kubeclient import Object, Operation
from tests.stack.objects import SERVICE_NAME, identity

#: Names of Namespaces and Services with a meaning to a DNS server or the key layout.
SPECIAL_NAMES = (
    *("any", "svc", "pod", "dns", "ns", "top", "nt", "apex"),
    *("local", "cluster", "m", "dns-version", "arpa"),
)
LONG_LABEL = "l" + "o" * 61 + "g"
PORT_NAMES = ("http", "https", "dns", "metrics", "grpc-web", "p2p", "any", "tcp", "udp", "x")
PROTOCOLS = ("TCP", "TCP", "TCP", "UDP", "SCTP")
HOSTNAMES = ("web-0", "web-1", "db", "any", "a", "tcp", "host-9", "7", LONG_LABEL)
EXTERNAL_NAMES = ("www.example.com", "db.example.com", "missing.example.net", "a-b.c-d.example.com", "one")

#: The namespace of overlapping slices, and the few values that they share. Two of the host names are dashed
#: addresses.
OVERLAP_NAMESPACE = "crowd"
OVERLAP_ADDRESSES = {
    4: ("172.16.0.1", "172.16.0.2", "172.16.0.3"),
    6: ("fd00:20::1", "fd00:20:5::", "2001:db8::7:1"),
}
OVERLAP_HOSTNAMES = ("web-0", "a", "172-16-0-1", "fd00-20--1")
OVERLAP_PORTS = ("", "http", "x")


def random_cluster(seed: int, size: int = 40, *, overlapping: bool = False) -> list[Object]:
    """Namespaces, ``size`` Services, their slices, and Pods, in the order to create them.

    ``overlapping``: most Services are headless, and their slices share addresses, with other ports or none,
    another readiness or another hostname.
    """
    return _ClusterGenerator(random.Random(seed), overlapping).cluster(size)


def mutate(
    seed: int, present: Iterable[Object], count: int = 300, *, overlapping: bool = False
) -> list[Operation]:
    """At least ``count`` changes of every kind, each valid after those before it."""
    return _Mutator(random.Random(seed), present, overlapping).changes(count)


@dataclass
class _AddressPool:
    """Unused addresses of many shapes, and now and then a used one."""

    rng: random.Random
    used: dict[int, list[str]] = field(default_factory=lambda: {4: [], 6: []})

    def take(self, version: int, reuse: float = 0.02) -> str:
        used = self.used[version]
        if used and self.rng.random() < reuse:
            return self.rng.choice(used)
        while (address := self._new(version)) in used:
            pass
        used.append(address)
        return address

    def _new(self, version: int) -> str:
        rng = self.rng
        if version == 4:
            return f"172.{rng.randint(16, 31)}.{rng.randint(0, 255)}.{rng.randint(0, 255)}"
        shape = rng.random()
        if shape < 0.5:
            text = f"fd00:20::{rng.randint(1, 0xFFFF):x}"
        elif shape < 0.54:
            text = f"fd00:20:{rng.randint(1, 0xFFFF):x}::"  # dashed, it ends in hyphens
        elif shape < 0.8:
            text = f"2001:db8:0:{rng.randint(1, 0xFFFF):x}:0:0:{rng.randint(1, 0xFFFF):x}:1"
        else:
            text = ":".join(["2001", "db8", *(f"{rng.randint(1, 0xFFFF):x}" for _ in range(6))])
        return str(ipaddress.IPv6Address(text))


class _ClusterGenerator:
    def __init__(self, rng: random.Random, overlapping: bool) -> None:
        self.rng, self.overlapping = rng, overlapping
        self.addresses = _AddressPool(rng)
        self.hostnames = OVERLAP_HOSTNAMES if overlapping else HOSTNAMES
        self.names = 0

    def cluster(self, size: int) -> list[Object]:
        rng = self.rng
        names = ["app", "empty", *rng.sample(SPECIAL_NAMES, 4), f"team-{rng.randint(1, 99)}"]
        if self.overlapping:
            names = [OVERLAP_NAMESPACE]
        namespaces = [objects.namespace(name) for name in names]
        used = [name for name in names if name != "empty"]
        services: dict[tuple[str, str], Object] = {}
        slices: list[Object] = []
        for kind in self._kinds(size):
            namespace = rng.choice(used)
            name = self._service_name(namespace, services)
            service = self.service(kind, namespace, name, list(services.values()))
            services[namespace, name] = service
            slices += self.slices(service)
        slices += self._orphans(rng.choice(used))
        pods = [pod for name in used for pod in self.pods(name, slices)]
        return [*namespaces, *services.values(), *slices, *pods]

    def _kinds(self, size: int) -> list[str]:
        """Every kind at least once if ``size`` allows, common ones more often."""
        if self.overlapping:
            return self.rng.choices(["headless", "headless", "headless", "cluster"], k=size)
        each = [
            "headless", "cluster", "dual", "v6", "nodeport", "headless-no-ports", "headless-no-selector",
            "headless-not-ready", "loadbalancer", "external", "chain", "dangling", "literal",
            "headless", "cluster", "no-endpoints",
        ]  # fmt: skip
        kinds = each + [
            self.rng.choice([*["cluster", "headless"] * 4, *each]) for _ in range(max(0, size - len(each)))
        ]
        tail = kinds[2:size]
        self.rng.shuffle(tail)
        return kinds[:2] + tail

    def _service_name(self, namespace: str, taken: dict[tuple[str, str], Object]) -> str:
        if not self.overlapping and self.rng.random() < 0.2:
            name = self.rng.choice([*SPECIAL_NAMES, LONG_LABEL])
            if (namespace, name) not in taken:
                return name
        self.names += 1
        return f"s{self.names}"

    def service(self, kind: str, namespace: str, name: str, others: Sequence[Object] = ()) -> Object:
        """A Service of this kind; a ``chain`` is an alias of one of the others."""
        rng = self.rng
        make = functools.partial(objects.service, name, namespace, labels={"kind": kind})
        if kind in ("chain", "dangling"):
            target = self._target(kind, namespace, name, others)
            return make(type="ExternalName", externalName=target, ports=None)
        spec: Object = {"ports": self.ports(), "selector": {"app": name}}
        if kind == "dual":
            spec["ipFamilyPolicy"] = "RequireDualStack"
            spec["ipFamilies"] = rng.choice([["IPv4", "IPv6"], ["IPv6", "IPv4"]])
        elif kind in ("v6", "nodeport"):
            spec |= {"ipFamilies": ["IPv6"]} if kind == "v6" else {"type": "NodePort"}
        elif kind == "loadbalancer":
            spec["type"] = "LoadBalancer"
            spec["ports"] = self.ports(protocols=("TCP",))
        elif kind.startswith("headless"):
            spec["clusterIP"] = "None"
            if kind == "headless-no-ports":
                spec["ports"] = None
            if kind == "headless-no-selector":
                del spec["selector"]
            if kind == "headless-not-ready" or rng.random() < 0.2:
                spec["publishNotReadyAddresses"] = True
        elif kind in ("external", "literal"):
            target = (
                rng.choice(EXTERNAL_NAMES) if kind == "external" else rng.choice(["192.0.2.7", "10.0.0.1"])
            )
            ports = self.ports() if rng.random() < 0.3 else None
            spec = {"type": "ExternalName", "externalName": target, "ports": ports}
        return make(**spec)

    def _target(self, kind: str, namespace: str, name: str, others: Sequence[Object]) -> str:
        if kind == "chain" and others:
            metadata = self.rng.choice(others)["metadata"]
            return f"{metadata['name']}.{metadata['namespace']}.svc.cluster.local"
        return f"{name if self.rng.random() < 0.3 else 'gone'}.{namespace}.svc.cluster.local"

    def ports(self, protocols: Sequence[str] = PROTOCOLS) -> list[Object]:
        """One to four ports; a single one may be unnamed."""
        rng = self.rng
        if rng.random() < 0.2:
            return [{"port": rng.randint(1, 65535), "protocol": rng.choice(protocols)}]
        ports: list[Object] = []
        for name in rng.sample(PORT_NAMES, rng.choice([1, 1, 2, 2, 3, 4])):
            number = ports[-1]["port"] if ports and rng.random() < 0.2 else rng.randint(1, 65535)
            protocol = rng.choice(protocols)
            if all((port["port"], port["protocol"]) != (number, protocol) for port in ports):
                ports.append({"name": name, "port": number, "protocol": protocol})
        return ports

    def slices(self, service: Object) -> list[Object]:
        """Up to four slices for a Service, sometimes for one that ignores them."""
        rng = self.rng
        spec, kind = service["spec"], service["metadata"]["labels"]["kind"]
        headless = spec.get("clusterIP") == "None"
        useless = kind == "no-endpoints" or (spec.get("type") == "ExternalName" and rng.random() < 0.7)
        if useless or (not headless and rng.random() < 0.4):
            return []
        count = rng.choice([0, 1, 1, 2, 2, 3]) if headless else rng.choice([1, 1, 2])
        count += self.overlapping
        return [
            self.slice(service, number, 6 if kind == "v6" or rng.random() < 0.3 else 4)
            for number in range(count)
        ]

    def slice(self, service: Object, number: int, version: int) -> Object:
        """A slice with the ports of its Service, none, or others."""
        rng = self.rng
        metadata = service["metadata"]
        same = [dict(port) for port in service["spec"].get("ports", [])]
        chance = rng.random()
        ports = same if chance < 0.8 else [] if chance < 0.9 else self.ports()
        if self.overlapping:
            names = rng.sample(OVERLAP_PORTS, rng.choice([0, 0, 1, 1, 2, 3]))
            ports = [objects.port(name, rng.choice([80, 80, 81]), rng.choice(PROTOCOLS)) for name in names]
        if ports and (self.overlapping or len(ports) == 1) and rng.random() < 0.1:
            del ports[0]["port"]
        mixed = metadata["labels"].get("kind") != "headless-not-ready"
        ends = [self.endpoint(version, mixed) for _ in range(rng.choice([0, 1, 1, 2, 2, 3, 5]))]
        name, place, family = f"{metadata['name'][:40]}-{number}", metadata["namespace"], f"IPv{version}"
        return objects.endpoint_slice(
            name, metadata["name"], ends, namespace=place, family=family, ports=ports
        )

    def endpoint(self, version: int, mixed: bool = True) -> Object:
        rng = self.rng
        ready = rng.choice([True, True, True, True, None, False]) if mixed else False
        conditions: Object = {} if ready is None else {"ready": ready}
        if ready is False and rng.random() < 0.5:
            conditions |= {"terminating": True, "serving": rng.choice([True, False])}
        addresses = [self.addresses.take(version) for _ in range(rng.choice([1] * 9 + [3]))]
        if self.overlapping:
            addresses = rng.sample(OVERLAP_ADDRESSES[version], rng.choice([1, 1, 1, 2]))
        made: Object = {"conditions": conditions, "addresses": list(dict.fromkeys(addresses))}
        if rng.random() < 0.4:
            made["hostname"] = rng.choice(self.hostnames)
        return made

    def _orphans(self, namespace: str) -> list[Object]:
        """A slice of a missing Service, and one without a Service."""
        orphan, unlabelled = (
            self.slice(objects.service(name, namespace, ports=self.ports()), 0, 4)
            for name in ("gone", "nobody")
        )
        del unlabelled["metadata"]["labels"]
        ready = {"addresses": [self.addresses.take(4, reuse=0)], "conditions": {"ready": True}}
        unlabelled["endpoints"] = [ready]
        return [orphan, unlabelled]

    def pods(self, namespace: str, slices: Sequence[Object]) -> list[Object]:
        """Some Pods, some with addresses of slices."""
        behind = [
            address
            for one in slices
            if one["metadata"]["namespace"] == namespace
            for endpoint in one["endpoints"]
            for address in endpoint["addresses"]
        ]
        return [self.pod(namespace, f"p{number}", behind) for number in range(self.rng.choice([1, 2, 3, 4]))]

    def pod(self, namespace: str, name: str, behind: Sequence[str] = ()) -> Object:
        """A Pod with one address family, both, or none yet, in any phase."""
        rng = self.rng
        chance = rng.random()
        if behind and chance < 0.3:
            addresses = [rng.choice(behind)]
        elif chance < 0.7:
            addresses = [self.addresses.take(4 if chance < 0.5 else 6)]
        elif chance < 0.95:
            addresses = [self.addresses.take(version) for version in rng.sample([4, 6], 2)]
        else:
            addresses = []
        phase = rng.choice(["Running"] * 6 + ["Pending", "Succeeded", "Failed"])
        made = objects.pod(name, *addresses, namespace=namespace, phase=phase)
        if rng.random() < 0.2:
            made["spec"]["hostNetwork"] = True
            if addresses:
                made["status"] |= {"hostIP": addresses[0], "hostIPs": made["status"]["podIPs"]}
        return made


class _Mutator:
    """Tracks the cluster after the changes so far, so that each further one is valid."""

    def __init__(self, rng: random.Random, present: Iterable[Object], overlapping: bool) -> None:
        self.rng = rng
        self.make = _ClusterGenerator(rng, overlapping)
        self.present = {identity(obj): copy.deepcopy(obj) for obj in present}
        for obj in self.present.values():
            for endpoint in obj.get("endpoints", []):
                for address in endpoint["addresses"]:
                    self.make.addresses.used[ipaddress.ip_address(address).version].append(address)
        self.names = (f"new{number}" for number in itertools.count(1))
        self.operations: list[Operation] = []

    def changes(self, count: int) -> list[Operation]:
        #: A change, the kind of its object, and for Services the types.
        kinds: list[tuple[Callable[..., None], *tuple[str, ...]]] = [
            (self._flip_readiness, "EndpointSlice"),
            (self._flip_readiness, "EndpointSlice"),
            (self._endpoints, "EndpointSlice"),
            (self._slice_ports, "EndpointSlice"),
            (self._hostname, "EndpointSlice"),
            (self._service_ports, "Service", "ClusterIP", "NodePort", "headless"),
            (self._new_service,),
            (self._delete, "Service"),  # its slices stay
            (self._recreate, "Service"),
            (self._new_slice, "Service"),
            (self._delete, "EndpointSlice"),
            (self._labels,),
            (self._move_slice, "EndpointSlice"),
            (self._external_name, "Service", "ExternalName"),
            (self._to_external, "Service", "ClusterIP"),
            (self._new_pod,),
            (self._delete, "Pod"),
            (self._pod_address, "Pod"),
            (self._new_namespace,),
            (self._stacks, "Service", "ClusterIP", "NodePort"),
        ]
        while len(self.operations) < count:
            change, *of = self.rng.choice(kinds)
            if not of:
                change()
            elif (one := self._some(*of)) is not None:
                before = copy.deepcopy(one)
                change(one)
                if one != before:
                    self._apply(one)
            if self.rng.random() < 0.01:
                self._delete_namespace()
        return self.operations

    def _some(self, kind: str, *wanted: str) -> Object | None:
        """A copy of a random object of this kind, and for Services of one of these types."""
        found = [obj for key, obj in sorted(self.present.items()) if key[0] == kind]
        if wanted:
            found = [obj for obj in found if _service_type(obj) in wanted]
        return copy.deepcopy(self.rng.choice(found)) if found else None

    def _namespaces(self) -> list[str]:
        return sorted(name for kind, _, name in self.present if kind == "Namespace")

    def _apply(self, obj: Object) -> None:
        self.present[identity(obj)] = copy.deepcopy(obj)
        self.operations.append(Operation("apply", copy.deepcopy(obj)))

    def _delete(self, obj: Object) -> None:
        self.present.pop(identity(obj), None)
        self.operations.append(Operation("delete", copy.deepcopy(obj)))

    def _flip_readiness(self, one: Object) -> None:
        if one["endpoints"]:
            endpoint = self.rng.choice(one["endpoints"])
            endpoint["conditions"] = {"ready": not endpoint["conditions"].get("ready", True)}

    def _endpoints(self, one: Object) -> None:
        version = 4 if one["addressType"] == "IPv4" else 6
        if one["endpoints"] and self.rng.random() < 0.5:
            one["endpoints"].remove(self.rng.choice(one["endpoints"]))
        else:
            one["endpoints"].append(self.make.endpoint(version))

    def _hostname(self, one: Object) -> None:
        if one["endpoints"]:
            endpoint = self.rng.choice(one["endpoints"])
            if not endpoint.pop("hostname", None):
                endpoint["hostname"] = self.rng.choice(self.make.hostnames)

    def _slice_ports(self, one: Object) -> None:
        one["ports"] = self.rng.choice([[], self.make.ports(), one["ports"][1:]])

    def _new_slice(self, service: Object) -> None:
        made = self.make.slice(service, 0, self.rng.choice([4, 4, 6]))
        made["metadata"]["name"] = f"{next(self.names)}-slice"
        self._apply(made)

    def _move_slice(self, one: Object) -> None:
        """Relabel a slice to belong to another Service, or none."""
        if service := self._some("Service"):
            if self.rng.random() < 0.3:
                one["metadata"].pop("labels", None)
            else:
                one["metadata"]["labels"] = {SERVICE_NAME: service["metadata"]["name"]}

    def _service_ports(self, service: Object) -> None:
        service["spec"]["ports"] = self.make.ports()

    def _new_service(self) -> None:
        kinds = ["cluster", "dual", "v6", "headless", "external", "headless-no-ports", "nodeport"]
        service = self.make.service(
            self.rng.choice(kinds), self.rng.choice(self._namespaces()), next(self.names)
        )
        made = self.make.slices(service)
        # the slices may come first
        for one in [*made, service] if self.rng.random() < 0.3 else [service, *made]:
            self._apply(one)

    def _recreate(self, service: Object) -> None:
        """Delete a Service and create one of another kind with its name, as fields are immutable."""
        self._delete(service)
        kind = (
            "cluster" if _service_type(service) == "headless" else self.rng.choice(["headless", "dual", "v6"])
        )
        metadata = service["metadata"]
        service |= self.make.service(kind, metadata["namespace"], metadata["name"])

    def _external_name(self, service: Object) -> None:
        service["spec"]["externalName"] = self.rng.choice(
            [*EXTERNAL_NAMES, "192.0.2.9", "s1.app.svc.cluster.local"]
        )

    def _to_external(self, service: Object) -> None:
        service["spec"] = {"type": "ExternalName", "externalName": self.rng.choice(EXTERNAL_NAMES)}

    def _stacks(self, service: Object) -> None:
        if service["spec"].get("ipFamilyPolicy") is None:
            first = service["spec"].get("ipFamilies", ["IPv4"])
            service["spec"]["ipFamilyPolicy"] = "RequireDualStack"
            service["spec"]["ipFamilies"] = [*first, "IPv4" if first == ["IPv6"] else "IPv6"]

    def _labels(self) -> None:
        if one := self._some(self.rng.choice(["Service", "EndpointSlice", "Pod", "Namespace"])):
            one["metadata"].setdefault("labels", {})["changed"] = str(self.rng.randint(0, 9))
            self._apply(one)

    def _new_pod(self) -> None:
        self._apply(self.make.pod(self.rng.choice(self._namespaces()), next(self.names)))

    def _pod_address(self, pod: Object) -> None:
        if pod["status"]["phase"] in ("Running", "Pending"):
            address = self.make.addresses.take(self.rng.choice([4, 6]))
            pod["status"] |= {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}

    def _new_namespace(self) -> None:
        if len(self._namespaces()) < 20:
            self._apply(objects.namespace(next(self.names)))

    def _delete_namespace(self) -> None:
        names = [name for name in self._namespaces() if name not in ("app", "default", OVERLAP_NAMESPACE)]
        if names:
            name = self.rng.choice(names)
            self._delete(self.present[("Namespace", "", name)])
            self.present = {key: obj for key, obj in self.present.items() if key[1] != name}


def _service_type(obj: Object) -> str:
    spec = obj.get("spec", {})
    return "headless" if spec.get("clusterIP") == "None" else str(spec.get("type", "ClusterIP"))
