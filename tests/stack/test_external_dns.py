"""The real ExternalDNS with our webhook as its provider: names in CoreDNS and in a hosts file."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from kube2etcd.kube.wire import ENDPOINTS, unpack
from tests.stack.bridge import Bridge, call, kube2etcd
from tests.stack.coredns import coredns_for
from tests.stack.dns_stack import DnsStack
from tests.stack.external_dns import ExternalDns, ingress
from tests.stack.faults import args
from tests.stack.harness import ApiServer, Binaries, Etcd, free_port, wait_for
from tests.stack.objects import dns_endpoint, dns_endpoint_crd, endpoint, service
from tests.stack.webhook import Webhook, a, cname, ownership_txt

DOMAINS = ("--domains", "dtk.io,mydomain.io")
CLUSTER_IP = "192.168.122.167"
FOREIGN_LINE = "127.0.0.1 localhost # stays"


class WebhookStack(DnsStack):
    """Our webhook, CoreDNS with our Corefile, and ExternalDNS, which calls the webhook.

    With ``options`` it is the bridge's webhook: ``kube2etcd run --webhook``.
    """

    def __init__(
        self,
        directory: Path,
        binaries: Binaries,
        api: ApiServer,
        etcd: Etcd,
        options: Sequence[str] | None = None,
    ) -> None:
        self.etcd, self.hosts = etcd, directory / "hosts"
        directory.mkdir(exist_ok=True)
        self.hosts.write_text(FOREIGN_LINE)
        kubeconfig = ["--kubeconfig", str(api.kubeconfig())]
        own = [*DOMAINS, "--cluster-ip", CLUSTER_IP, "--etcd-server", etcd.url]
        #: Options of other commands for the same names.
        self.command_options = [*own, "--webhook", *kubeconfig]
        own += ["--hosts-file", str(self.hosts)]
        if options is not None:
            own += [*kubeconfig, *options]
        command = "webhook" if options is None else "run"
        self.webhook = self.writer = Webhook(directory, own, command=command)
        self.dns = coredns_for(directory, binaries, *DOMAINS, "--etcd-server", etcd.url)
        provider = ["--provider=webhook", f"--webhook-provider-url={self.webhook.provider_url}"]
        self.external_dns = ExternalDns(directory, binaries, api, provider)

    def kill(self) -> None:
        self.external_dns.kill()
        super().kill()

    def hosts_lines(self) -> list[str]:
        text = self.hosts.read_text()
        assert text.startswith(FOREIGN_LINE)
        found = re.search("# BEGIN kube2etcd.*?\n(.*?)# END kube2etcd", text, re.DOTALL)
        pairs = [line.split() for line in found[1].splitlines()] if found else []
        return sorted(f"{name} {address}" for address, name in pairs)

    def up_to_date(self, *options: str) -> None:
        """Assert that another sync of ExternalDNS has nothing to do and writes nothing."""
        wait_for(self.webhook.ready, "the webhook to be equal", 10)
        before = self.etcd.revision(), self.hosts.read_bytes()
        log = self.external_dns.run_once(*options)
        assert "All records are already up to date" in log
        assert (self.etcd.revision(), self.hosts.read_bytes()) == before


#: Keep the webhook's state in DNSEndpoints.
STATE_IN_OBJECTS = ("--dns-endpoints", "--state-objects", "default")


@pytest.fixture
def stack(binaries: Binaries, tmp_path: Path, apiserver: ApiServer, etcd: Etcd) -> Iterator[WebhookStack]:
    one = WebhookStack(tmp_path, binaries, apiserver, etcd)
    yield one
    one.kill()


INGRESSES = [
    ingress("a", "foo.dtk.io", "deep.down.foo.dtk.io", to=["10.0.0.5"]),
    ingress("dual", "v6.dtk.io", to=["10.0.0.5", "2001:db8:0:0::5"], ttl="120"),
    ingress("alias", "alias.dtk.io", to=["foo.dtk.io"]),
    ingress("apex", "dtk.io", to=["10.0.0.1"]),
    ingress("wild", "*.wild.dtk.io", to=["10.0.0.9"]),
    ingress("itself", "self.dtk.io", to=["10.0.0.9"], target="self.dtk.io"),
    ingress("set1", "ps.dtk.io", to=["10.0.0.21"], set_identifier="one"),
    ingress("set2", "ps.dtk.io", to=["10.0.0.22"], set_identifier="two"),
    ingress("out", "out.evil-dtk.io", "www.example.org", to=["10.0.0.9"]),
    ingress("other", "x.mydomain.io", to=["outside.example.org"]),
]
ANSWERS = [
    ("dtk.io", "A", "10.0.0.1"),
    ("foo.dtk.io", "A", "10.0.0.5"),
    ("foo.dtk.io", "AAAA", "NODATA"),
    ("down.foo.dtk.io", "A", "NODATA"),
    ("deep.down.foo.dtk.io", "A", "10.0.0.5"),
    ("none.foo.dtk.io", "A", "NXDOMAIN"),
    ("v6.dtk.io", "A", "10.0.0.5"),
    ("v6.dtk.io", "AAAA", "2001:db8::5"),
    ("alias.dtk.io", "A", "foo.dtk.io.", "10.0.0.5"),
    ("x.wild.dtk.io", "A", "NXDOMAIN"),
    ("*.wild.dtk.io", "A", "NXDOMAIN"),
    ("self.dtk.io", "A", CLUSTER_IP),
    ("self.dtk.io", "CNAME", "NODATA"),
    ("ps.dtk.io", "A", "10.0.0.21", "10.0.0.22"),
    ("out.evil-dtk.io", "A", "REFUSED"),
    ("x.mydomain.io", "CNAME", "outside.example.org."),
    ("a-foo.dtk.io", "TXT", "NXDOMAIN"),
    ("pre-a-foo.dtk.io", "TXT", "NXDOMAIN"),
    ("a-dtk.io", "TXT", "REFUSED"),
]
HOSTS_LINES = [
    "alias.dtk.io 10.0.0.5",
    "deep.down.foo.dtk.io 10.0.0.5",
    "dtk.io 10.0.0.1",
    "foo.dtk.io 10.0.0.5",
    "ps.dtk.io 10.0.0.21",
    "ps.dtk.io 10.0.0.22",
    f"self.dtk.io {CLUSTER_IP}",
    "v6.dtk.io 10.0.0.5",
    "v6.dtk.io 2001:db8::5",
    f"x.mydomain.io {CLUSTER_IP}",
]


@pytest.mark.parametrize(
    "registry",
    [(), ("--txt-prefix=pre-",), ("--registry=noop",)],
    ids=["TXT", "TXT with prefix", "no registry"],
)
def test_ingress_names_are_published_and_deleted(
    stack: WebhookStack, apiserver: ApiServer, registry: Sequence[str]
) -> None:
    apiserver.apply_all(INGRESSES)
    stack.start()
    stack.external_dns.run_once(*registry)
    for name, rtype, *answer in ANSWERS:
        stack.expect(name, rtype, *answer)
    assert stack.dns.ask("v6.dtk.io").answer[0].ttl == 120
    assert stack.hosts_lines() == HOSTS_LINES
    stack.up_to_date(*registry)
    apiserver.delete_all(INGRESSES)
    stack.external_dns.run_once(*registry)
    for name in ("foo.dtk.io", "v6.dtk.io", "alias.dtk.io", "ps.dtk.io", "x.mydomain.io", "down.foo.dtk.io"):
        stack.expect(name, "A", "NXDOMAIN")
    stack.expect("dtk.io", "A", "NODATA")
    assert stack.hosts.read_text().rstrip("\n") == FOREIGN_LINE
    stack.up_to_date(*registry)


def test_target_and_type_changes_are_published(stack: WebhookStack, apiserver: ApiServer) -> None:
    def becomes(*to: str, name: str = "foo.dtk.io", **annotations: str) -> None:
        apiserver.apply(ingress("a", name, to=to, **annotations))
        stack.external_dns.run_once()

    apiserver.apply(ingress("end", "end.dtk.io", to=["10.0.0.7"]))
    stack.start()
    becomes("10.0.0.5")
    stack.expect("foo.dtk.io", "A", "10.0.0.5")
    becomes("10.0.0.6")
    stack.expect("foo.dtk.io", "A", "10.0.0.6")
    becomes("end.dtk.io")
    stack.expect("foo.dtk.io", "A", "end.dtk.io.", "10.0.0.7")
    stack.up_to_date()
    becomes("10.0.0.8", "fd00::8")
    stack.expect("foo.dtk.io", "AAAA", "fd00::8")
    stack.expect("foo.dtk.io", "CNAME", "NODATA")
    stack.up_to_date()
    becomes("10.0.0.8", ttl="77")
    stack.expect("foo.dtk.io", "AAAA", "NODATA")
    wait_for(lambda: stack.dns.ask("foo.dtk.io").answer[0].ttl == 77, "the new TTL")
    assert "foo.dtk.io 10.0.0.8" in stack.hosts_lines()
    becomes("10.0.0.8", name="bar.dtk.io")
    stack.expect("foo.dtk.io", "A", "NXDOMAIN")
    stack.expect("bar.dtk.io", "A", "10.0.0.8")
    stack.up_to_date()


def test_external_dns_daemon_recovers_from_outages(stack: WebhookStack, apiserver: ApiServer) -> None:
    stack.start()
    client = stack.external_dns.start()

    def appears(name: str, address: str, deadline_s: float = 30) -> None:
        apiserver.apply(ingress(name, f"{name}.dtk.io", to=[address]))
        stack.expect(f"{name}.dtk.io", "A", address, deadline_s=deadline_s)

    appears("one", "10.0.0.1")
    apiserver.apply(ingress("one", "one.dtk.io", to=["10.0.0.2"]))
    stack.expect("one.dtk.io", "A", "10.0.0.2", deadline_s=30)

    stack.etcd.stop()
    wait_for(lambda: not stack.webhook.ready(), "the webhook to be unready", 20)
    apiserver.apply(ingress("two", "two.dtk.io", to=["10.0.0.2"]))
    wait_for(lambda: "soft error" in client.log_text().lower(), "a soft error", 30, client)
    stack.etcd.start()
    stack.expect("two.dtk.io", "A", "10.0.0.2", deadline_s=40)
    assert client.alive

    stack.webhook.kill()
    apiserver.delete(ingress("one", "one.dtk.io", to=[]))
    # ExternalDNS exits without an answer; a kubelet would restart it.
    client.wait(60)
    assert stack.ask("two.dtk.io") == ["10.0.0.2"]
    stack.webhook.start()
    client.start()
    stack.expect("one.dtk.io", "A", "NXDOMAIN", deadline_s=40)
    stack.expect("two.dtk.io", "A", "10.0.0.2")
    assert stack.hosts_lines() == ["two.dtk.io 10.0.0.2"]


def test_5000_names_at_once(binaries: Binaries, tmp_path: Path, apiserver: ApiServer, etcd: Etcd) -> None:
    """With their registry TXT records; then one more."""
    apiserver.apply(dns_endpoint_crd())
    many = [a(f"n{number}.dtk.io", f"10.1.{number // 250}.{number % 250}") for number in range(5000)]
    with WebhookStack(tmp_path, binaries, apiserver, etcd, STATE_IN_OBJECTS) as stack:
        assert (
            stack.webhook.apply(create=[one for host in many for one in (host, ownership_txt(host))]) == 204
        )
        stack.expect("n4999.dtk.io", "A", "10.1.19.249", deadline_s=10)
        assert len(stack.hosts_lines()) == 5000
        assert stack.webhook.apply(create=[a("more.dtk.io", "10.2.0.1")]) == 204
        stack.expect("more.dtk.io", "A", "10.2.0.1", deadline_s=5)
        # a restarted bridge keeps names in a domain that only the state has
        assert stack.webhook.request("POST", "/domains", b"late.example").status_code == 200
        assert stack.webhook.apply(create=[a("a.late.example", "10.0.0.1")]) == 204
        late = "/skydns/example/late/a/own_/10-0-0-1-H"
        wait_for(lambda: late in etcd.dump("/skydns"), "the late name", 10)
        stack.webhook.kill()
        revision = etcd.revision()
        stack.webhook.start()
        stack.webhook.wait_ready()
        wait_for(lambda: stack.webhook.metric("kube2etcd_held_deletes") == 0, "nothing to be held", 10)
        assert etcd.revision() == revision


def test_run_with_webhook_serves_cluster_and_external_names(
    binaries: Binaries, tmp_path: Path, apiserver: ApiServer, etcd: Etcd
) -> None:
    apiserver.apply_all([*INGRESSES, service("web", clusterIP="10.0.2.1")])
    page = f":{free_port()}"
    with WebhookStack(tmp_path, binaries, apiserver, etcd, ("--listen-page", page)) as stack:
        stack.external_dns.run_once()
        for name, rtype, *answer in [*ANSWERS, ("web.default.svc.cluster.local", "A", "10.0.2.1")]:
            stack.expect(name, rtype, *answer)
        assert stack.hosts_lines() == HOSTS_LINES
        stack.up_to_date()
        # other commands derive the same records: the exit code reports differences
        kube2etcd("resync", "--dry-run", *stack.command_options)
        keys = etcd.dump("/skydns")
        kube2etcd("resync", *stack.command_options)
        assert etcd.dump("/skydns") == keys
        explained = kube2etcd("explain", "foo.dtk.io", *stack.command_options)
        assert "A 10.0.0.5 comes from webhook/foo.dtk.io" in explained
        stack.webhook.kill()
        stack.webhook.start()
        stack.webhook.wait_ready()
        stack.up_to_date()
        apiserver.delete_all(INGRESSES)
        stack.external_dns.run_once()
        stack.expect("foo.dtk.io", "A", "NXDOMAIN", deadline_s=40)
        stack.expect("web.default.svc.cluster.local", "A", "10.0.2.1")
        for path, body in (("/domains", b"late.example"), ("/clusterip", b"192.0.2.9")):
            assert stack.webhook.request("POST", path, body).status_code == 200
        create = [a("a.late.example", "10.0.0.1"), cname("s.late.example", "s.late.example")]
        create += [{"dnsName": "m.late.example", "recordType": "MX", "targets": ["no preference"]}]
        assert stack.webhook.apply(create=create) == 204
        late = {f"/skydns/example/late/{key}-H" for key in ("a/own_/10-0-0-1", "s/own_/192-0-2-9")}
        wait_for(lambda: late <= etcd.dump("/skydns").keys(), "the posted domain and cluster IP", 10)
        shown = call("explain", "a.late.example", "A", "--bridge", page)
        assert (shown.returncode, "comes from webhook/a.late.example" in shown.stdout) == (0, True)
        refused = call("explain", "m.late.example", "MX", "--bridge", page)
        assert refused.returncode == 1
        assert "refused when ExternalDNS last posted it" in refused.stdout


def test_two_bridges_share_their_state_in_dnsendpoints(
    binaries: Binaries, tmp_path: Path, apiserver: ApiServer, etcd: Etcd
) -> None:
    apiserver.apply(dns_endpoint_crd())
    apiserver.apply_all(INGRESSES)
    kind = ("externaldns.k8s.io/v1alpha1", "DNSEndpoint", "default")
    with contextlib.ExitStack() as exits:

        def bridge(name: str, at: Etcd) -> WebhookStack:
            return exits.enter_context(
                WebhookStack(tmp_path / name, binaries, apiserver, at, STATE_IN_OBJECTS)
            )

        other, third = (exits.enter_context(Etcd(tmp_path / f"{name}-etcd", binaries)) for name in "23")
        one, two = bridge("one", etcd), bridge("two", other)
        one.external_dns.run_once()
        for each in (one, two):
            for name, rtype, *answer in ANSWERS:
                each.expect(name, rtype, *answer, deadline_s=20)
            wait_for(lambda each=each: each.hosts_lines() == HOSTS_LINES, "the lines of the hosts file", 20)  # type: ignore[misc]
        # the second webhook has the records posted to the first
        assert "All records are already up to date" in two.external_dns.run_once()
        apiserver.apply(ingress("a", "foo.dtk.io", to=["10.0.0.77"]))
        two.external_dns.run_once()
        for each in (one, two):
            each.expect("foo.dtk.io", "A", "10.0.0.77", deadline_s=20)

        # a replaced pod starts with an empty etcd
        two.kill()
        other.kill()
        three = bridge("three", third)
        three.expect("foo.dtk.io", "A", "10.0.0.77", deadline_s=20)
        assert "All records are already up to date" in three.external_dns.run_once()

        # deleted state objects are restored
        def stored() -> dict[str, list[str]]:
            noted = {one["metadata"]["name"]: one["metadata"]["annotations"] for one in apiserver.list(*kind)}
            kept = {name: unpack(notes.get(ENDPOINTS, "")) for name, notes in noted.items()}
            return {name: [one["dnsName"] for one in some] for name, some in kept.items() if some}

        before = stored()
        assert before
        apiserver.request("DELETE", apiserver.path(*kind))
        wait_for(lambda: stored() == before, "the objects to be back", 30)
        for each in (one, three):
            each.expect("foo.dtk.io", "A", "10.0.0.77", deadline_s=20)
        # whichever restored them may have missed the last change; both converge
        wait_for(lambda: records(one) == records(three), "equal records", 20)
        apiserver.delete_all(INGRESSES)
        one.external_dns.run_once()
        for each in (one, three):
            each.expect("v6.dtk.io", "A", "NXDOMAIN", deadline_s=60)


def records(stack: WebhookStack) -> list[str]:
    """The webhook's records, sorted."""
    return sorted(map(str, stack.webhook.records()))


def test_crd_source_ignores_state(
    binaries: Binaries, tmp_path: Path, apiserver: ApiServer, etcd: Etcd
) -> None:
    """ExternalDNS with --source=crd does not take the state's objects for desired endpoints."""
    apiserver.apply(dns_endpoint_crd())
    foo, bar = ingress("a", "foo.dtk.io", to=["10.0.0.5"]), ingress("b", "bar.dtk.io", to=["10.0.0.6"])
    apiserver.apply_all([foo, bar])
    crd = ("--source=crd", *(f"--managed-record-types={one}" for one in ("A", "CNAME", "TXT")))
    records = ["a-bar.dtk.io", "a-foo.dtk.io", "bar.dtk.io", "foo.dtk.io"]
    with WebhookStack(tmp_path, binaries, apiserver, etcd, STATE_IN_OBJECTS) as stack:
        for _ in range(3):
            stack.external_dns.run_once(*crd)
            assert stack.webhook.names() == records
        stack.up_to_date(*crd)
        # Nor does a second ExternalDNS, e.g. for a public provider.
        public = ["--provider=inmemory", "--inmemory-zone=dtk.io"]
        second = ExternalDns(tmp_path / "second", binaries, apiserver, public)
        second.options.remove("--source=ingress")
        log = second.run_once("--source=crd")
        assert "foo.dtk.io" not in log
        apiserver.delete(foo)
        stack.external_dns.run_once(*crd)
        assert stack.webhook.names() == ["a-bar.dtk.io", "bar.dtk.io"]
        stack.expect("foo.dtk.io", "A", "NXDOMAIN", deadline_s=40)
        stack.expect("bar.dtk.io", "A", "10.0.0.6")
    nowhere = ("--state-objects", "nowhere", "--kubeconfig", str(apiserver.kubeconfig()))
    hosts = ("--hosts-file", str(tmp_path / "hosts"))
    with Webhook(tmp_path, [*DOMAINS, *hosts, *nowhere], name="homeless") as homeless:
        homeless.wait_readyz('namespaces "nowhere" not found', 10)


def test_refused_records_and_unicode_names(stack: WebhookStack, apiserver: ApiServer) -> None:
    apiserver.apply(dns_endpoint_crd())
    crd = ["--source=crd", *(f"--managed-record-types={one}" for one in ("A", "CNAME", "MX", "NAPTR", "TXT"))]
    wishes = dns_endpoint(
        "wishes",
        endpoint("bücher.dtk.io", "A", "10.0.0.5"),
        endpoint("umlaut.dtk.io", "CNAME", "bücher.dtk.io"),
        endpoint("mail.dtk.io", "MX", "0 ."),
        endpoint("naptr.dtk.io", "NAPTR", '100 10 "U" "E2U+sip" "!^.*$!sip:a@b!" .'),
        endpoint("text.dtk.io", "TXT", '"v=DKIM1\\; "  "p=AB"'),
    )
    apiserver.apply(wishes)
    stack.start()
    stack.external_dns.run_once(*crd)
    assert not [name for name in stack.webhook.names() if "mail" in name or "naptr" in name]
    stack.expect("xn--bcher-kva.dtk.io", "A", "10.0.0.5")
    stack.expect("umlaut.dtk.io", "A", "xn--bcher-kva.dtk.io.", "10.0.0.5")
    stack.expect("text.dtk.io", "TXT", '"v=DKIM1; p=AB"')
    assert "xn--bcher-kva.dtk.io 10.0.0.5" in stack.hosts_lines()
    refused = call("explain", "mail.dtk.io", "MX", *stack.command_options)
    assert (refused.returncode, "refused when ExternalDNS last posted it" in refused.stdout) == (1, True)
    # ExternalDNS posts refused endpoints again; without them it has nothing to do.
    wishes["spec"]["endpoints"] = [
        one for one in wishes["spec"]["endpoints"] if one["recordType"] in ("A", "CNAME", "TXT")
    ]
    apiserver.apply(wishes)
    stack.up_to_date(*crd)


def test_webhook_and_bridge_coexist_on_one_domain(
    tmp_path: Path, apiserver: ApiServer, etcd: Etcd, stack: WebhookStack
) -> None:
    """Neither deletes the other's keys or contests a common name for ever."""
    endpoints = endpoint("foo.dtk.io", "CNAME", "two.dtk.io"), endpoint("two.dtk.io", "A", "10.0.0.7")
    x, a = dns_endpoint("x", *endpoints), ingress("a", "foo.dtk.io", "one.dtk.io", to=["10.0.0.5"])
    apiserver.apply_all([dns_endpoint_crd(), x, a])
    often = ["--resync-period", "1"]
    options = [*DOMAINS, *often, "--dns-endpoints", *args(apiserver.kubeconfig(), etcd)]
    stack.webhook.command += often
    stack.start()
    stack.external_dns.run_once()
    stack.expect("foo.dtk.io", "A", "10.0.0.5")
    with Bridge(tmp_path, options, name="bridge") as bridge:
        bridge.wait_ready()
        # the bridge's owner id sorts before the webhook's
        stack.expect("foo.dtk.io", "CNAME", "two.dtk.io.")
        stack.expect("one.dtk.io", "A", "10.0.0.5")
        stack.expect("two.dtk.io", "A", "10.0.0.7")
        wait_for(
            lambda: stack.webhook.metric("kube2etcd_contested_keys") > 0,
            "the contested key to be noticed",
            10,
        )
        revision = etcd.revision()
        bridge.full_passes(3)
        assert etcd.revision() == revision
        # the order of restarts makes no difference
        keys = etcd.dump("/skydns")
        bridge.restart()
        bridge.wait_ready()
        stack.webhook.restart()
        stack.webhook.wait_ready()
        bridge.full_passes(2)
        assert etcd.dump("/skydns") == keys
        apiserver.delete(x)
        stack.expect("two.dtk.io", "A", "NXDOMAIN")
        stack.expect("foo.dtk.io", "A", "10.0.0.5")
        stack.expect("foo.dtk.io", "CNAME", "NODATA")
