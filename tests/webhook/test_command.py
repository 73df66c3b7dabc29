"""Settings with which `webhook` refuses to start."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from kube2etcd.cli import main
from kube2etcd.errors import SettingsError
from kube2etcd.external import Domain, Endpoint
from kube2etcd.kube.objects import Changed, DnsEndpoint, Event, Listed, Metadata
from kube2etcd.settings import Settings, load
from kube2etcd.sync.events import EventQueue, Rezoned
from kube2etcd.webhook.app import KIND, Feed, check, cleanup, serve
from kube2etcd.webhook.state import State
from kube2etcd.webhook.state_file import FileState
from tests.webhook.fakes import Client, a


def test_without_a_place_to_publish_it_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nowhere to publish"):
        check(load({}, {}), with_etcd=False)
    check(load({}, {}), with_etcd=True)
    check(load({"hosts_file": str(tmp_path / "hosts")}, {}), with_etcd=False)
    # to the bridges that read the objects
    check(load({"state_objects": "external-dns"}, {}), with_etcd=False)


def test_cleanup_needs_a_place() -> None:
    with pytest.raises(SettingsError, match="nothing is named to take names out of"):
        cleanup(load({}, {}), with_etcd=False)


def test_the_state_prefix_must_be_outside_the_served_keys() -> None:
    with pytest.raises(SettingsError, match="among the keys of /skydns"):
        check(load({"state_prefix": "/skydns/state"}, {}), with_etcd=True)


@pytest.mark.parametrize("spoil", [False, True])
def test_cleanup_removes_a_torn_block(tmp_path: Path, spoil: bool) -> None:
    hosts, kept = tmp_path / "hosts", tmp_path / "state.json"
    hosts.write_bytes(b"one\n# BEGIN kube2etcd\n10.0.0.1 a.dtk.io\n10.0.0.2 b.late.io\n10.0.0.9 printer\n")
    FileState(kept).save(State(domains=(Domain.parse("late.io"),)), 0)
    if spoil:
        kept.write_text("{")
    settings = load({"hosts_file": str(hosts), "state_file": str(kept), "domains": "dtk.io"}, {})
    cleanup(settings, with_etcd=False)
    left = b"10.0.0.2 b.late.io\n" if spoil else b""
    assert hosts.read_bytes() == b"one\n" + left + b"10.0.0.9 printer\n"
    assert not kept.exists()


def said(*args: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Settings, bool]:
    """What the command line comes to: settings, and whether there is an etcd."""
    found: list[tuple[Settings, bool]] = []

    def serve(settings: Settings, *, with_etcd: bool, **_: object) -> None:
        found.append((settings, with_etcd))
        raise SystemExit(0)

    monkeypatch.setattr("kube2etcd.webhook.app.serve", serve)
    assert CliRunner().invoke(main, ["webhook", *args]).exit_code == 0
    return found[0]


def test_the_command_line_of_desktop_kubernetes(monkeypatch: pytest.MonkeyPatch) -> None:
    dtk = ("--cluster-ip=192.168.122.167", "--port=5000", "--domains=dtk.io,mydomain.io")
    settings, with_etcd = said(*dtk, "--hosts-file", "/etc/hosts", monkeypatch=monkeypatch)
    assert not with_etcd
    assert list(map(str, settings.webhook.cluster_ip)) == ["192.168.122.167"]
    assert list(map(str, settings.domains)) == ["dtk.io", "mydomain.io"]
    assert (settings.webhook.bind, settings.webhook.port) == ("127.0.0.1", 5000)
    assert settings.webhook.hosts_file == "/etc/hosts"


def test_a_missing_folder_of_the_hosts_file_is_an_error(tmp_path: Path) -> None:
    settings = load({"hosts_file": str(tmp_path / "none" / "hosts")}, {})
    with pytest.raises(SettingsError, match=r"there is no folder .*none; make it, or write another"):
        serve(settings, with_etcd=False)
    # to take out what is not there is no fault
    cleanup(
        load({"hosts_file": str(tmp_path / "none" / "hosts"), "state_file": str(tmp_path / "s")}, {}),
        with_etcd=False,
    )


def test_names_that_come_from_the_api_server_are_not_sent() -> None:
    settings = load({"dns_endpoints": True, "domains": ("dtk.io",), "state_objects": "default"}, {})
    queue = EventQueue()
    feed = Feed(settings, queue)
    client = Client(feed=feed)
    assert (feed.kinds, feed.late) == ((), (KIND,))
    assert client.apply(create=[a("a.dtk.io")]) == 204
    assert [event for event in queue.drain(0.1) if not isinstance(event, Rezoned)] == [Listed(KIND, ())]


def test_a_stored_domain_that_has_become_a_zone_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text("zones: [{zone: shop.example}]")
    client = Client(feed=Feed(load({}, {}, config), EventQueue()))
    client.provider.add_domains([Domain.parse("shop.example")])
    assert caplog.messages == [
        "the domain shop.example is not served: POST /domains and zones[0].zone are both the zone"
        " shop.example; give each its own name"
    ]


def test_names_are_sent_as_a_list_first_and_after_a_relist_then_one_by_one() -> None:
    queue = EventQueue()
    client = Client(feed=Feed(Settings(), queue))
    assert client.apply(create=[a("a.dtk.io"), a("b.dtk.io", "x")]) == 204
    assert client.apply(delete=[a("a.dtk.io")]) == 204
    client.provider.relist()
    client.provider.repair()
    one = DnsEndpoint(Metadata("", "a.dtk.io"), (Endpoint("a.dtk.io", ("10.0.0.5",), "A"),))
    why = "A: 'x': 'x' is not an IP address"
    refused = DnsEndpoint(Metadata("", "b.dtk.io"), (), {"b.dtk.io": why})
    assert [event for event in queue.drain(0.1) if not isinstance(event, Rezoned)] == [
        Listed(KIND, []),
        Changed(KIND, Event("MODIFIED", one, "", "a.dtk.io")),
        Changed(KIND, Event("MODIFIED", refused, "", "b.dtk.io")),
        Changed(KIND, Event("DELETED", None, "", "a.dtk.io")),
        Listed(KIND, [refused]),
    ]
