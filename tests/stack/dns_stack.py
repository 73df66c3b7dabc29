"""A writer of keys and the CoreDNS that reads them, with the same settings."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.stack.bridge import config_option
from tests.stack.coredns import coredns_for, rdata_or_rcode
from tests.stack.harness import ApiServer, Bridge, CoreDns, Etcd, Object
from tests.stack.process import Context

#: What the fixture ``start_stack`` returns: from options and settings a bridge and its CoreDNS.
StartStack = Callable[..., "BridgeStack"]


class DnsStack(Context):
    """A process that writes keys, and the CoreDNS that reads them."""

    writer: Bridge
    dns: CoreDns

    def start(self) -> None:
        """Start both, and wait until the writer is ready."""
        self.writer.start()
        self.dns.start()
        self.writer.wait_ready()

    def kill(self) -> None:
        self.writer.kill()
        self.dns.kill()

    def ask(self, name: str, rtype: str = "A", *, tcp: bool = False) -> list[str]:
        """The answer's rdata in order, NODATA, or the rcode."""
        return rdata_or_rcode(self.dns.ask(name, rtype, tcp))

    def expect(self, name: str, rtype: str, *answer: str, deadline_s: float = 15.0) -> None:
        """Wait for this answer, in any order."""
        self.dns.expect(name, rtype, *answer, deadline_s=deadline_s, writer=self.writer)


class BridgeStack(DnsStack):
    """A bridge and its CoreDNS; ``dns_options`` are for ``corefile`` alone."""

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
    """Patch the labels and annotations of an object; None removes one.

    `KubeClient.apply` fails for a Service with a cluster IP: the API server checks that before the name.
    """
    metadata = {part: one["metadata"].get(part, {}) for part in ("labels", "annotations")}
    path = api.path(one["apiVersion"], one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"])
    api.patch(path, {"metadata": metadata})
