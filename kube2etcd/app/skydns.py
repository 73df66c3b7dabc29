"""From settings to the parts that are different for classic SkyDNS.  Builds values, connects to nothing."""

from __future__ import annotations

from collections.abc import Mapping

from kube2etcd.errors import SettingsError
from kube2etcd.inspect.explain import Asked, Reads
from kube2etcd.settings import HostPort, Settings
from skydns_compat.layout import Layout
from skydns_compat.layout_skydns import ServerSettings, SkydnsLayout
from skydns_compat.names import Name
from skydns_compat.reader import Answer
from skydns_compat.reader_skydns import skydns_answer


def is_meant(settings: Settings) -> bool:
    """Whether SkyDNS reads the keys: the v2 API has no other reader."""
    return settings.etcd.api == "v2"


def layout(settings: Settings) -> Layout:
    """Where the keys are: as CoreDNS reads them, or as SkyDNS does."""
    if is_meant(settings):
        empty = ("svc", "dns") if pods(settings) == "disabled" else ("svc", "dns", "pod")
        return SkydnsLayout(settings.etcd.prefix, settings.owner_id, _server(settings), empty)
    return Layout(settings.etcd.prefix, settings.owner_id)


def pods(settings: Settings) -> str:
    """Which pods have names: SkyDNS computes no answer, so what no key is for does not exist."""
    return "disabled" if is_meant(settings) and settings.pods == "insecure" else settings.pods


def reads(settings: Settings) -> Reads | None:
    """How SkyDNS reads keys; None where CoreDNS is the reader."""
    if not is_meant(settings):
        return None

    def read(keys: Mapping[bytes, bytes]) -> Asked:
        def asked(name: Name, rtype: str) -> Answer:
            return skydns_answer(keys, settings.domain, name, rtype, prefix=settings.etcd.prefix)

        return asked

    return read


def check_corefile(settings: Settings) -> None:
    """A Corefile is CoreDNS's."""
    if is_meant(settings):
        raise SettingsError("SkyDNS has no Corefile; --skydns-config true writes its settings to etcd")


def _server(settings: Settings) -> ServerSettings | None:
    """SkyDNS's own settings, where they are to be written."""
    given = settings.skydns
    if not given.config:
        return None
    listen = given.dns_addr
    if listen is not None and not listen.host:
        # SkyDNS wants an address there.
        listen = HostPort("0.0.0.0", listen.port)
    return ServerSettings(
        settings.domain,
        settings.ttl,
        given.min_ttl or settings.ttl,
        str(listen or ""),
        tuple(map(str, given.nameservers)),
    )
