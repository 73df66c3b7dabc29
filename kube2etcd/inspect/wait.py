"""Ask a DNS server for a name until its answer is the one that is waited for."""

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

PAUSE: Final = 0.5
"""Seconds between two questions."""

PATIENCE: Final = 2.0
"""Seconds for one answer."""

PRESENT: Final = "present"
ABSENT: Final = "absent"


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server said: its response code, and the data of the type that was asked for."""

    rcode: str
    """``NOERROR``, ``NXDOMAIN``, ``SERVFAIL`` …; empty where nothing came."""
    data: tuple[str, ...] = ()
    trouble: str = ""
    """Why nothing came."""
    records: tuple[str, ...] = ()
    """The whole answer section: lines of a zone file."""

    def satisfies(self, wanted: str) -> bool:
        """Whether it is ``present`` (has data), ``absent`` (has none, RFC 2308), or has this very data.

        Data are compared as text, in any letter case, with or without a final dot.  A server that fails or
        does not answer says neither.
        """
        if wanted == ABSENT:
            return self.rcode == "NXDOMAIN" or (self.rcode == "NOERROR" and not self.data)
        if wanted == PRESENT:
            return bool(self.data)
        return _plain(wanted) in map(_plain, self.data)

    def __str__(self) -> str:
        return self.trouble or ", ".join(self.data) or (self.rcode if self.rcode != "NOERROR" else "NODATA")


def canonical(wanted: str, rtype: str) -> str:
    """``present`` and ``absent`` as they are; data of a type in the form in which answers show them.

    Text that is no data of the type, such as a TXT without its quotes, stays as it is.
    """
    if wanted in (PRESENT, ABSENT):
        return wanted
    try:
        return dns.rdata.from_text("IN", rtype, wanted).to_text()
    except dns.exception.DNSException:
        return wanted


def _plain(text: str) -> str:
    return text.strip().lower().removesuffix(".")


def ask(name: Name, rtype: str, server: HostPort) -> Reply:
    """One question to ``server``, by UDP, and by TCP where the answer was cut."""
    query = dns.message.make_query(f"{name}.", rtype)
    question, wanted = query.question[0].name, query.question[0].rdtype
    try:
        response, _ = dns.query.udp_with_fallback(query, server.host, timeout=PATIENCE, port=server.port)
    except (OSError, dns.exception.DNSException) as error:
        return Reply("", trouble=f"no answer from {server}: {error or type(error).__name__}")
    assert isinstance(response, dns.message.QueryMessage)
    owners = {question}
    with suppress(dns.exception.DNSException):  # aliases in a circle, or an error without the question
        owners.add(response.resolve_chaining().canonical_name)
    data = tuple(
        str(item)
        for rrset in response.answer
        if wanted in (rrset.rdtype, dns.rdatatype.ANY)
        # CoreDNS answers with the SOA of the apex to names below it.
        if rrset.name in owners or (rrset.rdtype == dns.rdatatype.SOA and question.is_subdomain(rrset.name))
        for item in rrset
    )
    records = tuple(line for rrset in response.answer for line in rrset.to_text().splitlines())
    return Reply(dns.rcode.to_text(response.rcode()), data, records=records)


def resolv_conf() -> HostPort:
    """The first server of /etc/resolv.conf.

    :raises SettingsError: there is none.
    """
    try:
        found = dns.resolver.Resolver().nameservers
    except dns.resolver.NoResolverConfiguration:
        found = []
    if not found:
        raise SettingsError("/etc/resolv.conf names no DNS server; write --server IP[:PORT]")
    return HostPort(str(found[0]), 53)


def wait(
    asked: Callable[[], Reply],
    wanted: str,
    timeout: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[bool, Reply]:
    """Ask every `PAUSE` seconds for ``timeout`` seconds; whether the answer came, and the last one."""
    deadline = clock() + timeout
    while True:
        answer = asked()
        if answer.satisfies(wanted):
            return True, answer
        left = deadline - clock()
        if left <= 0:
            return False, answer
        sleep(min(PAUSE, left))
