"""kube2etcd: keeps etcd equal to the DNS records of a Kubernetes cluster.

The bridge lists and watches the API server, derives DNS records and writes them as SkyDNS
messages into etcd, where stock CoreDNS (plugin ``etcd``) and SkyDNS read them.
"""

__version__ = "0.1.0"
