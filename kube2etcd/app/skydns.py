"""From settings to the parts that differ for classic SkyDNS.  Connects to nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kube2etcd.errors import SettingsError
from kube2etcd.settings import HostPort, Settings
from skydns_compat.layout import Layout
from skydns_compat.layout_skydns import CONFIG, ServerSettings, SkydnsLayout
from skydns_compat.names import Name
from skydns_compat.reader import WILDCARDS, Answer
from skydns_compat.reader_skydns import NDOTS, skydns_answer
from skydns_compat.records import Alias

if TYPE_CHECKING:
    from kube2etcd.inspect.explain import Asked, Reads
    from kube2etcd.inspect.records import Row


def _is_reader(settings: Settings) -> bool:
    """The v2 API has no other reader."""
    return settings.etcd.api == "v2"


def layout(settings: Settings) -> Layout:
    """The keys as CoreDNS reads them, or as SkyDNS does."""
    if _is_reader(settings):
        empty = ("svc", "dns") if pods(settings) == "disabled" else ("svc", "dns", "pod")
        return SkydnsLayout(settings.etcd.prefix, settings.owner_id, _server(settings), empty)
    return Layout(settings.etcd.prefix, settings.owner_id)


def pods(settings: Settings) -> str:
    """Which pods have names: SkyDNS computes none, so `insecure` is no choice."""
    return "disabled" if _is_reader(settings) and settings.pods == "insecure" else settings.pods


def reads(settings: Settings) -> Reads | None:
    """How SkyDNS reads keys; None where CoreDNS is the reader."""
    return _SkyDns(settings.domain, settings.etcd.prefix) if _is_reader(settings) else None


@dataclass(frozen=True, slots=True)
class _SkyDns:
    domain: Name
    prefix: str

    def __call__(self, keys: Mapping[bytes, bytes]) -> Asked:
        return lambda name, rtype: skydns_answer(keys, self.domain, name, rtype, prefix=self.prefix)

    def settings(self, existing: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
        """SkyDNS's settings, where they are in etcd."""
        key = f"{self.prefix}/{CONFIG}".encode()
        return {key: existing[key]} if key in existing else {}

    def reasons(self, name: Name, rtype: str, rows: Sequence[Row], answer: Answer) -> Iterator[str]:
        """Where SkyDNS differs from CoreDNS (skydns-compat/README.md)."""
        from kube2etcd.inspect.why import is_reverse

        wild = next((label for label in name.labels if label in WILDCARDS), None)
        if rtype == "ANY":
            yield "SkyDNS refuses ANY, and asks no upstream"
        elif is_reverse(name):
            yield from _about_reverse(rtype, answer)
        elif not name.below(self.domain):
            if answer.rcode == "SERVFAIL":
                yield "SkyDNS asks its upstream for names of two labels and more"
        elif rtype == "SOA" and name == self.domain:
            yield f"SkyDNS takes its values from {self.prefix}/{CONFIG} in etcd, or else its defaults"
        elif rtype == "NS" and name != self.domain:
            yield "SkyDNS answers NS below the apex whether the name exists or not"
        elif wild is not None:
            yield f"SkyDNS takes the label {wild} for any label: the answer is that of all names that match"
        elif rtype == "SRV" and any(f" 0 {name}." in one.data for one in answer.answers):
            yield "SkyDNS has an SRV with port 0 for a name without ports"
        elif rtype == "CNAME" and any(isinstance(row.record.data, Alias) for row in rows):
            yield "SkyDNS shows an alias to A and AAAA only"
        elif rtype in ("A", "AAAA"):
            yield from self._about_addresses(name, rows, answer)

    def _about_addresses(self, name: Name, rows: Sequence[Row], answer: Answer) -> Iterator[str]:
        alias = next((row.record.data for row in rows if isinstance(row.record.data, Alias)), None)
        if name.labels[0].startswith("_") and answer.answers:
            yield "SkyDNS takes the target of SRV for an alias; of several it shows one, at random"
        elif alias is None:
            return
        elif answer.answers:
            if not alias.target.below(self.domain):
                yield f"SkyDNS asks its upstream for {alias}, and leaves the alias out where that denies it"
        elif len(alias.target.labels) < NDOTS:
            yield f"SkyDNS does not ask its upstream for {alias}, a name of one label"
        else:
            yield "SkyDNS leaves out an alias that leads to no address"


def _about_reverse(rtype: str, answer: Answer) -> Iterator[str]:
    if answer.rcode != "NOERROR":
        yield "SkyDNS asks its upstream for every reverse name and type that has no PTR here"
    elif rtype != "PTR":
        yield "SkyDNS answers every type below ip6.arpa with the PTR"


def check_corefile(settings: Settings) -> None:
    """A Corefile is CoreDNS's."""
    if _is_reader(settings):
        raise SettingsError("SkyDNS has no Corefile; --skydns-config true writes its settings to etcd")


def _server(settings: Settings) -> ServerSettings | None:
    """SkyDNS's own settings, with ``--skydns-config``."""
    given = settings.skydns
    if not given.config:
        return None
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
