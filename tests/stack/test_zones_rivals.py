"""Services that compete for a name in a zone named by Service alone."""

from __future__ import annotations

from collections.abc import Callable

from tests.stack.harness import ApiServer
from tests.stack.objects import namespace, service
from tests.stack.test_guarantee_no_gap import asked_all_the_time
from tests.stack.zoned import Zoned

WEB = "web.stage.example"


def test_one_has_the_name_and_the_next_takes_over_without_a_gap(
    start: Callable[..., Zoned], apiserver: ApiServer
) -> None:
    """An alias, then addresses with ports, then an alias: whose turn it is the others do not show."""
    alias = {"ports": (), "type": "ExternalName", "externalName": "db.stage.example"}
    first, third = (service("web", one, **alias) for one in ("a", "c"))  # type: ignore[arg-type]
    second = service("web", "b", clusterIP="10.0.2.2")
    apiserver.apply_all(
        [*map(namespace, "abc"), service("db", "a", clusterIP="10.0.2.1"), *(first, second, third)]
    )
    zoned = start(config={"zones": [{"zone": "stage.example", "name": "{service}"}]})
    prefix = "/skydns/example/stage/web"
    with asked_all_the_time(zoned.dns, [(WEB, "A")], at_least=20):
        zoned.expect(WEB, "CNAME", "db.stage.example.")
        assert sorted(zoned.etcd.dump(prefix)) == [prefix, f"{prefix}/C"]
        assert zoned.ask(WEB, "SRV") != ["0 100 80 web.stage.example."]
        apiserver.delete(first)
        zoned.expect(WEB, "A", "10.0.2.2")
        assert zoned.ask(WEB, "CNAME") == ["NODATA"]
        assert zoned.ask(f"_http._tcp.{WEB}", "SRV") == [f"0 100 80 {WEB}."]
        apiserver.delete(second)
        zoned.expect(WEB, "CNAME", "db.stage.example.")
        assert sorted(zoned.etcd.dump(prefix)) == [prefix, f"{prefix}/C"]
        assert zoned.ask(f"_http._tcp.{WEB}", "SRV") == ["NXDOMAIN"]
    apiserver.delete(third)
    zoned.expect(WEB, "A", "NXDOMAIN")
