"""5,000 names from ExternalDNS in one request: seconds until CoreDNS and the hosts file have them all.

They are posted with their registry TXT records, then one more: to ``kube2etcd webhook`` with etcd and a hosts
file, and to ``kube2etcd run --webhook`` with its state in objects. In each round the stock etcd3 client
writes the same keys to the same etcd, one by one, as many providers do.
"""

import contextlib
import random
import time
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from kube2etcd.etcd import wire
from tests.bench.measure import Bench, DnsClient, Row
from tests.stack.coredns import coredns_for
from tests.stack.harness import LOOPBACK, ApiServer, Etcd, wait_for
from tests.stack.webhook import JSON, KEYS, Webhook, a, hosts_block, ownership_txt

DOMAIN = "dtk.io"
COUNT = 5000


def names(bench: Bench) -> Iterator[Row]:
    """Seconds for all, for one more, and the ratio to the stock client."""
    with bench.apiserver() as api:
        where = ["--kubeconfig", str(api.kubeconfig()), "--dns-endpoints", "--state-objects", "default"]
        for command, options in (("webhook", []), ("run", where)):
            rounds = [run_round(bench, api, command, options) for _ in range(bench.rounds)]
            many, one, stock = (median(each) for each in zip(*rounds, strict=True))
            bench.log(f"{COUNT:,} names, {command}: {many:.2f} s, one more {one:.2f}, stock {stock:.2f}")
            what, details = f"{COUNT:,} names in one call to `{command}`", {"rounds": rounds}
            yield Row(what, "", many, 10.0, "s", details=details)
            yield Row(f"{what}, one more", "", one, 1.0, "s")
            yield Row(f"{what}, their keys", "the stock client, one by one", many / stock, 1.0)


def run_round(
    bench: Bench, api: ApiServer, command: str, options: Sequence[str]
) -> tuple[float, float, float]:
    folder = bench.folder()
    hosts = folder / "hosts"
    hosts.write_text("127.0.0.1 localhost\n")
    for one in api.list("externaldns.k8s.io/v1alpha1", "DNSEndpoint"):
        api.delete(one)
    with contextlib.ExitStack() as exits:
        etcd = exits.enter_context(bench.etcd())
        to_etcd = ["--domains", DOMAIN, "--etcd-server", etcd.url]
        own = [*to_etcd, "--hosts-file", str(hosts), *options]
        webhook = exits.enter_context(Webhook(folder, own, command=command))
        dns_server = exits.enter_context(coredns_for(folder, bench.programs, *to_etcd))
        webhook.wait_ready()

        def post(create: list[JSON], lines: int) -> float:
            asked = [f"{one['dnsName']}." for one in create]
            random.Random(1).shuffle(asked)
            began = time.monotonic()
            assert webhook.apply(create=[each for one in create for each in (one, ownership_txt(one))]) == 204
            wait_for(lambda: len(hosts_block(hosts)) == lines, "the hosts file", 120, webhook)
            written = time.monotonic()
            with contextlib.closing(DnsClient(dns_server.port)) as client:
                return max(written, client.until_all(asked)) - began

        many = post([a(f"n{at}.{DOMAIN}", f"10.1.{at // 250}.{at % 250}") for at in range(COUNT)], COUNT)
        return many, post([a(f"more.{DOMAIN}", "10.2.0.1")], COUNT + 1), stock_client_seconds(etcd)


def stock_client_seconds(etcd: Etcd) -> float:
    entries = [(f"/stock{key}", value) for key, value in etcd.dump(KEYS).items()]
    wire.install()
    import etcd3

    client: Any = etcd3.client(host=LOOPBACK, port=etcd.port, timeout=10)
    with contextlib.closing(client):
        began = time.monotonic()
        for key, value in entries:
            client.put(key, value)
        return time.monotonic() - began
