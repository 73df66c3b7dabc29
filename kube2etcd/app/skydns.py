"""From settings to the parts that differ for classic SkyDNS.  Connects to nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kube2etcd.errors import SettingsError
from kube2etcd.settings import HostPort, Settings
from skydns_compat.layout import Layout

if TYPE_CHECKING:
    from kube2etcd.inspect.explain import Reads
    from skydns_compat.layout_skydns import ServerSettings


def _is_reader(settings: Settings) -> bool:
    """The v2 API has no other reader."""
    return settings.etcd.api == "v2"


def layout(settings: Settings) -> Layout:
    """The keys as CoreDNS reads them, or as SkyDNS does."""
    if _is_reader(settings):
        from skydns_compat.layout_skydns import SkydnsLayout

        empty = ("svc", "dns") if pods(settings) == "disabled" else ("svc", "dns", "pod")
        return SkydnsLayout(settings.etcd.prefix, settings.owner_id, _server(settings), empty)
    return Layout(settings.etcd.prefix, settings.owner_id)


def pods(settings: Settings) -> str:
    """Which pods have names: SkyDNS computes none, so `insecure` is no choice."""
    return "disabled" if _is_reader(settings) and settings.pods == "insecure" else settings.pods


def reads(settings: Settings) -> Reads | None:
    """How SkyDNS reads keys; None where CoreDNS is the reader."""
    if not _is_reader(settings):
        return None
    from kube2etcd.inspect.skydns import SkyDns

    return SkyDns(settings.domain, settings.etcd.prefix)


def check_corefile(settings: Settings) -> None:
    """A Corefile is CoreDNS's."""
    if _is_reader(settings):
        raise SettingsError("SkyDNS has no Corefile; --skydns-config true writes its settings to etcd")


def _server(settings: Settings) -> ServerSettings | None:
    """SkyDNS's own settings, with ``--skydns-config``."""
    given = settings.skydns
    if not given.config:
        return None
    from skydns_compat.layout_skydns import ServerSettings

    listen = given.dns_addr
    if listen is not None and not listen.host:
        # SkyDNS needs an address.
        listen = HostPort("0.0.0.0", listen.port)
    return ServerSettings(
        f"{settings.domain}.",
        f"hostmaster.{settings.domain}.",
        str(listen or ""),
        tuple(map(str, given.nameservers)),
        settings.ttl,
        given.min_ttl or settings.ttl,
    )
