"""Bridges on one etcd cluster: one writes, another takes over, a former leader cannot write."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kube2etcd.errors import EtcdDeposed
from kube2etcd.etcd.changes import Put
from kube2etcd.etcd.election import BLIND_AFTER, Election
from kube2etcd.etcd.store import EtcdStore
from tests.stack.faults import HERE, Proxy, Run, create_and_wait, same_keys
from tests.stack.harness import SLOW, ApiServer, Binaries, Bridge, Etcd, EtcdCluster, wait_for
from tests.stack.objects import endpoints, service, services
from tests.stack.webhook import Webhook, a

#: Guaranteed seconds from the leader's end to the next leader's writes.
TAKEOVER = 10.0
ELECT = ("--leader-elect",)


def wait_for_leader(*bridges: Bridge) -> Bridge:
    """Wait for exactly one leader; returns it."""

    def find() -> Bridge | None:
        found = [bridge for bridge in bridges if bridge.metric("kube2etcd_leader") == 1]
        return found[0] if len(found) == 1 else None

    return wait_for(find, "one leader", 15)


@pytest.mark.parametrize("end", ["killed", "stopped"])
def test_standby_takes_over(end: str, apiserver: ApiServer, etcd: Etcd, run: Run) -> None:
    one = run(*ELECT, objects=services(5))
    two = run(*ELECT, name="second")
    first = wait_for_leader(one, two)
    second = two if first is one else one
    assert "standing by" in second.readyz()
    assert "standing by" not in first.readyz()
    assert second.metric("kube2etcd_writes_total") == 0
    create_and_wait(apiserver, etcd, "before", 5)
    if end == "killed":
        first.kill()
    else:
        assert first.stop(5 * SLOW) == 0
    create_and_wait(apiserver, etcd, "after", TAKEOVER)
    assert second.ready()
    # the restarted one stands by
    first.start()
    first.wait_ready()
    assert wait_for_leader(one, two) is second


def test_leader_that_does_not_follow_the_cluster_is_relieved(
    apiserver: ApiServer, etcd: Etcd, proxy: Proxy, run: Run
) -> None:
    """One that never listed it, and one that lost the API server."""
    proxy.fault("services", status=403)
    blind = run(*ELECT, kubeconfig=proxy.kubeconfig, name="blind", ready=False)
    assert wait_for_leader(blind) is blind
    other = run(*ELECT, name="other", ready=False)
    other.wait_ready(BLIND_AFTER + TAKEOVER)
    create_and_wait(apiserver, etcd, "web")
    assert wait_for_leader(blind, other) is other
    proxy.mend()
    blind.wait_ready(40)
    other.kill()
    assert wait_for_leader(blind) is blind
    proxy.fault("*", status=403)
    proxy.fault("*", status=403, watch=True)
    proxy.break_watches()
    other.start()
    create_and_wait(apiserver, etcd, "later", BLIND_AFTER + TAKEOVER)
    assert wait_for_leader(blind, other) is other


def test_paused_leader_does_not_write_after_a_takeover(apiserver: ApiServer, etcd: Etcd, run: Run) -> None:
    apiserver.apply_all([*services(5), service("head", clusterIP="None"), endpoints("head", "10.8.0.1")])
    apiserver.apply_all([endpoints("s001", "10.8.0.2"), endpoints("s002", "10.8.0.3")])
    # the two name endpoints differently, so each would repair what the other writes
    one = run(*ELECT, "--endpoint-names", "all", "--resync-period", "1")
    assert wait_for_leader(one) is one
    its_own = etcd.dump(HERE)
    two = run(*ELECT, name="second", ready=False)
    two.wait_readyz("standing by", 10)
    assert etcd.dump(HERE) == its_own
    one.pause()
    two.wait_ready(TAKEOVER)
    its_other = etcd.dump(HERE)
    assert its_other != its_own
    revision = etcd.revision()
    one.resume()
    one.full_passes(3)
    assert one.metric("kube2etcd_leader") == 0
    # after a grace period for the new leader, it reports that the keys are not the ones it wants
    wait_for(lambda: not one.ready(), "the former leader to be unready", TAKEOVER + 5)
    assert etcd.dump(HERE) == its_other
    assert etcd.revision() == revision
    create_and_wait(apiserver, etcd, "later", 5)


@pytest.fixture
def cluster(binaries: Binaries, tmp_path: Path) -> Iterator[EtcdCluster]:
    with EtcdCluster([Etcd(tmp_path, binaries, name=f"etcd{number}") for number in range(3)]) as cluster:
        yield cluster


@pytest.mark.parametrize("elect", [False, True])
def test_writes_continue_without_one_etcd_member(
    elect: bool, cluster: EtcdCluster, apiserver: ApiServer, run: Run
) -> None:
    apiserver.apply_all(services(20))
    servers = [option for member in cluster.members[1:] for option in ("--etcd-server", member.url)]
    options = (*servers, *(ELECT if elect else ()))
    bridge = run(*options, etcd=cluster.members[0])
    killed = cluster.leader()
    before = killed.dump("/skydns")
    killed.kill()
    witness = next(member for member in cluster.members if member is not killed)
    create_and_wait(apiserver, witness, "meanwhile", TAKEOVER)
    bridge.wait_ready(10)
    after = witness.dump("/skydns")
    assert {key: after.get(key) for key in before} == before
    killed.start()
    silent = cluster.leader()
    silent.pause()
    try:
        witness = next(member for member in cluster.members if member not in (killed, silent))
        create_and_wait(apiserver, witness, "later", 25)
        bridge.wait_ready(10)
    finally:
        silent.resume()
    same_keys(silent, witness.dump("/skydns"), 10)


def disputes(bridge: Bridge) -> bool:
    answer = bridge.get("/readyz")
    return answer.status_code == 503 and "--owner-id" in answer.text


def test_two_bridges_with_one_owner_id_notice_each_other(apiserver: ApiServer, etcd: Etcd, run: Run) -> None:
    apiserver.apply_all(services(12))
    zones = {"one.test": "/skydns/test/one", "two.test": "/skydns/test/two"}

    def total(metric: str, *bridges: Bridge) -> float:
        return sum(bridge.metric(f"kube2etcd_{metric}_total") for bridge in bridges)

    one = run("--domain", "one.test", ready=False)
    two = run("--domain", "two.test", name="second", ready=False)
    wait_for(lambda: disputes(one) and disputes(two), "both to notice", 60)
    before, lists, began = total("writes", one, two), total("lists", one, two), time.monotonic()
    wait_for(lambda: all(len(etcd.dump(place)) >= 24 for place in zones.values()), "the names of both", 10)
    apiserver.apply(service("late"))
    for place in zones.values():
        wait_for(lambda place=place: [k for k in etcd.dump(place) if "/late" in k], "the late one", 10)  # type: ignore[misc]
    # two keys per name and zone, contested PTRs, and one key that is retried now and then
    assert total("writes", one, two) - before <= 24 + (time.monotonic() - began)
    assert total("lists", one, two) <= lists + 6, "reverted deletions need no second list"
    assert disputes(one)
    assert disputes(two)
    assert two.stop(5 * SLOW) == 0
    one.wait_ready(60)
    # Ready at once, but so many deletions wait for a second list.
    wait_for(lambda: not etcd.dump(zones["two.test"]), "the names of the other to go", 10)
    assert [key for key in etcd.dump(zones["one.test"]) if "/late" in key]


def test_bridges_with_an_owner_id_each_share_the_reverse_zones(
    apiserver: ApiServer, etcd: Etcd, run: Run
) -> None:
    apiserver.apply_all(services(12))
    address = apiserver.get("v1", "Service", "s000")["spec"]["clusterIP"]
    key = "/skydns/arpa/in-addr/" + address.replace(".", "/")

    def pointers() -> dict[str, str]:
        return {one: value for one, value in etcd.dump("/skydns/arpa").items() if "owner" in value}

    early = run("--domain", "early.test", "--owner-id", "early", "--resync-period", "1")
    late = run("--domain", "late.test", "--owner-id", "late", "--resync-period", "1", name="second")
    # the API server's own Service, too
    wait_for(lambda: late.metric("kube2etcd_contested_keys") >= 13, "the late one to yield", 30)
    assert late.ready()
    assert early.ready()
    revision = etcd.revision()
    for bridge in (early, late):
        bridge.full_passes(2)
    assert etcd.revision() == revision
    assert all('"early"' in value for value in pointers().values())
    assert "early.test" in pointers()[key]
    assert early.metric("kube2etcd_contested_keys") == 0
    early.stop()
    etcd.delete(key)
    wait_for(lambda: "late.test" in pointers().get(key, ""), "the key, now that nobody has it", 10)


def test_two_webhooks_with_one_owner_id_notice_each_other(etcd: Etcd, tmp_path: Path) -> None:
    def webhook(domain: str) -> Webhook:
        options = ["--domains", domain, "--etcd-server", etcd.url, "--state-prefix", f"/state/{domain}"]
        return Webhook(tmp_path / domain, options)

    with webhook("one.test") as one, webhook("two.test") as two:
        both = {"one": one, "two": two}

        def post(name: str) -> None:
            for domain, each in both.items():
                new = a(f"{name}.{domain}.test", "10.0.0.1")
                wait_for(lambda each=each, new=new: each.apply(create=[new]) == 204, name, 20)  # type: ignore[misc]

        post("first")
        wait_for(lambda: all(map(disputes, both.values())), "both to notice", 60)
        post("second")
        wanted = {f"/skydns/test/{domain}/{name}" for domain in both for name in ("first", "second")}
        wait_for(
            lambda: wanted <= {key.partition("/own_")[0] for key in etcd.dump("/skydns/test")},
            "all names",
            20,
        )


KEY = b"/kube2etcd/leader/skydns/test"
CHANGE = [[(Put(b"/skydns/a", b"1"),)]]


@pytest.fixture
def candidates(etcd: Etcd) -> Iterator[Callable[[str], Election]]:
    made: list[Election] = []

    def candidate(name: str) -> Election:
        one = Election(etcd.connection(timeout=2), KEY, name, changed=lambda: None)
        made.append(one)
        one.start()
        return one

    yield candidate
    for one in made:
        one.stop()


def wait_until_leading(one: Election, deadline_s: float = 10.0) -> None:
    wait_for(lambda: not one.standing_by(), "it to lead", deadline_s)


@pytest.mark.parametrize("etcd", [(), "3.4"], indirect=True, ids=["3.7", "3.4"])
def test_former_leader_is_fenced(
    etcd: Etcd, candidates: Callable[[str], Election], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = candidates("first")
    wait_until_leading(first)
    stale = first.guard()
    with etcd.connection() as connection:
        store = EtcdStore(connection, b"/skydns/", election=first)
        assert store.apply(CHANGE).written == 1
        first.stop()
        second = candidates("second")
        wait_until_leading(second)
        revision = etcd.revision()
        # as if paused between guard and write
        monkeypatch.setattr(first, "guard", lambda: stale)
        with pytest.raises(EtcdDeposed):
            store.apply(CHANGE)
        with pytest.raises(EtcdDeposed):
            store.apply([[tuple(Put(b"/skydns/%d" % one, b"x") for one in range(300))]])
        assert etcd.revision() == revision


def test_former_leader_is_fenced_after_data_loss(
    etcd: Etcd, candidates: Callable[[str], Election], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = candidates("first")
    wait_until_leading(first)
    stale = first.guard()
    first.stop()
    etcd.wipe()
    second = candidates("second")
    wait_until_leading(second)
    assert second.guard().create_revision == stale.create_revision, "revisions restart"
    monkeypatch.setattr(first, "guard", lambda: stale)
    with etcd.connection() as connection:
        # as if paused before its first transaction
        with pytest.raises(EtcdDeposed):
            EtcdStore(connection, b"/skydns/", election=first).apply(CHANGE)
        assert etcd.dump("/skydns") == {}
        assert EtcdStore(connection, b"/skydns/", election=second).apply(CHANGE).written == 1


@pytest.mark.parametrize("loss", ["key", "data", "restart"])
def test_election_recovers_from_losses(loss: str, etcd: Etcd, candidates: Callable[[str], Election]) -> None:
    only = candidates("only")
    wait_until_leading(only)
    if loss == "key":
        etcd.delete(KEY.decode())
        wait_for(lambda: KEY.decode() in etcd.dump("/kube2etcd"), "the key to be back", 10)
    elif loss == "data":
        etcd.wipe()
    else:
        etcd.restart()
    with etcd.connection() as connection:
        store = EtcdStore(connection, b"/skydns/", election=only)
        wait_for(lambda: store.apply(CHANGE).written, "it to write again", 10, not_yet=(EtcdDeposed,))
