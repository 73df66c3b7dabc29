"""Zones of selected Services."""

from tests.stack.asking import asked_all_the_time, questions_to
from tests.stack.dns_stack import BridgeStack, StartStack, relabel
from tests.stack.harness import ApiServer, wait_for
from tests.stack.objects import dns_endpoint, dns_endpoint_crd, endpoint, external, namespace, service


def test_selectors_choose_the_services_of_a_zone(start_stack: StartStack) -> None:
    staging = {"environment": "staging", "tenant": "customerB"}
    stack = start_stack(
        objects=[
            namespace("shop", team="a"),
            namespace("checkout", team="b"),
            service("web", "shop", labels=staging, clusterIP="10.0.2.1"),
            service("api", "shop", labels={"environment": "staging"}, clusterIP="10.0.2.2"),
            service("web", "checkout", labels={"environment": "production"}, clusterIP="10.0.2.3"),
        ],
        zones={
            "customerB.stage.local": {"selector": "environment=staging,tenant=customerB"},
            "set.example": {"selector": "environment in (staging, production), !tenant"},
            "shop.example": {"namespaces": ["shop"]},
            "b.example": {"namespace_selector": "team=b"},
        },
    )
    for name, answer in [
        ("web.shop.customerb.stage.local", "10.0.2.1"),
        ("web.shop.CustomerB.Stage.local", "10.0.2.1"),
        ("api.shop.customerb.stage.local", "NXDOMAIN"),
        ("web.checkout.customerb.stage.local", "NXDOMAIN"),
        ("web.shop.set.example", "NXDOMAIN"),
        ("api.shop.set.example", "10.0.2.2"),
        ("web.checkout.set.example", "10.0.2.3"),
        ("web.shop.shop.example", "10.0.2.1"),
        ("web.checkout.shop.example", "NXDOMAIN"),
        ("checkout.shop.example", "NXDOMAIN"),
        ("web.checkout.b.example", "10.0.2.3"),
        ("web.shop.b.example", "NXDOMAIN"),
        ("shop.b.example", "NXDOMAIN"),
        ("checkout.b.example", "NODATA"),
        ("shop.shop.example", "NODATA"),
        ("none.shop.example", "NXDOMAIN"),
        ("shop.example", "NODATA"),
        ("customerb.stage.local", "NODATA"),
        ("web.shop.svc.cluster.local", "10.0.2.1"),
    ]:
        stack.expect(name, "A", answer)
    for rtype in ("AAAA", "SRV", "TXT", "CNAME", "NS"):
        assert (rtype, stack.ask("shop.shop.example", rtype)) == (rtype, ["NODATA"])
        assert (rtype, stack.ask("shop.example", rtype)) == (rtype, ["NODATA"])
        assert (rtype, stack.ask("none.shop.example", rtype)) == (rtype, ["NXDOMAIN"])


def wait_for_move(stack: BridgeStack, old: str, new: str, answer: str) -> None:
    """Wait until ``new`` has the answer of ``old``; one of them has it at any time."""

    def moved() -> bool:
        before, after = stack.ask(old), stack.ask(new)
        if answer not in before + after:
            raise RuntimeError(f"a gap: {old} {before}, {new} {after}")
        return before == ["NXDOMAIN"]

    wait_for(moved, f"{old} to move", 15)
    assert stack.ask(new) == [answer]


def test_label_changes_leave_no_gap(start_stack: StartStack, apiserver: ApiServer) -> None:
    stack = start_stack(
        objects=[
            namespace("shop", team="a"),
            service("web", "shop", labels={"tier": "a"}, clusterIP="10.0.2.1"),
            service("api", "shop", labels={"tier": "c"}, clusterIP="10.0.2.2"),
        ],
        zones={
            "tier-a.example": {"selector": "tier=a"},
            "tier-b.example": {"selector": "tier=b"},
            "team-a.example": {"namespace_selector": "team=a"},
            "team-b.example": {"namespace_selector": "team=b"},
        },
    )
    stack.expect("web.shop.tier-a.example", "A", "10.0.2.1")
    relabel(apiserver, service("web", "shop", labels={"tier": "b"}, clusterIP="10.0.2.1"))
    wait_for_move(stack, "web.shop.tier-a.example", "web.shop.tier-b.example", "10.0.2.1")
    relabel(apiserver, service("web", "shop", labels={"tier": "a"}, clusterIP="10.0.2.1"))
    wait_for_move(stack, "web.shop.tier-b.example", "web.shop.tier-a.example", "10.0.2.1")
    stack.expect("api.shop.team-a.example", "A", "10.0.2.2")
    for old, new in (("a", "b"), ("b", "a")):
        relabel(apiserver, namespace("shop", team=new))
        wait_for_move(stack, f"api.shop.team-{old}.example", f"api.shop.team-{new}.example", "10.0.2.2")
        stack.expect(f"web.shop.team-{new}.example", "A", "10.0.2.1")
        stack.expect(f"shop.team-{old}.example", "A", "NXDOMAIN")
        stack.expect(f"shop.team-{new}.example", "A", "NODATA")


def test_addresses_are_answered_in_the_configured_order(start_stack: StartStack) -> None:
    stack = start_stack(
        objects=[
            namespace("shop"),
            service(
                "web",
                "shop",
                type="LoadBalancer",
                clusterIP="10.0.2.1",
                externalIPs=["198.51.100.7", "192.0.2.9"],
                status=["203.0.113.5", "192.0.2.4"],
            ),
            service("inner", "shop", clusterIP="10.0.2.2"),
        ],
        zones={
            "both.example": {"addresses": ["external", "internal"]},
            "swapped.example": {"addresses": ["internal", "external"]},
            "outer.example": {"addresses": ["external"]},
            "inner.example": {"addresses": ["internal"]},
        },
    )
    out = ["203.0.113.5", "192.0.2.4", "198.51.100.7", "192.0.2.9"]
    stack.expect("web.shop.both.example", "A", "10.0.2.1", *out)
    for _ in range(5):
        assert stack.ask("web.shop.both.example") == [*out, "10.0.2.1"]
        assert stack.ask("web.shop.swapped.example") == ["10.0.2.1", *out]
        assert stack.ask("web.shop.outer.example") == out
        assert stack.ask("web.shop.inner.example") == ["10.0.2.1"]
        assert stack.ask("web.shop.both.example", tcp=True) == [*out, "10.0.2.1"]
    assert stack.ask("inner.shop.outer.example") == ["NXDOMAIN"]
    assert stack.ask("inner.shop.both.example") == ["10.0.2.2"]


def test_wildcards_only_where_enabled(start_stack: StartStack, apiserver: ApiServer) -> None:
    namespaces = ["shop", "other"]
    stack = start_stack(
        objects=[
            *map(namespace, namespaces),
            service("web", "shop", clusterIP="10.0.2.1"),
            service("api", "shop", clusterIP="10.0.2.2"),
            service("web", "other", clusterIP="10.0.2.3"),
        ],
        zones={
            "wild.example": {"wildcards": True, "namespaces": namespaces},
            "tame.example": {"namespaces": namespaces},
        },
    )
    stack.expect("*.shop.wild.example", "A", "10.0.2.1", "10.0.2.2")
    stack.expect("any.shop.wild.example", "A", "10.0.2.1", "10.0.2.2")
    stack.expect("web.*.wild.example", "A", "10.0.2.1", "10.0.2.3")
    stack.expect("*.*.wild.example", "A", "10.0.2.1", "10.0.2.2", "10.0.2.3")
    for name in ("none.shop", "none", "web.none", "*.none"):
        assert (name, stack.ask(f"{name}.wild.example")) == (name, ["NXDOMAIN"])
    # CoreDNS's own behaviour: an unmatched name beside others is NODATA, and the keys of addresses match as
    # labels below their name
    assert stack.ask("x.*.shop.wild.example") == ["NODATA"]
    assert stack.ask("*.web.shop.wild.example") == ["10.0.2.1"]
    for rtype in ("A", "AAAA", "SRV", "TXT", "CNAME", "NS"):
        for name in ("shop", "other"):
            assert (name, rtype, stack.ask(f"{name}.wild.example", rtype)) == (name, rtype, ["NODATA"])
    assert stack.ask("wild.example") == ["NODATA"]
    # new Services appear, but not in an unselected namespace
    apiserver.apply_all([namespace("third"), service("web", "third", clusterIP="10.0.2.9")])
    apiserver.apply(service("new", "shop", clusterIP="10.0.2.4"))
    stack.expect("*.shop.wild.example", "A", "10.0.2.1", "10.0.2.2", "10.0.2.4")
    stack.expect("web.*.wild.example", "A", "10.0.2.1", "10.0.2.3")
    for name in ("*.shop", "any.shop", "web.*", "web.any", "*", "*.*", "none.shop"):
        assert (name, stack.ask(f"{name}.tame.example")) == (name, ["NXDOMAIN"])
    # ordinary names are unaffected
    assert stack.ask("web.shop.wild.example") == ["10.0.2.1"]
    assert stack.ask("x.web.shop.wild.example") == ["NXDOMAIN"]
    assert stack.ask("shop.wild.example") == ["NODATA"]
    assert stack.ask("*.shop.svc.cluster.local") == ["NXDOMAIN"]


def test_alias_shows_nothing_below_its_target(start_stack: StartStack) -> None:
    stack = start_stack(
        *("--domains", "ext.cluster.local", "--dns-endpoints"),
        objects=[
            dns_endpoint_crd(),
            *map(namespace, ("shop", "bank")),
            service("vault", "bank", clusterIP="10.0.2.1", externalIPs=["192.0.2.1"]),
            service(
                "balanced", "shop", type="LoadBalancer", status=["any.bank.outer.example", "lb.example.com"]
            ),
            external("to-service", "vault.bank.svc.cluster.local", "shop"),
            external("to-namespace", "bank.svc.cluster.local", "shop"),
            external("to-all", "svc.cluster.local", "shop"),
            external("to-pods", "bank.pod.cluster.local", "shop"),
            external("to-dns", "dns.cluster.local", "shop"),
            external("to-zone", "cluster.local", "shop"),
            external("to-selected", "vault.bank.shop.cluster.local", "shop"),
            external("to-selected-namespace", "bank.shop.cluster.local", "shop"),
            external("to-domain", "app.ext.cluster.local", "shop"),
            external("within", "bank.team.example", "shop"),
            external("chain", "to-all.shop.svc.cluster.local", "shop"),
            dns_endpoint(
                "one",
                endpoint("app.ext.cluster.local", "A", "10.0.3.1"),
                endpoint("below.app.ext.cluster.local", "A", "10.0.3.2"),
                endpoint("www.ext.cluster.local", "CNAME", "app.ext.cluster.local"),
            ),
        ],
        zones={
            "shop.cluster.local": {"addresses": ["internal"]},
            "team.example": {"addresses": ["internal"]},
            "outer.example": {"addresses": ["external"]},
        },
    )
    # a wildcard as target would expose addresses of other Services
    stack.expect("balanced.shop.outer.example", "A", "lb.example.com.")
    stack.expect("to-service.shop.svc.cluster.local", "A", "vault.bank.svc.cluster.local.", "10.0.2.1")
    stack.expect("to-selected.shop.svc.cluster.local", "A", "vault.bank.shop.cluster.local.", "10.0.2.1")
    stack.expect("www.ext.cluster.local", "A", "app.ext.cluster.local.", "10.0.3.1")
    for alias, target in [
        ("to-namespace.shop.svc.cluster.local", "bank.svc.cluster.local."),
        ("to-all.shop.svc.cluster.local", "svc.cluster.local."),
        ("to-pods.shop.svc.cluster.local", "bank.pod.cluster.local."),
        ("to-dns.shop.svc.cluster.local", "dns.cluster.local."),
        ("to-zone.shop.svc.cluster.local", "cluster.local."),
        ("to-selected-namespace.shop.svc.cluster.local", "bank.shop.cluster.local."),
        ("to-domain.shop.svc.cluster.local", "app.ext.cluster.local."),
        ("within.shop.team.example", "bank.team.example."),
        ("chain.shop.svc.cluster.local", "to-all.shop.svc.cluster.local."),
    ]:
        stack.expect(alias, "CNAME", target)
        for rtype in ("A", "AAAA", "SRV", "TXT"):
            assert (alias, rtype, stack.ask(alias, rtype)) == (alias, rtype, ["NODATA"])


WEB = "web.stage.example"


def test_next_claimant_takes_over_without_a_gap(start_stack: StartStack, apiserver: ApiServer) -> None:
    """An alias, then a cluster IP with ports, then an alias: only the current claimant is published."""
    alias = {"ports": (), "type": "ExternalName", "externalName": "db.stage.example"}
    first, third = (service("web", one, **alias) for one in ("a", "c"))  # type: ignore[arg-type]
    second = service("web", "b", clusterIP="10.0.2.2")
    objects = [*map(namespace, "abc"), service("db", "a", clusterIP="10.0.2.1"), first, second, third]
    stack = start_stack(objects=objects, zones={"stage.example": {"name": "{service}"}})
    prefix = "/skydns/example/stage/web"
    with asked_all_the_time(questions_to(stack.dns, (WEB, "A")), at_least=20):
        stack.expect(WEB, "CNAME", "db.stage.example.")
        assert sorted(stack.etcd.dump(prefix)) == [prefix, f"{prefix}/C"]
        assert stack.ask(WEB, "SRV") != ["0 100 80 web.stage.example."]
        apiserver.delete(first)
        stack.expect(WEB, "A", "10.0.2.2")
        assert stack.ask(WEB, "CNAME") == ["NODATA"]
        assert stack.ask(f"_http._tcp.{WEB}", "SRV") == [f"0 100 80 {WEB}."]
        apiserver.delete(second)
        stack.expect(WEB, "CNAME", "db.stage.example.")
        assert sorted(stack.etcd.dump(prefix)) == [prefix, f"{prefix}/C"]
        assert stack.ask(f"_http._tcp.{WEB}", "SRV") == ["NXDOMAIN"]
    apiserver.delete(third)
    stack.expect(WEB, "A", "NXDOMAIN")
