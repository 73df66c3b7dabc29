"""A real CoreDNS, queried over UDP and TCP."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype

from tests.stack.bridge import kube2etcd
from tests.stack.process import LOOPBACK, Process, Server, free_port, wait_for

#: Disables CoreDNS listeners whose default ports may be in use.
NO_LISTENERS = ("--health-listen", "", "--ready-listen", "", "--metrics-listen", "")

UPSTREAM = """
.:PORT {
    bind ADDRESS
    template IN A NAME {
        answer "{{ .Name }} 60 IN A 192.0.2.80"
    }
    template IN AAAA NAME {
        answer "{{ .Name }} 60 IN AAAA 2001:db8::80"
    }
    template ANY ANY NAME {
        rcode NOERROR
        authority "NAME. 60 IN SOA ns.example.com. hostmaster.example.com. 1 7200 1800 86400 60"
    }
    template ANY ANY . {
        rcode NXDOMAIN
        authority ". 60 IN SOA ns.example.com. hostmaster.example.com. 1 7200 1800 86400 60"
    }
}
"""


def upstream_corefile(name: str = "example.com", *, at: str = LOOPBACK, port: str = "{port}") -> str:
    """The Corefile of an upstream that serves only ``name`` and the names below it."""
    return UPSTREAM.replace("NAME", name).replace("ADDRESS", at).replace("PORT", port)


def plugin_corefile(
    access: str, *beside: str, zones: str = "", pods: str = "insecure", within: str = ""
) -> str:
    """A Corefile with CoreDNS's kubernetes plugin, as in most clusters.

    ``access`` is the plugin's line about the API server, ``within`` one more line in its block, ``beside``
    lines outside the block.
    """
    own = [access, f"pods {pods}", "ttl 30", within]
    block = [f"kubernetes cluster.local {zones} in-addr.arpa ip6.arpa {{", *own, "}"]
    return "\n".join([".:{port} {", f"bind {LOOPBACK}", "errors", *beside, *block, "}", ""])


def rdata_or_rcode(message: dns.message.Message) -> list[str]:
    """The answer's rdata in order, NODATA, or the rcode."""
    if message.rcode() != dns.rcode.NOERROR:
        return [dns.rcode.to_text(message.rcode())]
    return [item.to_text() for rrset in message.answer for item in rrset] or ["NODATA"]


def ask(
    name: str, rdtype: str, port: int, *, at: str = LOOPBACK, tcp: bool = False, timeout: float = 5.0
) -> dns.message.Message:
    """Send one query; a truncated answer is retried over TCP, as resolvers do."""
    question = dns.message.make_query(name, rdtype)
    if tcp:
        return dns.query.tcp(question, at, timeout=timeout, port=port)
    return dns.query.udp_with_fallback(question, at, timeout=timeout, port=port)[0]


def corefile(port: int, *options: str) -> str:
    """The output of ``kube2etcd corefile``, by default without upstream, cache and other listeners."""
    listen = ("--dns-listen", f"{LOOPBACK}:{port}", "--upstream", "none", "--cache", "0")
    return kube2etcd("corefile", *listen, *NO_LISTENERS, *options)


def coredns_for(
    directory: Path, binaries: Mapping[str, Path], *options: str, name: str = "coredns"
) -> CoreDns:
    """CoreDNS with the Corefile that kube2etcd writes for these options."""
    port = free_port()
    return CoreDns(directory, binaries, corefile(port, *options), port=port, name=name)


class CoreDns(Server):
    """One CoreDNS; ``{port}`` in the Corefile stands for its port. Without a text something else writes it.

    The Corefile must listen on loopback. It is up with its first answer of any kind; tests that need a plugin
    to be ready wait for the answer.
    """

    def __init__(
        self,
        directory: Path,
        binaries: Mapping[str, Path],
        corefile_text: str | None,
        *,
        port: int | None = None,
        name: str = "coredns",
    ) -> None:
        self.port = port or free_port()
        self.address = (LOOPBACK, self.port)
        self.corefile = directory / f"{name}.Corefile"
        directory.mkdir(parents=True, exist_ok=True)
        if corefile_text is not None:
            self.corefile.write_text(corefile_text.replace("{port}", str(self.port)))
        command = [str(binaries["coredns"]), "-conf", str(self.corefile)]
        super().__init__(name, command, directory)

    def is_up(self) -> bool:
        try:
            self.ask("up.invalid.", timeout=0.5)
        except dns.exception.Timeout:
            return False
        return True

    def ask(
        self, name: str, rdtype: str = "A", tcp: bool = False, *, timeout: float = 5.0
    ) -> dns.message.Message:
        return ask(name, rdtype, self.port, tcp=tcp, timeout=timeout)

    def expect(
        self, name: str, rtype: str, *answer: str, deadline_s: float = 15.0, writer: Process | None = None
    ) -> None:
        """Wait for this answer, in any order; fails at once when ``writer`` exits, which writes the keys."""

        def matches() -> bool:
            seen = rdata_or_rcode(self.ask(name, rtype))
            assert sorted(seen) == sorted(answer), f"{name} {rtype}: {seen}, not {list(answer)}"
            return True

        processes = (self, *([writer] if writer else []))
        wait_for(matches, f"{name} {rtype}", deadline_s, *processes)

    def addresses(self, name: str, rdtype: str = "A") -> list[str]:
        """The rdata of this type in the answer, sorted."""
        answer = self.ask(name, rdtype)
        wanted = dns.rdatatype.from_text(rdtype)
        return sorted(item.to_text() for rrset in answer.answer if rrset.rdtype == wanted for item in rrset)
