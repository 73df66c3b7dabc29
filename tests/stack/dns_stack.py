"""A bridge with further zones, and CoreDNS with the matching Corefile."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.stack.bridge import config_option
from tests.stack.coredns import coredns_for, rdata_or_rcode
from tests.stack.harness import ApiServer, Bridge, CoreDns, Etcd, Object
from tests.stack.process import Context

#: What the fixture ``start_stack`` is: options and settings in, a bridge and its CoreDNS out.
StartStack = Callable[..., "BridgeStack"]


class DnsStack(Context):
    """A writer of keys and the CoreDNS that reads them."""

    writer: Bridge
    dns: CoreDns

    def start(self) -> None:
        """Start both, and wait until all keys are written."""
        self.writer.start()
        self.dns.start()
        self.writer.wait_ready()

    def kill(self) -> None:
        self.writer.kill()
        self.dns.kill()

    def ask(self, name: str, rtype: str = "A", *, tcp: bool = False) -> list[str]:
        """The answer's data in its order, or NODATA, or the code."""
        return rdata_or_rcode(self.dns.ask(name, rtype, tcp))

    def expect(self, name: str, rtype: str, *answer: str, deadline_s: float = 15.0) -> None:
        """Wait for this answer; the order means nothing."""
        self.dns.expect(name, rtype, *answer, deadline_s=deadline_s, writer=self.writer)


class BridgeStack(DnsStack):
    """A bridge and its CoreDNS with the same settings; ``dns_options`` are those of ``corefile`` alone."""

    def __init__(
        self,
        directory: Path,
        binaries: Mapping[str, Path],
        api: ApiServer,
        etcd: Etcd,
        options: Sequence[str] = (),
        config: Mapping[str, Any] | None = None,
        dns_options: Sequence[str] = (),
    ) -> None:
        self.etcd = etcd
        options = ["--etcd-server", etcd.url, *options, *config_option(directory, config)]
        self.options = options
        self.bridge = self.writer = Bridge(
            directory, [*options, "--kubeconfig", str(api.kubeconfig())], name="bridge"
        )
        self.dns = coredns_for(directory, binaries, *options, *dns_options)


def relabel(api: ApiServer, one: Object) -> None:
    """Replace labels and annotations of an object; None removes one.

    `KubeClient.apply` cannot do this to a Service with an address: its address is checked before its name.
    """
    metadata = {part: one["metadata"].get(part, {}) for part in ("labels", "annotations")}
    path = api.path(one["apiVersion"], one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"])
    api.patch(path, {"metadata": metadata})
