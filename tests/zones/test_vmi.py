"""VMIs to records: interfaces, addresses, and what a hostile guest or owner cannot publish."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from kube2etcd.kube.objects import Interface, Metadata, Namespace, VirtualMachineInstance
from kube2etcd.zones.base import Published
from kube2etcd.zones.vmi import VmZone
from skydns_compat.layout import Layout
from skydns_compat.names import Name, parse_address
from tests.zones.published import publish, text

VM = Name.parse("vm")
ETH = Interface("eth1", ("10.0.0.1",))
ZONE = VmZone(VM, ttl=5)
SERVED = VmZone(VM, ttl=5, name_server=parse_address("192.0.2.53"))


def vmi(*interfaces: Interface, name: str = "m", namespace: str = "shop") -> VirtualMachineInstance:
    return VirtualMachineInstance(Metadata(namespace, name), interfaces)


def records(published: Published) -> str:
    """Names relative to the namespace shop."""
    return text(published.records, ".shop.vm.")


def test_own_records() -> None:
    assert records(ZONE.own()) == "vm. NODATA -, ns.dns.vm. NODATA -"
    assert records(SERVED.own()) == "vm. NODATA -, ns.dns.vm. A 192.0.2.53, ns.vm. A 192.0.2.53"
    # Keys below a namespace `ns` would be VMIs.
    assert b"/skydns/vm/nt_/ns/192-0-2-53-H" in SERVED.entries(Layout(), SERVED.own().records)


@pytest.mark.parametrize(
    ("name", "zone", "expected", "left_out"),
    [
        ("shop", ZONE, "shop.vm. NODATA -", 0),
        ("ns", ZONE, "ns.vm. NODATA -", 0),
        ("ns", SERVED, "", 0),
        ("a.b", ZONE, "", 1),
    ],
)
def test_namespaces(name: str, zone: VmZone, expected: str, left_out: int) -> None:
    published = publish(zone, Namespace(Metadata("", name)))
    assert (records(published), len(published.left_out)) == (expected, left_out)


@pytest.mark.parametrize(
    ("interfaces", "expected"),
    [
        ([], ""),
        ([Interface("eth1")], ""),
        ([Interface("eth1", ("",))], ""),
        (
            [Interface("eth1", ("10.0.0.1", "10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"))],
            "m A 10.0.0.1, m AAAA fd00::1, eth1.m A 10.0.0.1, eth1.m AAAA fd00::1",
        ),
        ([Interface("eth1", ("::ffff:1.2.3.4",))], "m A 1.2.3.4, eth1.m A 1.2.3.4"),
        (
            [Interface("eth2", ("10.0.0.2",)), Interface("eth1", ("10.0.0.1",))],
            "m A 10.0.0.1, eth1.m A 10.0.0.1, eth2.m A 10.0.0.2",
        ),
    ],
    ids=[
        "no interface",
        "no address",
        "empty address",
        "first address of each family",
        "IPv4-mapped IPv6 address",
        "VMI name at its first interface",
    ],
)
def test_interfaces(interfaces: list[Interface], expected: str) -> None:
    published = publish(ZONE, vmi(*interfaces))
    assert (records(published), published.pointers, published.left_out) == (expected, [], [])


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("::ffff:127.0.0.1", "loopback"),
        *(
            (one, "is not an IP address")
            for one in ("10.0.0.1/24", "010.1.1.3", "10.0.0.1,10.0.0.2", "a.b", "*")
        ),
        ("fe80::1%eth0", "carries a zone"),
    ],
)
def test_unpublishable_addresses(address: str, reason: str) -> None:
    published = publish(ZONE, vmi(Interface("eth1", (address,)), Interface("eth2", ("10.0.0.2",))))
    assert records(published) == "m A 10.0.0.2, eth2.m A 10.0.0.2"
    (left_out,) = published.left_out
    assert left_out.startswith("interface 'eth1': ")
    assert reason in left_out


def test_allowed_networks() -> None:
    zone = VmZone(
        VM, allowed=(ip_network("10.0.0.0/8"),), allowed_in={"lab": (ip_network("fd00::/8"),), "none": ()}
    )
    interface = Interface("eth1", ("10.0.0.1", "192.0.2.1", "fd00::1"))
    found: dict[str, set[str]] = {}
    for namespace in ("shop", "lab", "none"):
        published = publish(zone, vmi(interface, namespace=namespace))
        found[namespace] = {str(one.data) for one in published.records}
    assert found == {"shop": {"10.0.0.1"}, "lab": {"fd00::1"}, "none": set()}
    assert publish(zone, vmi(interface)).left_out == [
        "interface 'eth1': 192.0.2.1 is outside the allowed networks",
        "interface 'eth1': fd00::1 is outside the allowed networks",
    ]


def test_ptrs_within_the_reverse_networks_only() -> None:
    zone = VmZone(VM, ttl=5, reverse=(ip_network("10.0.0.0/24"),))
    one = vmi(Interface("b", ("10.0.0.1",)), Interface("a", ("10.0.0.1",)), Interface("c", ("10.0.1.1",)))
    assert text(publish(zone, one).pointers) == "1.0.0.10.in-addr.arpa. PTR a.m.shop.vm."


def test_dotted_name_has_non_terminals() -> None:
    published = publish(ZONE, vmi(ETH, name="a.b.c"))
    assert records(published) == "a.b.c A 10.0.0.1, eth1.a.b.c A 10.0.0.1"
    assert text(published.non_terminals, ".shop.vm.") == "b.c NODATA -, c NODATA -"


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        pytest.param(vmi(ETH, name="a_"), "no name in DNS", id="invalid VMI name"),
        pytest.param(
            vmi(Interface("x" * 64, ("10.0.0.1",))), "64 characters", id="interface of 64 characters"
        ),
        pytest.param(
            vmi(Interface("a.b", ("10.0.0.1",))), "cannot be a DNS label", id="interface with a dot"
        ),
        *(
            pytest.param(vmi(Interface(name, ("10.0.0.1",))), "cannot be", id=f"interface {name}")
            for name in ("_http", "any", "*", "..", "../../config", "@", "$INCLUDE", 'quo"te', "ä", "a\nb")
        ),
        pytest.param(vmi(ETH, name="ns", namespace="dns"), "cannot be named", id="ns.dns"),
        pytest.param(vmi(ETH, name="apex", namespace="dns"), "cannot be named", id="apex.dns"),
    ],
)
def test_unpublishable_names(one: VirtualMachineInstance, reason: str) -> None:
    published = publish(ZONE, one)
    assert published.records == []
    assert reason in published.left_out[0]


def test_two_interfaces_with_one_name() -> None:
    published = publish(ZONE, vmi(ETH, Interface("ETH1", ("10.0.0.2",))))
    assert records(published) == "m A 10.0.0.1, eth1.m A 10.0.0.1"
    assert published.left_out == ["two interfaces have one name"]


def test_too_long_name_affects_only_its_interface() -> None:
    long = ".".join(["a" * 60] * 3)
    one = vmi(Interface("x" * 63, ("10.0.0.1",)), Interface("e", ("10.0.0.2",)), name=long)
    published = publish(ZONE, one)
    assert f"e.{long} A 10.0.0.2" in records(published)
    assert [reason.partition(":")[0] for reason in published.left_out] == ["interface left out"]
