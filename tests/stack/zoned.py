"""The bridge with zones beside the cluster's, and CoreDNS on the Corefile that it prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dns.message
import dns.rcode
import yaml

from tests.stack.coredns import NOT_YET
from tests.stack.demo import NO_DOORS, environment, kube2etcd
from tests.stack.harness import LOOPBACK, ApiServer, Bridge, CoreDns, Etcd, Object, free_port, wait_for

CRD = Path(__file__).parent / "crds" / "virtualmachineinstances.yaml"


def vmi_crd() -> Object:
    """The CRD of KubeVirt's machines."""
    crd: Object = yaml.safe_load(CRD.read_text())
    return crd


def namespace(name: str, **labels: str) -> Object:
    """A namespace with labels."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def service(
    namespace: str,
    name: str,
    *,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    ports: Sequence[tuple[str, int]] = (("http", 80),),
    status: Sequence[str] = (),
    **spec: Any,
) -> Object:
    """A Service; ``status`` holds a load balancer's addresses."""
    metadata = {"namespace": namespace, "name": name, "labels": dict(labels or {})}
    metadata["annotations"] = dict(annotations or {})
    if ports:
        spec["ports"] = [{"name": port, "port": number} for port, number in ports]
    one: Object = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
    if status:
        one["status"] = {"loadBalancer": {"ingress": [{"ip": address} for address in status]}}
    return one


def endpoints(namespace: str, service: str, *addresses: str) -> Object:
    """An EndpointSlice of a Service."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": namespace,
            "name": f"{service}-1",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address]} for address in addresses],
        "ports": [{"name": "http", "port": 80}],
    }


def vmi(namespace: str, name: str, *interfaces: Object, **more: Any) -> Object:
    """A machine with a pod network and these interfaces."""
    own = [{"name": one["name"], "multus": {"networkName": "x"}} for one in interfaces if one.get("name")]
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"networks": [{"name": "default", "pod": {}}, *own]},
        "status": {
            "phase": "Running",
            "interfaces": [nic("default", "10.244.1.20", "fd10:244::20"), *interfaces],
            **more,
        },
    }


def nic(name: str, *addresses: str) -> Object:
    """One interface of a machine's status; without a name, as the guest agent reports its own."""
    one: Object = {"name": name} if name else {"interfaceName": "docker0"}
    return {**one, "ipAddress": addresses[0], "ipAddresses": list(addresses)} if addresses else one


def said(message: dns.message.Message) -> list[str]:
    """The answer's data in its order, or NODATA, or the code."""
    if message.rcode() != dns.rcode.NOERROR:
        return [dns.rcode.to_text(message.rcode())]
    return [item.to_text() for rrset in message.answer for item in rrset] or ["NODATA"]


class Zoned:
    """A bridge and its CoreDNS with the same settings; ``dns_options`` are those of ``corefile`` alone."""

    def __init__(
        self,
        directory: Path,
        binaries: Mapping[str, Path],
        api: ApiServer,
        etcd: Etcd,
        options: Sequence[str] = (),
        config: Mapping[str, Any] | None = None,
        dns_options: Sequence[str] = (),
    ) -> None:
        self.etcd = etcd
        if config is not None:
            file = directory / "settings.yaml"
            directory.mkdir(parents=True, exist_ok=True)
            file.write_text(yaml.safe_dump(config))
            options = [*options, "--config", str(file)]
        options = ["--etcd-server", etcd.url, *options]
        self.options = options
        self.bridge = Bridge(
            directory, [*options, "--kubeconfig", str(api.kubeconfig())], environment(), name="bridge"
        )
        port = free_port()
        listen = ("--dns-listen", f"{LOOPBACK}:{port}", "--upstream", "none", "--cache", "0")
        text = kube2etcd("corefile", *options, *listen, *NO_DOORS, *dns_options)
        self.dns = CoreDns(directory, binaries, text, port=port)

    def start(self) -> None:
        """Start both; the bridge has written everything when this returns."""
        self.bridge.start()
        self.dns.start()
        self.bridge.wait_ready()

    def kill(self) -> None:
        """End both."""
        self.bridge.kill()
        self.dns.kill()

    def ask(self, name: str, rtype: str = "A", *, tcp: bool = False) -> list[str]:
        """The answer's data in its order, or NODATA, or the code."""
        return said(self.dns.ask(name, rtype, tcp))

    def expect(self, name: str, rtype: str, *answer: str, deadline_s: float = 15.0) -> None:
        """Wait for this answer; the order means nothing."""

        def right() -> bool:
            seen = self.ask(name, rtype)
            assert sorted(seen) == sorted(answer), f"{name} {rtype}: {seen}, not {list(answer)}"
            return True

        processes = (self.bridge.process, self.dns.process)
        wait_for(right, f"{name} {rtype}", deadline_s, *processes, not_yet=NOT_YET)


def relabel(api: ApiServer, one: Object) -> None:
    """Write the labels and annotations of an object anew; None takes one away.

    Creating a Service again is refused for its address before its name is looked at.
    """
    metadata = {part: one["metadata"].get(part, {}) for part in ("labels", "annotations")}
    path = api.path(one["apiVersion"], one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"])
    api.request("PATCH", path, {"metadata": metadata}, content_type="application/merge-patch+json")


def starter(
    directory: Path, binaries: Mapping[str, Path], api: ApiServer, etcd: Etcd
) -> Iterator[Callable[..., Zoned]]:
    """A function that starts one with these options; what it started ends with the test."""
    running: list[Zoned] = []

    def start(
        *options: str, config: Mapping[str, Any] | None = None, dns_options: Sequence[str] = ()
    ) -> Zoned:
        place = directory / f"zoned{len(running)}"
        one = Zoned(place, binaries, api, etcd, options, config, dns_options)
        running.append(one)
        one.start()
        return one

    yield start
    for one in running:
        one.kill()
