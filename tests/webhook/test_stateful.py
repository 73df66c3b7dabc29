"""Calls, restarts, kills and failures in any order agree with a simple model."""

from typing import Any, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kube2etcd.app import build
from kube2etcd.etcd import KeyStore
from kube2etcd.external import Domain
from kube2etcd.kube.objects import DnsEndpoint, Metadata
from kube2etcd.kube.store import Store
from kube2etcd.metrics import Metrics, Status
from kube2etcd.settings import Settings
from kube2etcd.sync.events import EventQueue
from kube2etcd.sync.publisher import Publisher
from kube2etcd.sync.reconciler import Parts, Reconciler
from kube2etcd.webhook.app import KIND, Feed
from kube2etcd.webhook.hosts import HostsBlock
from skydns_compat.layout import Layout
from skydns_compat.names import Address
from tests.sync.loop import Entries
from tests.webhook.fakes import Client, a, alias

NAMES = ["a.dtk.io", "b.dtk.io", "x.y.dtk.io", "dtk.io", "c.late.io"]
ENDPOINTS = st.one_of(
    st.builds(
        lambda name, number, sid: a(name, f"10.0.0.{number}", **({"setIdentifier": sid} if sid else {})),
        st.sampled_from([*NAMES, "out.example", "A.dtk.io."]),
        st.integers(1, 3),
        st.sampled_from(["", "s"]),
    ),
    st.builds(alias, st.sampled_from(NAMES), st.sampled_from([*NAMES, "else.example"])),
)
LISTS = st.lists(ENDPOINTS, max_size=4)


def plain(name: str) -> str:
    return name.lower().removesuffix(".")


def key_of(one: Any) -> tuple[str, str, str]:
    return plain(one["dnsName"]), one["recordType"], one.get("setIdentifier", "")


def publisher(domains: tuple[Domain, ...], cluster: tuple[Address, ...]) -> Publisher:
    zones = build.external_zones(Settings(), domains, cluster)
    return Publisher(Store(), Layout("/skydns", "me"), None, zones)


class Calls(RuleBasedStateMachine):
    """The model: endpoints by key, domains, and the cluster address."""

    @initialize()
    def initialize_model(self) -> None:
        self.model: dict[tuple[str, str, str], Any] = {}
        self.domains = ["dtk.io"]
        self.cluster = ""
        self.etcd = Entries()
        self.client = Client()
        self.start()

    def start(self) -> None:
        """A new process also starts a new loop."""
        self.queue = EventQueue()
        self.client = Client(self.client.store, self.client.hosts, feed=Feed(Settings(), self.queue))
        self.reconciler = Reconciler(
            Parts(
                publisher=publisher((), ()),
                etcd=cast(KeyStore, self.etcd),
                queue=self.queue,
                kinds=[KIND],
                relist=lambda _reason: self.client.provider.relist(),
                follow=lambda revision: 0,
                metrics=Metrics(),
                status=Status(),
            )
        )

    def settle(self) -> None:
        """Run turns of the loop and repairs until nothing changes."""
        for _ in range(3):
            self.reconciler.turn(self.queue.drain(0))
            self.client.provider.repair()

    def is_managed(self, name: str) -> bool:
        return any(plain(name) == one or plain(name).endswith(f".{one}") for one in self.domains)

    def update_model(self, create: list[Any], update: list[Any], delete: list[Any]) -> None:
        for one in delete:
            self.model.pop(key_of(one), None)
        for one in update + create:
            if self.is_managed(one["dnsName"]):
                self.model[key_of(one)] = one

    @rule(create=LISTS, update=LISTS, delete=LISTS)
    def apply(self, create: list[Any], update: list[Any], delete: list[Any]) -> None:
        assert self.client.apply(create=create, updateNew=update, delete=delete) == 204
        self.update_model(create, update, delete)

    @rule(create=LISTS, delete=LISTS)
    def apply_during_an_outage_of_the_store(self, create: list[Any], delete: list[Any]) -> None:
        self.client.store.outage = "unavailable"
        assert self.client.apply(create=create, delete=delete) in (204, 503)
        self.client.store.outage = ""

    @rule(create=LISTS, delete=LISTS)
    def apply_and_lose_the_response_of_the_store(self, create: list[Any], delete: list[Any]) -> None:
        self.client.store.lose_responses = True
        self.client.apply(create=create, delete=delete)
        self.client.store.lose_responses = False
        self.client.provider.repair()

    @rule(create=LISTS, delete=LISTS)
    def apply_while_the_hosts_file_is_read_only(self, create: list[Any], delete: list[Any]) -> None:
        self.client.hosts.outage = "read-only"
        if self.client.apply(create=create, delete=delete) == 204:
            self.update_model(create, [], delete)
        self.client.hosts.outage = ""

    @rule()
    def restart(self) -> None:
        self.start()

    @rule()
    def kill_during_a_call(self) -> None:
        """Saved but not acknowledged: it may or may not exist after the restart."""
        one = a("killed.dtk.io")
        self.client.hosts.outage = "killed"
        real, calls = self.client.store.save, [self.client.store.save]
        self.client.store.save = lambda *given: calls.pop()(*given) if calls else None  # type: ignore[method-assign]
        self.client.apply(create=[one])
        self.client.store.save = real  # type: ignore[method-assign]
        self.client.hosts.outage = ""
        self.start()
        self.update_model([one], [], [])

    @rule()
    def late_domain(self) -> None:
        assert self.client.call("POST", "/domains", b"late.io").status_code == 200
        if "late.io" not in self.domains:
            self.domains.append("late.io")

    @rule(address=st.sampled_from(["192.0.2.1", "192.0.2.1,fd00::1"]))
    def cluster_address(self, address: str) -> None:
        assert self.client.call("POST", "/clusterip", address.encode()).status_code == 200
        self.cluster = address

    @rule(which=st.integers(0, 5))
    def lose_keys(self, which: int) -> None:
        for key in sorted(self.etcd.entries)[which::6]:
            del self.etcd.entries[key]
        self.reconciler.target.mirror.lost = True
        self.reconciler.target.retry_at = 0

    def _resolve(self, name: str, seen: frozenset[str] = frozenset()) -> list[str] | None:
        """Addresses; empty for an alias without a known address; None without address or alias."""
        records = [one for (owner, _, _), one in sorted(self.model.items()) if owner == name]
        direct = sorted({target for one in records if one["recordType"] == "A" for target in one["targets"]})
        if direct:
            return direct
        aliases = [plain(one["targets"][0]) for one in records if one["recordType"] == "CNAME"]
        if not aliases or name in seen:
            return None if not aliases else []
        return self._resolve(aliases[0], seen | {name}) or []

    @invariant()
    def records_keys_and_hosts_block_agree_with_the_model(self) -> None:
        if not hasattr(self, "client"):
            return
        assert sorted(self.client.records(), key=key_of) == sorted(self.model.values(), key=key_of)
        expected = []
        for name in sorted({owner for owner, _, _ in self.model}):
            found = self._resolve(name)
            if found is not None:
                addresses = found or [one for one in self.cluster.split(",") if one]
                expected += [(name, address) for address in addresses]
        assert self.client.hosts.lines == expected
        content = HostsBlock().rewrite(b"127.0.0.1 localhost\n", expected, lambda _: True).content
        assert content.count(b"\n") == 1 + (len(expected) + 2 if expected else 0)
        self.settle()
        assert self.etcd.entries == self.reconciler.publisher.desired
        assert self.reconciler.target.equal
        names, current = self.client.published[-1]
        fresh = publisher(current.domains, current.cluster)
        fresh.refresh(
            fresh.store.replace(KIND, [DnsEndpoint(Metadata("", name), some) for name, some in names.items()])
        )
        assert self.etcd.entries == fresh.desired


TestCalls = Calls.TestCase
TestCalls.settings = settings(stateful_step_count=25, max_examples=settings().max_examples // 2)
