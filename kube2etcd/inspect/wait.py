"""Query a DNS server until it gives the expected answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.resolver

from kube2etcd.errors import SettingsError
from kube2etcd.settings import HostPort
from skydns_compat.names import Name

#: Seconds between two queries.
PAUSE: Final = 0.5
#: Seconds to wait for a response.
PATIENCE: Final = 2.0

PRESENT: Final = "present"
ABSENT: Final = "absent"


@dataclass(frozen=True, slots=True)
class ServerReply:
    """A response: its code, and the data of the queried type."""

    rcode: str
    """``NOERROR``, ``NXDOMAIN``, ``SERVFAIL`` …; empty without a response."""
    data: tuple[str, ...] = ()
    trouble: str = ""
    """Why there was no response."""
    records: tuple[str, ...] = ()
    """The whole answer section, as lines of a zone file."""

    def satisfies(self, wanted: str) -> bool:
        """Whether it has data (``present``), none (``absent``, RFC 2308), or the very data ``wanted``.

        Data is compared as text, ignoring case and a final dot.  An error or a timeout is neither ``present``
        nor ``absent``.
        """
        if wanted == ABSENT:
            return self.rcode == "NXDOMAIN" or (self.rcode == "NOERROR" and not self.data)
        if wanted == PRESENT:
            return bool(self.data)
        return _plain(wanted) in map(_plain, self.data)

    def __str__(self) -> str:
        return self.trouble or ", ".join(self.data) or (self.rcode if self.rcode != "NOERROR" else "NODATA")


def canonical(wanted: str, rtype: str) -> str:
    """``wanted`` in the form of answers' data, such as a compressed IPv6 address.

    ``present``, ``absent``, and text that is not valid data of the type, stay as they are.
    """
    if wanted in (PRESENT, ABSENT):
        return wanted
    try:
        return dns.rdata.from_text("IN", rtype, wanted).to_text()
    except dns.exception.DNSException:
        return wanted


def _plain(text: str) -> str:
    return text.strip().lower().removesuffix(".")


def ask(name: Name, rtype: str, server: HostPort) -> ServerReply:
    """Query ``server`` once: over UDP, and over TCP if the response is truncated."""
    query = dns.message.make_query(f"{name}.", rtype)
    question, wanted = query.question[0].name, query.question[0].rdtype
    try:
        response, _ = dns.query.udp_with_fallback(query, server.host, timeout=PATIENCE, port=server.port)
    except (OSError, dns.exception.DNSException) as error:
        return ServerReply("", trouble=f"no answer from {server}: {error or type(error).__name__}")
    assert isinstance(response, dns.message.QueryMessage)
    owners = {question}
    with suppress(dns.exception.DNSException):  # a CNAME loop, or an error without a question section
        owners.add(response.resolve_chaining().canonical_name)
    data = tuple(
        str(item)
        for rrset in response.answer
        if wanted in (rrset.rdtype, dns.rdatatype.ANY)
        # CoreDNS answers SOA queries below the apex with the SOA of the apex.
        if rrset.name in owners or (rrset.rdtype == dns.rdatatype.SOA and question.is_subdomain(rrset.name))
        for item in rrset
    )
    records = tuple(line for rrset in response.answer for line in rrset.to_text().splitlines())
    return ServerReply(dns.rcode.to_text(response.rcode()), data, records=records)


def resolv_conf() -> HostPort:
    """The first server of /etc/resolv.conf.

    :raises SettingsError: it has none.
    """
    try:
        found = dns.resolver.Resolver().nameservers
    except dns.resolver.NoResolverConfiguration:
        found = []
    if not found:
        raise SettingsError("/etc/resolv.conf has no DNS server; write --server IP[:PORT]")
    return HostPort(str(found[0]), 53)


def wait(
    asked: Callable[[], ServerReply],
    wanted: str,
    timeout: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[bool, ServerReply]:
    """Query every `PAUSE` seconds for ``timeout`` seconds; whether a reply satisfied, and the last reply."""
    deadline = clock() + timeout
    while True:
        answer = asked()
        if answer.satisfies(wanted):
            return True, answer
        left = deadline - clock()
        if left <= 0:
            return False, answer
        sleep(min(PAUSE, left))
