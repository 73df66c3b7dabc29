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

#: Switches off the listeners of CoreDNS whose default ports may be in use on this machine.
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
    """A Corefile that stands in for the rest of the world: it has this name and those below it only."""
    return UPSTREAM.replace("NAME", name).replace("ADDRESS", at).replace("PORT", port)


def plugin_corefile(
    access: str, *beside: str, zones: str = "", pods: str = "insecure", within: str = ""
) -> str:
    """A Corefile of CoreDNS's own kubernetes plugin, as most clusters run it.

    ``access`` is its line about the API server, ``within`` one more, ``beside`` lines outside of it.
    """
    own = [access, f"pods {pods}", "ttl 30", within]
    block = [f"kubernetes cluster.local {zones} in-addr.arpa ip6.arpa {{", *own, "}"]
    return "\n".join([".:{port} {", f"bind {LOOPBACK}", "errors", *beside, *block, "}", ""])


def rdata_or_rcode(message: dns.message.Message) -> list[str]:
    """The answer's data in order, NODATA, or the response code."""
    if message.rcode() != dns.rcode.NOERROR:
        return [dns.rcode.to_text(message.rcode())]
    return [item.to_text() for rrset in message.answer for item in rrset] or ["NODATA"]


def ask(
    name: str, rdtype: str, port: int, *, at: str = LOOPBACK, tcp: bool = False, timeout: float = 5.0
) -> dns.message.Message:
    """Ask one question; a truncated answer is asked for again over TCP, as resolvers do."""
    question = dns.message.make_query(name, rdtype)
    if tcp:
        return dns.query.tcp(question, at, timeout=timeout, port=port)
    return dns.query.udp_with_fallback(question, at, timeout=timeout, port=port)[0]


def corefile(port: int, *options: str) -> str:
    """What ``kube2etcd corefile`` prints, by default without upstream, cache and further listeners."""
    listen = ("--dns-listen", f"{LOOPBACK}:{port}", "--upstream", "none", "--cache", "0")
    return kube2etcd("corefile", *listen, *NO_LISTENERS, *options)


def coredns_for(
    directory: Path, binaries: Mapping[str, Path], *options: str, name: str = "coredns"
) -> CoreDns:
    """CoreDNS with the Corefile of these options."""
    port = free_port()
    return CoreDns(directory, binaries, corefile(port, *options), port=port, name=name)


class CoreDns(Server):
    """One CoreDNS with a Corefile, in which ``{port}`` stands for its port; None: something else writes it.

    The Corefile decides where it listens, which must be loopback. It counts as up with the first answer of
    any kind; a test that needs a plugin to be ready waits for the answer that it wants.
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
        """Wait for this answer, in any order; ``writer`` is the process that writes the keys."""

        def right() -> bool:
            seen = rdata_or_rcode(self.ask(name, rtype))
            assert sorted(seen) == sorted(answer), f"{name} {rtype}: {seen}, not {list(answer)}"
            return True

        processes = (self, *([writer] if writer else []))
        wait_for(right, f"{name} {rtype}", deadline_s, *processes)

    def addresses(self, name: str, rdtype: str = "A") -> list[str]:
        """The data of the answer's records of this type, sorted."""
        answer = self.ask(name, rdtype)
        wanted = dns.rdatatype.from_text(rdtype)
        return sorted(item.to_text() for rrset in answer.answer if rrset.rdtype == wanted for item in rrset)
