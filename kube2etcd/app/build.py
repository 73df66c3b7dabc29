"""Builds each part from the settings tree."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from kube2etcd.errors import SettingsError
from kube2etcd.external import Domain
from kube2etcd.kube.objects import KINDS, Kind
from kube2etcd.kube.store import Store
from kube2etcd.settings import Etcd, HostPort, Settings, Vm, vm_zone, zone_faults
from kube2etcd.sync.publisher import Publisher
from kube2etcd.zones.base import Zone
from kube2etcd.zones.cluster import ClusterZone
from kube2etcd.zones.external import ExternalZone, zones_of
from kube2etcd.zones.services import ServicesZone
from kube2etcd.zones.vmi import VmZone
from skydns_compat.corefile import CorefileSettings, Subzone, blocks
from skydns_compat.layout import Layout
from skydns_compat.names import REVERSE, Address, Name

if TYPE_CHECKING:
    from kube2etcd.inspect.docker_flags import ClientDns
    from kube2etcd.inspect.readers import Reader
    from skydns_compat.skydns import ServerSettings

#: Prefix of election keys.
ELECTIONS = "/kube2etcd"
#: Suffix of the owner id of `kube2etcd webhook`, so that a bridge on the same etcd leaves its keys alone.
WEBHOOK_OWNER = "/webhook"
#: What to call the source of a domain added at run time in `zone_faults`.
_SOURCE_OF = {"domains": "POST /domains"}


def publishing(settings: Settings) -> Settings:
    """The settings of the zones that this process publishes: `kube2etcd webhook` has the external ones alone.

    The others may still be served from the same etcd, so no external domain may lie in them.
    """
    if not settings.webhook.alone:
        return settings
    return dataclasses.replace(settings, cluster_zone=False, zones=(), vm=Vm())


def kinds(settings: Settings) -> tuple[Kind, ...]:
    """The kinds of objects to list and watch: only those that these settings need."""
    machines, services = settings.vm.domain is not None, bool(settings.cluster_zone or settings.zones)
    needed = {
        "services": services,
        "endpointslices": services,
        "namespaces": services or machines,
        "pods": settings.cluster_zone and settings.pods == "verified",
        "virtualmachineinstances": machines,
        "dnsendpoints": settings.dns_endpoints,
    }
    return tuple(KINDS[name] for name, yes in needed.items() if yes)


def publisher(settings: Settings, store: Store) -> Publisher:
    """A publisher of the objects in ``store``, in all zones of the settings."""
    zone = ClusterZone(
        settings.domain,
        settings.ttl,
        pods(settings),
        settings.endpoint_names,
        settings.tenant_cluster_ip,
        settings.dns_server_ip,
    )
    published = publishing(settings)
    zones = [*_zones(published), *external_zones(settings, settings.domains, settings.webhook.cluster_ip)]
    return Publisher(store, layout(settings), zone if published.cluster_zone else None, zones)


def _skydns_reads(settings: Settings) -> bool:
    """Whether SkyDNS reads the keys instead of CoreDNS: only SkyDNS reads the v2 API."""
    return settings.etcd.api == "v2"


def layout(settings: Settings) -> Layout:
    """The key layout for the DNS server that reads the keys."""
    if not _skydns_reads(settings):
        owner = settings.owner_id + (WEBHOOK_OWNER if settings.webhook.alone else "")
        return Layout(settings.etcd.prefix, owner)
    from skydns_compat.skydns import SkydnsLayout

    empty = ("svc", "dns") if pods(settings) == "disabled" else ("svc", "dns", "pod")
    return SkydnsLayout(settings.etcd.prefix, settings.owner_id, _skydns_settings(settings), empty)


def pods(settings: Settings) -> str:
    """Which pods have names; SkyDNS computes no answers, so there `insecure` means `disabled`."""
    return "disabled" if _skydns_reads(settings) and settings.pods == "insecure" else settings.pods


def _skydns_settings(settings: Settings) -> ServerSettings | None:
    """SkyDNS's own settings, if ``--skydns-config`` is set."""
    given = settings.skydns
    if not given.config:
        return None
    from skydns_compat.skydns import ServerSettings

    listen = given.dns_addr
    if listen is not None and not listen.host:
        # SkyDNS requires an address.
        listen = HostPort("0.0.0.0", listen.port)
    return ServerSettings(
        f"{settings.domain}.",
        f"hostmaster.{settings.domain}.",
        str(listen or ""),
        tuple(map(str, given.nameservers)),
        settings.ttl,
        given.min_ttl or settings.ttl,
    )


def reader(settings: Settings, publisher: Publisher, *, everywhere: bool = False) -> Reader:
    """A model of the DNS server for these settings, reading the keys of ``publisher``.

    CoreDNS also serves external domains added at run time; ``everywhere``: see `CoreDns`.
    """
    from kube2etcd.inspect.readers import CoreDns, SkyDns

    prefix = settings.etcd.prefix
    if _skydns_reads(settings):
        return SkyDns(settings.domain, prefix)
    external = (zone.domains for zone in publisher.zones if isinstance(zone, ExternalZone))
    more, _ = served(settings, (domain for some in external for domain in some))
    return CoreDns(blocks(corefile(more)), prefix, everywhere)


def machine_zone(settings: Settings) -> Name | None:
    """The zone of virtual machines; None if it is off."""
    return None if settings.vm.domain is None else vm_zone(settings.vm.domain)


def zone_names(settings: Settings) -> tuple[Name, ...]:
    """Every published zone of the cluster's objects, except reverse zones."""
    machines = machine_zone(settings)
    return (
        *([settings.domain] if settings.cluster_zone else []),
        *(one.zone for one in settings.zones),
        *([machines] if machines else []),
    )


def _zones(settings: Settings) -> Iterator[Zone]:
    machines = machine_zone(settings)
    names = zone_names(settings)
    if machines is not None:
        vm = settings.vm
        allowed, allowed_in = vm.allowed_networks, vm.allowed_networks_in
        yield VmZone(machines, settings.ttl, vm.name_server_ip, allowed, allowed_in, vm.reverse)
    for one in settings.zones:
        yield ServicesZone(
            one.zone,
            one.ttl or settings.ttl,
            frozenset(one.namespaces),
            one.selector,
            one.namespace_selector,
            one.addresses,
            one.name,
            one.wildcards,
            settings.tenant_cluster_ip,
            tuple(name for name in names if name != one.zone),
        )


def external_zones(
    settings: Settings, domains: Collection[Domain], cluster_ips: tuple[Address, ...]
) -> list[ExternalZone]:
    """The zones of those external ``domains`` that can be served; some may have been added at run time."""
    known, others = served(settings, domains)[0].domains, zone_names(settings)
    return [
        ExternalZone(zone, inside, settings.ttl, cluster_ips, others, known)
        for zone, inside in zones_of(known, others).items()
    ]


def served(settings: Settings, domains: Iterable[Domain]) -> tuple[Settings, list[str]]:
    """The settings plus external ``domains`` added at run time, and a sentence for each unservable one."""
    faults = {one: unservable(settings, one) for one in dict.fromkeys(domains) if one not in settings.domains}
    more = (one for one, why in faults.items() if not why)
    return (
        dataclasses.replace(settings, domains=(*settings.domains, *more)),
        [f"the domain {one} is not served: {why}" for one, why in faults.items() if why],
    )


def unservable(settings: Settings, domain: Domain) -> str:
    """Why an external domain added at run time cannot be served, in a sentence; empty if it can."""
    more = dataclasses.replace(settings, domains=(*settings.domains, domain))
    return next(iter(zone_faults(more, _SOURCE_OF)), "")


def _subzones(settings: Settings) -> Iterator[Subzone]:
    machines = machine_zone(settings)
    if machines is not None:
        yield Subzone(
            machines,
            deeper=None,
            listen=_listen(settings.corefile.vm_listen),
            name_server=settings.vm.name_server_ip is not None,
        )
    for one in settings.zones:
        yield Subzone(one.zone, one.name.count(".") + 1, wildcards=one.wildcards, ordered=True)


def client(settings: Settings) -> ClientDns:
    """What clients of the DNS server configure in their resolvers."""
    from kube2etcd.inspect.docker_flags import ClientDns

    resolver = settings.client
    return ClientDns(settings.dns_server_ip, settings.domain, resolver.namespace, resolver.ndots)


def election_key(settings: Settings) -> bytes:
    """The election key, whose holder writes the keys of this prefix and owner.

    :raises SettingsError: it would lie among the served keys.
    """
    if settings.etcd.prefix == ELECTIONS:
        raise SettingsError(f"--leader-elect keeps its key below {ELECTIONS}; take another --etcd-prefix")
    return f"{ELECTIONS}/leader{settings.etcd.prefix}/{settings.owner_id}".encode()


def corefile(settings: Settings) -> CorefileSettings:
    """Settings of the Corefile for these keys.

    :raises SettingsError: SkyDNS, which has no Corefile, reads the keys.
    """
    if _skydns_reads(settings):
        raise SettingsError("SkyDNS has no Corefile; --skydns-config true writes its settings to etcd")
    etcd, serve, published = settings.etcd, settings.corefile, publishing(settings)
    others = zone_names(settings)
    return CorefileSettings(
        settings.domain,
        etcd_servers=etcd.servers or Etcd().servers,
        etcd_prefix=etcd.prefix,
        etcd_cafile=etcd.cafile or "",
        etcd_cert=etcd.cert or "",
        etcd_key=etcd.key or "",
        etcd_user=etcd.user or "",
        listen=str(serve.dns_listen),
        upstream=serve.upstream,
        cache=serve.cache,
        health=_listen(serve.health_listen),
        ready=_listen(serve.ready_listen),
        prometheus=_listen(serve.metrics_listen),
        ttl=settings.ttl,
        pods=settings.pods,
        cluster=published.cluster_zone,
        subzones=tuple(_subzones(published)),
        # A zone that also holds the cluster's objects already has its own, more specific server block.
        external=tuple(zone for zone in zones_of(settings.domains, others) if zone not in others),
        reverse=REVERSE if published.cluster_zone or published.vm.reverse else (),
    )


def _listen(address: HostPort | None) -> str:
    return str(address) if address is not None else ""
