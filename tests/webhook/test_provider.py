"""The provider: nothing is acknowledged before it is stored, and failures leave the state unchanged."""

import threading
from typing import Any

import pytest

from kube2etcd.external import Endpoint, parse_cluster_address
from kube2etcd.webhook.provider import Unavailable
from kube2etcd.webhook.state import Changes, NotStored, Overtaken, State
from tests.webhook.fakes import Client, a, alias

ENDPOINT = Endpoint("other.dtk.io", ("10.0.0.9",), "A")
TEXT = {"dnsName": "t.dtk.io", "targets": ["x"], "recordType": "TXT"}


@pytest.fixture
def client() -> Client:
    """A client with one endpoint."""
    found = Client()
    assert found.apply(create=[a("foo.dtk.io")]) == 204
    return found


def failing(count: int, error: Exception, then: Any) -> Any:
    """A function that raises at its first ``count`` calls and then calls ``then``."""
    failures = [error] * count

    def call(*given: object) -> Any:
        if failures:
            raise failures.pop()
        return then(*given)

    return call


def test_all_calls_are_503_before_the_state_is_loaded() -> None:
    client = Client()
    client.store.outage = "etcd is unavailable"
    client.start()
    for method, path in [("GET", "/"), ("GET", "/records"), ("GET", "/domains"), ("GET", "/clusterip")]:
        answer = client.call(method, path)
        assert answer.status_code == 503
        assert answer.json == {"error": "etcd is unavailable"}
    assert client.apply(create=[a("foo.dtk.io")]) == 503
    assert client.call("POST", "/adjustendpoints", b"[]").status_code == 503
    assert client.call("POST", "/domains", b"x.io").status_code == 503
    assert client.provider.conditions() == ["etcd is unavailable"]
    client.store.outage = ""
    client.provider.repair()
    assert client.provider.conditions() == []
    assert client.apply(create=[a("foo.dtk.io")]) == 204


def test_change_that_cannot_be_stored_is_not_applied(client: Client) -> None:
    client.store.outage = "etcd is unavailable"
    assert client.apply(create=[a("bar.dtk.io")]) == 503
    assert client.call("POST", "/domains", b"x.io").status_code == 503
    assert client.call("POST", "/clusterip", b"192.0.2.1").status_code == 503
    assert client.records() == [a("foo.dtk.io")]
    assert client.call("GET", "/").json == {"include": ["dtk.io"]}
    assert client.hosts.lines == [("foo.dtk.io", "10.0.0.5")]
    assert client.provider.conditions() == ["etcd is unavailable"]
    client.store.outage = ""
    client.provider.repair()
    assert client.provider.conditions() == []
    assert client.apply(create=[a("bar.dtk.io")]) == 204


def test_change_that_cannot_be_published_is_not_applied(client: Client) -> None:
    client.hosts.outage = "the hosts file is read-only"
    assert client.apply(create=[a("bar.dtk.io")]) == 503
    assert client.records() == [a("foo.dtk.io")]
    assert client.provider.conditions() == ["the hosts file is read-only"]
    client.start()
    assert client.records() == [a("foo.dtk.io")]
    # Changes that do not touch the file are still accepted.
    client.provider.repair()
    assert client.provider.conditions() == []
    assert client.apply(create=[TEXT]) == 204


def test_unwritable_hosts_file_or_store_is_reported_before_the_first_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = Client()
    monkeypatch.setattr(client.hosts, "fault", lambda: "there is no folder")
    client.start()
    assert client.provider.conditions() == ["there is no folder"]
    assert client.apply(create=[TEXT]) == 204
    assert client.provider.conditions() == ["there is no folder"]
    monkeypatch.undo()
    client.provider.repair()
    assert client.provider.conditions() == []
    monkeypatch.setattr(client.store, "check", failing(1, NotStored("there is no room"), None))
    client.start()
    assert client.provider.conditions() == ["there is no room"]
    assert client.records() == [TEXT]


def test_unwritable_hosts_file_does_not_block_keys(client: Client) -> None:
    client.hosts.lines, client.hosts.outage = [], "the hosts file is read-only"
    client.published.clear()
    client.start()
    assert client.provider.conditions() == ["the hosts file is read-only"]
    assert [list(names) for names, *_ in client.published] == [["foo.dtk.io"]]
    saves = client.store.saves
    assert client.apply() == 503
    assert client.store.saves == saves, "no rollback needed"


def test_failed_rollback_is_retried(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:

    def fail(*_: object) -> bool:
        client.store.outage = "etcd is unavailable"
        raise Unavailable("the hosts file is read-only")

    monkeypatch.setattr(client.hosts, "write", fail)
    assert client.apply(create=[a("bar.dtk.io")]) == 503
    assert sorted(client.provider.conditions()) == ["etcd is unavailable", "the hosts file is read-only"]
    monkeypatch.undo()
    client.store.outage = ""
    client.provider.repair()
    client.start()
    assert client.records() == [a("foo.dtk.io")]


def test_repeated_call_is_stored_again_only_after_a_failure(client: Client) -> None:
    saves = client.store.saves
    assert client.apply(create=[a("foo.dtk.io")]) == 204
    assert client.apply() == 204
    assert client.store.saves == saves
    client.store.outage = "etcd is unavailable"
    client.provider.repair()
    assert client.apply(create=[a("foo.dtk.io")]) == 503
    client.store.outage = ""
    assert client.apply(create=[a("foo.dtk.io")]) == 204


def test_state_of_another_writer_is_adopted() -> None:
    client = Client(cluster=parse_cluster_address("10.1.1.1"))
    assert client.call("POST", "/clusterip", b"192.0.2.1").status_code == 200
    state = State({ENDPOINT.key: ENDPOINT}, (), parse_cluster_address("192.0.2.1"))
    client.store.check = lambda *_: state  # type: ignore[method-assign]
    client.provider.repair()
    assert client.records() == [a("other.dtk.io", "10.0.0.9")]
    assert client.hosts.lines == [("other.dtk.io", "10.0.0.9")]
    assert client.call("GET", "/clusterip").json == "192.0.2.1"


def test_internal_error_in_a_repair_is_reported_and_retried(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client.store, "check", failing(1, RecursionError(), client.store.check))
    client.provider.repair()
    assert "internal error" in client.provider.conditions()[0]
    assert client.call("GET", "/records").status_code == 200
    client.provider.repair()
    assert client.provider.conditions() == []


def test_call_that_waits_too_long_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    monkeypatch.setattr("kube2etcd.webhook.provider.ANSWER_WITHIN", 3.01)
    inside, done = threading.Event(), threading.Event()

    def slow(state: State, deadline: float) -> None:
        inside.set()
        done.wait(60)

    monkeypatch.setattr(client.store, "save", slow)
    first = threading.Thread(target=client.apply, kwargs={"create": [a("foo.dtk.io")]})
    first.start()
    assert inside.wait(60)
    with pytest.raises(Unavailable, match="other calls"):
        client.provider.apply(Changes())
    assert client.call("GET", "/records").status_code == 200
    done.set()
    first.join()


@pytest.mark.parametrize(("times", "conditions"), [(1, []), (2, ["another webhook wrote first"])])
def test_overtaken_repair(
    client: Client, monkeypatch: pytest.MonkeyPatch, times: int, conditions: list[str]
) -> None:
    overtaken = failing(times, Overtaken("another webhook wrote first"), client.store.check)
    monkeypatch.setattr(client.store, "check", overtaken)
    client.provider.repair()
    assert client.provider.conditions() == conditions
    client.provider.repair()
    assert client.provider.conditions() == []


def test_warnings_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    client = Client()
    assert client.apply(create=[a("*.dtk.io"), alias("x.dtk.io", "y.example")]) == 204
    client.provider.repair()
    assert client.apply(updateNew=[a("*.dtk.io", "10.0.0.9")]) == 204
    assert len([one for one in caplog.records if "is not in the hosts file" in one.message]) == 2


def test_endpoints_and_refusals_are_counted() -> None:
    client = Client()
    skipped = 'skipped_endpoints_total{{reason="{}"}}'.format
    assert client.apply(create=[a("foo.dtk.io"), a("bar.dtk.io", "10.0.0.5", "x"), a("evil.io")]) == 204
    assert (client.metric("endpoints"), client.metric("domains")) == (2, 1)
    assert (client.metric(skipped("domain")), client.metric(skipped("targets"))) == (1, None)
    client.store.outage = "etcd is unavailable"
    assert client.apply(create=[a("evil.io"), a("baz.dtk.io")]) == 503
    assert client.metric(skipped("domain")) == 1
    client.store.outage = ""
    assert client.call("POST", "/domains", b"x.io").status_code == 200
    assert client.apply(delete=[a("foo.dtk.io")]) == 204
    assert (client.metric("endpoints"), client.metric("domains")) == (1, 2)


def test_overtaken_call_is_applied_to_the_other_writers_state(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    assert client.apply(create=[a("mine.dtk.io"), a("old.dtk.io")]) == 204
    save, other = client.store.save, State({ENDPOINT.key: ENDPOINT})
    monkeypatch.setattr(client.store, "save", failing(1, Overtaken("another webhook wrote first"), save))
    monkeypatch.setattr(client.store, "check", lambda _state, _deadline: other)
    assert client.apply(create=[a("new.dtk.io")], delete=[a("old.dtk.io")]) == 204
    assert client.provider.conditions() == []
    assert sorted(one["dnsName"] for one in client.records()) == ["new.dtk.io", "other.dtk.io"]
    assert [name for name, _ in client.hosts.lines] == ["new.dtk.io", "other.dtk.io"]
    # It is retried once only: the client will repeat the call.
    monkeypatch.setattr(client.store, "save", failing(2, Overtaken("another webhook wrote first"), save))
    assert client.apply(create=[a("newer.dtk.io")]) == 503
    assert client.provider.conditions() == ["another webhook wrote first"]
    assert [one["dnsName"] for one in client.records()] == ["other.dtk.io"]
