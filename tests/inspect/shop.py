"""The examples' shop with more objects, and its explanations."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from kube2etcd.app import build
from kube2etcd.app.offline import from_files
from kube2etcd.inspect.explain import (
    Explainer,
    Explanation,
    question_name,
)
from kube2etcd.inspect.readers import Reader
from kube2etcd.settings import load
from kube2etcd.sync.publisher import Publisher

WEB = "web.shop.svc.cluster.local"
SHOP = str(Path(__file__).parents[2] / "examples" / "shop.yaml")

MORE = """
apiVersion: v1
kind: Pod
metadata: {name: worker, namespace: shop}
status: {phase: Running, podIP: 10.244.9.9, podIPs: [{ip: 10.244.9.9}]}
---
apiVersion: v1
kind: Service
metadata: {name: waiting, namespace: shop}
spec: {type: LoadBalancer}
---
apiVersion: v1
kind: Service
metadata: {name: legacy, namespace: shop}
spec: {type: ExternalName, externalName: 192.0.2.9}
---
apiVersion: v1
kind: Service
metadata: {name: bare, namespace: shop}
spec: {clusterIP: None, ports: [{name: http, port: 80, protocol: TCP}]}
---
apiVersion: v1
kind: Service
metadata: {name: lost, namespace: shop}
spec: {type: ExternalName, externalName: gone.shop.svc.cluster.local}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: legacy-abcde, namespace: shop}
endpoints: none
---
apiVersion: kubevirt.io/v1
kind: VirtualMachineInstance
metadata: {name: vm1, namespace: shop}
spec: {networks: [{name: default, pod: {}}, {name: nic1, multus: {networkName: x}}]}
status: {interfaces: [{name: nic1, ipAddress: 192.0.2.30, ipAddresses: [192.0.2.30]}]}
---
apiVersion: kubevirt.io/v1
kind: VirtualMachineInstance
metadata: {name: vm2, namespace: shop}
spec: {networks: [{name: nic1, multus: {networkName: x}}]}
status: {interfaces: [{name: nic1, ipAddress: 127.0.0.1, ipAddresses: [127.0.0.1]}]}
---
apiVersion: kubevirt.io/v1
kind: VirtualMachineInstance
metadata: {name: starting, namespace: shop}
spec: {networks: [{name: nic1, multus: {networkName: x}}]}
---
apiVersion: v1
kind: Service
metadata: {name: younger, namespace: shop, creationTimestamp: "2026-01-02T00:00:00Z"}
spec: {clusterIP: 10.0.0.77}
---
apiVersion: v1
kind: Service
metadata: {name: older, namespace: shop, creationTimestamp: "2026-01-01T00:00:00Z"}
spec: {clusterIP: 10.0.0.77}
---
apiVersion: v1
kind: Namespace
metadata: {name: any}
---
apiVersion: v1
kind: Service
metadata: {name: set, namespace: any}
spec: {clusterIP: None, ports: [{name: http, port: 80, protocol: TCP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: set-abcde, namespace: any, labels: {kubernetes.io/service-name: set}}
addressType: IPv4
ports: [{name: http, port: 80, protocol: TCP}]
endpoints: [{addresses: [10.244.7.7], conditions: {ready: true}}]
---
apiVersion: externaldns.k8s.io/v1alpha1
kind: DNSEndpoint
metadata: {name: names, namespace: shop}
spec:
  endpoints:
    - {dnsName: foo.dtk.io, recordType: A, targets: [10.0.0.5]}
    - {dnsName: a.b.dtk.io, recordType: A, targets: [10.0.0.5]}
    - {dnsName: invalid.dtk.io, recordType: A, targets: [x]}
    - {dnsName: "*.w.dtk.io", recordType: A, targets: [10.0.0.5]}
    - {dnsName: a-foo.dtk.io, recordType: TXT, targets: [heritage=external-dns]}
"""


class Shop:
    """The examples and `MORE` published with some settings, cached by these."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "more.yaml").write_text(MORE)
        self._published = cache(self._publish)

    def _publish(self, zones: str, *options: tuple[str, Any]) -> tuple[Publisher, Reader]:
        config = self._folder / "settings.yaml"
        config.write_text(f"zones: [{zones}]\n")
        defaults = {"pods": "verified", "vm_domain": "", "domains": ("dtk.io",), "dns_endpoints": True}
        settings = load({**defaults, **dict(options)}, {}, config)
        publisher = from_files(settings, [SHOP, str(self._folder / "more.yaml")])
        return publisher, build.reader(settings, publisher)

    def explainer(
        self, existing: dict[bytes, bytes] | None = None, zones: str = "", **options: Any
    ) -> Explainer:
        """``existing``: keys in etcd besides the desired ones."""
        publisher, reader = self._published(zones, *options.items())
        return Explainer(publisher, reader, None if existing is None else {**publisher.desired, **existing})

    def explain(
        self, name: str, rtype: str | None = "A", existing: dict[bytes, bytes] | None = None, **settings: Any
    ) -> Explanation:
        return self.explainer(existing, **settings).explain(question_name(name), rtype)[0]
