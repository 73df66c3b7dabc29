"""The zone of KubeVirt's VirtualMachineInstances."""

from ipaddress import ip_address
from pathlib import Path

import dns.flags
import dns.rcode
import dns.rdatatype
import pytest

from tests.stack.coredns import ask, rdata_or_rcode
from tests.stack.dns_stack import StartStack
from tests.stack.harness import LOOPBACK, ApiServer, Binaries, CoreDns, Etcd, free_port, wait_for
from tests.stack.objects import namespace, nic, vmi, vmi_crd


def test_vmi_interfaces_get_names(start_stack: StartStack) -> None:
    both = vmi(
        "secondary-test",
        "both",
        nic("Nic2", "fe80::5", "fd00:5::1", "10.10.0.7", "10.10.0.8"),
        nic("", "172.17.0.1"),
        nic("nic1", "fd00:5::2"),
    )
    one = vmi("secondary-test", "vmi-sec", nic("nic1", "10.10.0.5"))
    stack = start_stack("--vm-domain", "", objects=[vmi_crd(), namespace("secondary-test"), one, both])
    stack.expect("nic1.vmi-sec.secondary-test.vm", "A", "10.10.0.5")
    stack.expect("vmi-sec.secondary-test.vm", "A", "10.10.0.5")
    stack.expect("nic2.both.secondary-test.vm", "A", "10.10.0.7")
    stack.expect("NIC2.both.secondary-test.vm", "AAAA", "fd00:5::1")
    stack.expect("both.secondary-test.vm", "AAAA", "fd00:5::2")
    for name, *rtypes in [
        ("nic1.vmi-sec.secondary-test.vm", "AAAA", "TXT", "SRV"),
        ("nic1.both.secondary-test.vm", "A"),
        ("both.secondary-test.vm", "A", "CNAME"),
        ("secondary-test.vm", "A", "AAAA", "SRV", "TXT"),
        ("vm", "A", "TXT", "NS"),
    ]:
        for rtype in rtypes:
            assert (name, rtype, stack.ask(name, rtype)) == (name, rtype, ["NODATA"])
    for name in ("default.both", "nic3.both", "x.nic1.both", "*.both", "any.both", "none"):
        assert (name, stack.ask(f"{name}.secondary-test.vm")) == (name, ["NXDOMAIN"])
    for name in ("none.vm", "x.y.none.vm", "ns.vm"):
        assert (name, stack.ask(name)) == (name, ["NXDOMAIN"])
    assert stack.ask("vm", "SOA")[0].startswith("ns.dns.vm. hostmaster.vm. ")
    assert stack.ask("nic1.vmi-sec.secondary-test.vm", tcp=True) == ["10.10.0.5"]
    [answered] = stack.dns.ask("nic1.vmi-sec.secondary-test.vm").answer
    assert answered.ttl == 30


@pytest.mark.parametrize("address", ["192.0.2.53", "2001:db8::53"])
def test_apex_name_server_and_glue(start_stack: StartStack, address: str) -> None:
    stack = start_stack(
        *("--vm-domain", "example.test", "--name-server-ip", address),
        objects=[
            vmi_crd(),
            *map(namespace, ("dns", "ns")),
            vmi("dns", "ns", nic("nic1", "10.66.0.1")),
            vmi("dns", "apex", nic("nic1", "10.66.0.2")),
            vmi("dns", "x.ns", nic("nic1", "10.66.0.3")),
            vmi("dns", "web", nic("nic1", "10.10.0.1"), nic("ns", "10.10.0.2")),
            vmi("ns", "dns", nic("nic1", "10.10.0.3")),
            vmi("ns", "web", nic("nic1", "10.10.0.4")),
        ],
    )
    zone, rtype = "vm.example.test", "AAAA" if ":" in address else "A"
    stack.expect(zone, "NS", f"ns.{zone}.")
    stack.expect(f"ns.{zone}", rtype, address)
    assert stack.ask(f"ns.{zone}", "A" if rtype == "AAAA" else "AAAA") == ["NODATA"]
    message = stack.dns.ask(zone, "NS")
    assert message.flags & dns.flags.AA
    glue = message.additional
    assert [(str(one.name), one[0].to_text()) for one in glue] == [(f"ns.{zone}.", address)]
    stack.expect(f"web.dns.{zone}", "A", "10.10.0.1")
    stack.expect(f"ns.web.dns.{zone}", "A", "10.10.0.2")
    stack.expect(f"nic1.dns.ns.{zone}", "A", "10.10.0.3")
    stack.expect(f"web.ns.{zone}", "A", "10.10.0.4")
    assert stack.ask(zone) == ["NODATA"]
    for question in (zone, f"ns.{zone}", f"ns.dns.{zone}", f"apex.dns.{zone}", f"dns.{zone}"):
        for one in ("A", "AAAA", "NS"):
            assert not [data for data in stack.ask(question, one) if data.startswith("10.")]


def parent_server(directory: Path, binaries: Binaries, glue: str) -> CoreDns:
    """A server of ``example.test``, which delegates vm.example.test with NS and glue."""
    zone_file = directory / "example.test.zone"
    zone_file.write_text(
        "$ORIGIN example.test.\n"
        "@ 60 IN SOA ns.example.test. hostmaster.example.test. 1 3600 3600 3600 60\n"
        "@ 60 IN NS ns.example.test.\n"
        "ns 60 IN A 127.0.0.1\n"
        "vm 60 IN NS ns.vm.example.test.\n"
        f"ns.vm 60 IN A {glue}\n"
    )
    text = f"example.test:{{port}} {{\n    bind {LOOPBACK}\n    file {zone_file} example.test\n}}\n"
    return CoreDns(directory, binaries, text, name="parent")


def test_delegated_vm_zone_on_its_own_listener(
    start_stack: StartStack, apiserver: ApiServer, binaries: Binaries, tmp_path: Path
) -> None:
    """``--vm-listen``: its listener serves the vm zone and not the cluster's names."""
    apiserver.apply(vmi_crd())
    many = [nic(f"nic{number}", f"10.10.1.{number}") for number in range(1, 9)]
    apiserver.apply_all([namespace("one"), vmi("one", "web", nic("nic0", "10.10.0.5", "fd00::5"), *many)])
    host, port = "127.0.0.2", free_port()
    stack = start_stack(
        *("--vm-domain", "example.test", "--name-server-ip", host),
        dns_options=["--vm-listen", f"{host}:{port}"],
    )
    parent = parent_server(tmp_path, binaries, host)

    def resolve(name: str, rtype: str, tcp: bool) -> list[str]:
        """Follow the parent's referral as a resolver does, but to our port."""
        referral = parent.ask(name, rtype, tcp)
        assert not referral.answer
        [servers] = [one for one in referral.authority if one.rdtype == dns.rdatatype.NS]
        [glue] = [str(one[0]) for one in referral.additional if one.name == servers[0].target]
        answer = ask(name, rtype, port, at=glue, tcp=tcp)
        assert answer.flags & dns.flags.AA
        return rdata_or_rcode(answer)

    stack.expect("vm.example.test", "A", "REFUSED")  # CoreDNS is up, without the vm zone on this port
    with parent:

        def published() -> bool:
            return resolve("web.one.vm.example.test", "A", False) == ["10.10.0.5"]

        wait_for(published, "the machine", 15, stack.bridge, parent)
        for tcp in (False, True):
            for name, rtype, answer in [
                ("nic0.web.one", "A", ["10.10.0.5"]),
                ("web.one", "AAAA", ["fd00::5"]),
                ("nic8.web.one", "A", ["10.10.1.8"]),
                ("nic8.web.one", "AAAA", ["NODATA"]),
                ("none.one", "A", ["NXDOMAIN"]),
                ("one", "A", ["NODATA"]),
            ]:
                seen = resolve(f"{name}.vm.example.test", rtype, tcp)
                assert (name, rtype, tcp, seen) == (name, rtype, tcp, answer)
        child = ask("vm.example.test", "NS", port, at=host)
        assert rdata_or_rcode(child) == ["ns.vm.example.test."]
        assert [one[0].to_text() for one in child.additional] == [host]
        # neither listener serves the other's zones
        assert rdata_or_rcode(ask("kubernetes.default.svc.cluster.local", "A", port, at=host)) == ["REFUSED"]
        assert stack.ask("kubernetes.default.svc.cluster.local") == ["10.0.0.1"]
        for tcp in (False, True):
            assert stack.ask("nic0.web.one.vm.example.test", tcp=tcp) == ["REFUSED"]


def test_start_without_the_crd_deletes_nothing(start_stack: StartStack, apiserver: ApiServer) -> None:
    """As when KubeVirt is reinstalled during a restart."""
    objects = [namespace("one"), vmi("one", "web", nic("nic1", "10.10.0.5"))]
    apiserver.apply(vmi_crd())
    stack = start_stack("--vm-domain", "", objects=objects)
    stack.expect("web.one.vm", "A", "10.10.0.5")
    stack.bridge.kill()
    apiserver.delete(vmi_crd())
    stack.bridge.start()
    stack.bridge.wait_ready()
    assert "deletions are held" in stack.bridge.readyz()
    assert stack.ask("web.one.vm") == ["10.10.0.5"]
    apiserver.apply(vmi_crd())
    apiserver.apply_all([vmi("one", "web", nic("nic1", "10.10.0.6"))])
    stack.expect("web.one.vm", "A", "10.10.0.6")
    wait_for(lambda: stack.bridge.metric("kube2etcd_held_deletes") == 0, "nothing to be held", 30)


def test_migration_writes_changes_only(start_stack: StartStack, apiserver: ApiServer, etcd: Etcd) -> None:
    apiserver.apply(vmi_crd())
    apiserver.apply_all([namespace("one"), vmi("one", "web", nic("nic1", "10.10.0.5"), nodeName="a")])
    stack = start_stack("--vm-domain", "")
    stack.expect("web.one.vm", "A", "10.10.0.5")
    before = etcd.revision()
    for number in range(5):
        apiserver.apply(vmi("one", "web", nic("nic1", "10.10.0.5"), nodeName="b", probes=number))
    apiserver.apply(vmi("one", "mark", nic("nic1", "10.10.0.6")))
    stack.expect("mark.one.vm", "A", "10.10.0.6")
    assert etcd.revision() == before + 1  # only mark: events arrive in order
    apiserver.apply(
        vmi("one", "web", nic("nic1", "10.20.0.5"), nodeName="c", migrationState={"completed": True})
    )
    stack.expect("nic1.web.one.vm", "A", "10.20.0.5")
    stack.expect("web.one.vm", "A", "10.20.0.5")
    apiserver.delete(vmi("one", "web"))
    stack.expect("web.one.vm", "A", "NXDOMAIN")
    stack.expect("mark.one.vm", "A", "10.10.0.6")


def test_only_allowed_networks_get_names_and_ptr(start_stack: StartStack) -> None:
    allowed = {"dev": "10.10.0.0/16", "prod": ["10.20.0.0/16", "fd00:6::/64"]}
    reverse = ["10.10.0.0/16", "fd00:6::/64"]
    stack = start_stack(
        config={"vm": {"domain": "", "allowed_networks": allowed, "reverse": reverse}},
        objects=[
            vmi_crd(),
            *map(namespace, ("dev", "prod", "other")),
            vmi("dev", "web", nic("nic1", "10.0.0.1", "10.10.0.5")),
            vmi("prod", "web", nic("nic1", "10.10.0.6", "10.20.0.6", "fd00:5::6", "fd00:6::6")),
            vmi("other", "web", nic("nic1", "10.10.0.7")),
        ],
    )
    stack.expect("web.dev.vm", "A", "10.10.0.5")
    stack.expect("web.prod.vm", "A", "10.20.0.6")
    stack.expect("5.0.10.10.in-addr.arpa", "PTR", "nic1.web.dev.vm.")
    stack.expect("web.prod.vm", "AAAA", "fd00:6::6")
    for address, answer in (("fd00:6::6", "nic1.web.prod.vm."), ("fd00:5::6", "NXDOMAIN")):
        assert stack.ask(ip_address(address).reverse_pointer, "PTR") == [answer]
    assert stack.ask("web.other.vm") == ["NXDOMAIN"]
    assert stack.ask("6.0.20.10.in-addr.arpa", "PTR") == ["NXDOMAIN"]
