"""Faults of settings that exclude or require one another."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from urllib.parse import urlsplit

from kube2etcd.settings.model import BY_PATH, Settings, vm_zone
from skydns_compat.corefile import cluster_parts
from skydns_compat.names import Name, version

_REVERSE = (Name.parse("in-addr.arpa"), Name.parse("ip6.arpa"))


def combination_faults(
    settings: Settings, values: Container[str], said: Mapping[str, str], faults: Container[str]
) -> Iterator[str]:
    """Faults of settings in combination.

    ``values``: paths with a value; ``said``: the place where each path was set; ``faults``: paths whose own
    value is invalid already.
    """
    etcd = settings.etcd
    for one, other in (
        ("cert", "key"),
        ("key", "cert"),
        ("user", "password_file"),
        ("password_file", "user"),
    ):
        path, partner = f"etcd.{one}", f"etcd.{other}"
        if path in values and partner not in said:
            yield f"{said[path]} needs --{BY_PATH[partner].option} as well"
    if "etcd.servers" in said and "etcd.servers" not in faults:
        where = said["etcd.servers"]
        if not etcd.servers:
            yield f"{where} names no server; write a URL such as http://127.0.0.1:2379"
        elif len({urlsplit(url).scheme for url in etcd.servers}) > 1:
            yield f"{where} mixes http and https; write all of them alike"
        elif (etcd.cafile or etcd.cert) and urlsplit(etcd.servers[0]).scheme == "http":
            yield f"{where} is plain http, which would ignore the certificate; write https://"
    if settings.leader_elect and etcd.api == "v2":
        yield f"{said['leader_elect']} needs leases, which the v2 API lacks; write --etcd-api v3"
    if settings.vm.name_server_ip is not None and settings.vm.domain is None and "vm.domain" not in said:
        yield f"{said['vm.name_server_ip']} needs --vm-domain as well"
    if "corefile.vm_listen" in values and settings.vm.domain is None and "vm.domain" not in said:
        yield f"{said['corefile.vm_listen']} needs --vm-domain as well"
    if settings.dns_endpoints and not settings.domains and "domains" not in faults:
        yield f"{said['dns_endpoints']} needs --domains as well, the domains to publish"
    if not settings.cluster_zone:
        if etcd.api == "v2":
            yield f"{said['cluster_zone']} leaves SkyDNS nothing: it serves only the cluster's zone; omit it"
        elif not (settings.zones or settings.domains or settings.vm.domain is not None):
            yield f"{said['cluster_zone']} leaves nothing to publish; name --vm-domain, --domains or zones"
    yield from _webhook(settings, said)
    if etcd.api == "v2" and settings.domains:
        yield f"{said['domains']} needs CoreDNS: SkyDNS serves one domain; write --etcd-api v3"
    for path in ("skydns.config", "skydns.dns_addr", "skydns.nameservers", "skydns.min_ttl"):
        if path not in values:
            continue
        if etcd.api != "v2":
            yield f"{said[path]} is for SkyDNS; write --etcd-api v2 as well"
        elif not settings.skydns.config:
            yield f"{said[path]} is written only with --skydns-config true"
    yield from zone_faults(settings, said)


def _webhook(settings: Settings, said: Mapping[str, str]) -> Iterator[str]:
    webhook = settings.webhook
    if webhook.inside and webhook.state_objects is not None and not settings.dns_endpoints:
        yield f"{said['webhook.state_objects']} needs --dns-endpoints beside --webhook, to read them"
    if webhook.inside and settings.etcd.api == "v2":
        yield f"{said['webhook.inside']} needs CoreDNS and the v3 API; write --etcd-api v3"
    if len(set(map(version, webhook.cluster_ip))) < len(webhook.cluster_ip):
        yield f"{said['webhook.cluster_ip']} has two addresses of one family; write one IPv4 and one IPv6"
    served, kept = settings.etcd.prefix + "/", webhook.state_prefix + "/"
    if "webhook.state_prefix" in said and (served.startswith(kept) or kept.startswith(served)):
        yield f"{said['webhook.state_prefix']} would lie among the keys of {settings.etcd.prefix}"


def zone_faults(settings: Settings, said: Mapping[str, str]) -> Iterator[str]:
    """Faults of zones that cannot be served together; ``said`` maps a path to the place where it was set.

    Records of two zones of one name would mix; a zone inside the cluster's own names would hide them, since
    the server asks one zone only.
    """
    cluster = [(settings.domain, "domain")] if settings.cluster_zone else []
    named = [] if settings.vm.domain is None else [(vm_zone(settings.vm.domain), "vm.domain")]
    named += [(zone.zone, f"zones[{number}].zone") for number, zone in enumerate(settings.zones)]
    whole = [(domain.name, "domains") for domain in settings.domains if not domain.only_below]
    first: dict[Name, str] = {}
    for name, path in [*cluster, *named, *whole]:
        if name in first:
            both = f"{said.get(path, path)} and {said.get(first[name], first[name])}"
            yield f"{both} both are the zone {name}; give each a name of its own"
        first.setdefault(name, path)
    own = cluster_parts(settings.domain) if settings.cluster_zone else ()
    domains = [(domain.name, "domains") for domain in settings.domains]
    for name, path in [*named, *domains]:
        for taken in own:
            if name.below(taken):
                where = said.get(path, path)
                yield f"{where} is the zone {name}, where {taken} has names of the cluster; take another"
    for name, path in [(settings.domain, "domain"), *named]:
        if any(name.below(reverse) for reverse in _REVERSE):
            where = said.get(path, path)
            yield f"{where} is the zone {name}, which holds the names of addresses; take another"
