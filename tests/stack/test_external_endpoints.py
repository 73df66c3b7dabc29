"""Names of DNSEndpoint objects: nesting, merging, changes, conflicts."""

from tests.stack.asking import asked_all_the_time, questions_to
from tests.stack.bridge import kube2etcd
from tests.stack.dns_stack import StartStack
from tests.stack.harness import ApiServer, wait_for
from tests.stack.objects import dns_endpoint, dns_endpoint_crd, endpoint, nic, vmi, vmi_crd


def test_names_merge_across_dnsendpoints(start_stack: StartStack, apiserver: ApiServer) -> None:
    stack = start_stack(
        *("--domains", "dtk.io,.my.io", "--dns-endpoints"),
        objects=[
            dns_endpoint_crd(),
            dns_endpoint(
                "one",
                endpoint("dtk.io", "A", "10.0.0.1"),
                endpoint("foo.dtk.io", "A", "10.0.0.5", setIdentifier="a", recordTTL=77),
                endpoint("Deep.Down.Foo.dtk.io.", "AAAA", "fd00::1"),
                endpoint("alias.dtk.io", "CNAME", "foo.dtk.io"),
                endpoint("cross.dtk.io", "CNAME", "x.sub.my.io"),
                endpoint("_http._tcp.dtk.io", "SRV", "0 50 80 foo.dtk.io"),
            ),
            dns_endpoint(
                "two",
                endpoint("foo.dtk.io", "A", "10.0.0.6", setIdentifier="b"),
                endpoint("foo.dtk.io", "CNAME", "bar.dtk.io"),
                endpoint("x.sub.my.io", "A", "10.0.0.7"),
                endpoint("mail.my.io", "MX", "10 mx.my.io."),
            ),
        ],
    )
    for name, rtype, *answer in [
        ("dtk.io", "A", "10.0.0.1"),
        ("dtk.io", "AAAA", "NODATA"),
        ("foo.dtk.io", "A", "10.0.0.5", "10.0.0.6"),
        ("foo.dtk.io", "CNAME", "NODATA"),
        ("down.foo.dtk.io", "A", "NODATA"),
        ("deep.down.foo.dtk.io", "AAAA", "fd00::1"),
        ("none.foo.dtk.io", "A", "NXDOMAIN"),
        ("alias.dtk.io", "A", "foo.dtk.io.", "10.0.0.5", "10.0.0.6"),
        ("cross.dtk.io", "A", "x.sub.my.io.", "10.0.0.7"),
        ("_http._tcp.dtk.io", "SRV", "0 100 80 foo.dtk.io."),
        ("_http._tcp.dtk.io", "A", "NODATA"),
        ("mail.my.io", "MX", "10 mx.my.io."),
    ]:
        stack.expect(name, rtype, *answer)
    assert stack.dns.ask("foo.dtk.io").answer[0].ttl == 30

    apiserver.apply(dns_endpoint("two", endpoint("foo.dtk.io", "CNAME", "bar.dtk.io")))
    stack.expect("foo.dtk.io", "A", "10.0.0.5")
    stack.expect("foo.dtk.io", "CNAME", "NODATA")
    stack.expect("sub.my.io", "A", "NXDOMAIN")
    # an unknown target in a zone of ours could form a loop
    stack.expect("cross.dtk.io", "A", "NXDOMAIN")
    wait_for(lambda: stack.dns.ask("foo.dtk.io").answer[0].ttl == 77, "the TTL of the remaining record")
    apiserver.delete(dns_endpoint("one"))
    stack.expect("foo.dtk.io", "CNAME", "bar.dtk.io.")
    stack.expect("dtk.io", "A", "NODATA")
    stack.expect("deep.down.foo.dtk.io", "AAAA", "NXDOMAIN")
    stack.expect("down.foo.dtk.io", "A", "NXDOMAIN")


def test_crds_installed_after_the_start_are_noticed(start_stack: StartStack, apiserver: ApiServer) -> None:
    stack = start_stack("--domains", "dtk.io", "--dns-endpoints", "--vm-domain", "")
    stack.expect("dtk.io", "A", "NODATA")
    stack.expect("default.vm", "A", "NODATA")
    stack.expect("foo.dtk.io", "A", "NXDOMAIN")
    records = ("records", *stack.options, "--kubeconfig", str(apiserver.kubeconfig()))
    assert "zones/dtk.io" in kube2etcd(*records)
    foo = dns_endpoint("one", endpoint("foo.dtk.io", "A", "10.0.0.5"))
    machine = vmi("default", "late", nic("nic1", "10.10.0.5"))
    apiserver.apply_all([dns_endpoint_crd(), vmi_crd(), foo, machine])
    stack.expect("foo.dtk.io", "A", "10.0.0.5", deadline_s=45)
    stack.expect("nic1.late.default.vm", "A", "10.10.0.5", deadline_s=45)
    assert "dnsendpoints/default/one" in kube2etcd(*records)


def test_type_change_leaves_no_gap(start_stack: StartStack, apiserver: ApiServer) -> None:
    end = dns_endpoint("end", endpoint("end.dtk.io", "A", "10.0.0.5"))
    one = dns_endpoint("one", endpoint("foo.dtk.io", "A", "10.0.0.5"))
    stack = start_stack("--domains", "dtk.io", "--dns-endpoints", objects=[dns_endpoint_crd(), end, one])
    stack.expect("foo.dtk.io", "A", "10.0.0.5")
    with asked_all_the_time(questions_to(stack.dns, ("foo.dtk.io", "A")), at_least=20):
        for _ in range(3):
            for data in (("CNAME", "end.dtk.io"), ("A", "10.0.0.5")):
                apiserver.apply(dns_endpoint("one", endpoint("foo.dtk.io", *data)))
                to = ["end.dtk.io."] if data[0] == "CNAME" else []
                stack.expect("foo.dtk.io", "A", *to, "10.0.0.5")
