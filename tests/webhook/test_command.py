"""Settings with which `webhook` refuses to start."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from kube2etcd.app.run import check
from kube2etcd.cli import main
from kube2etcd.errors import SettingsError
from kube2etcd.external import Domain, Endpoint
from kube2etcd.kube.objects import Changed, DnsEndpoint, Event, Listed, Metadata
from kube2etcd.settings import Settings, load
from kube2etcd.sync.events import EventQueue, Rezoned
from kube2etcd.webhook.app import KIND, Feed, alone, cleanup
from kube2etcd.webhook.state import State
from kube2etcd.webhook.state_file import FileState
from tests.webhook.fakes import Client, a


def given(*, with_etcd: bool = False, **options: str) -> Settings:
    return alone(load(options, {}), with_etcd=with_etcd)


def test_without_a_place_to_publish_it_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nowhere to publish"):
        check(given())
    check(given(with_etcd=True))
    check(given(hosts_file=str(tmp_path / "hosts"), state_file=str(tmp_path / "state")))
    # to the bridges that read the objects
    check(given(state_objects="external-dns", kube_master_url="https://192.0.2.1"))


def test_cleanup_needs_a_place() -> None:
    with pytest.raises(SettingsError, match="nothing is named to take names out of"):
        cleanup(given())


def test_the_state_prefix_must_be_outside_the_served_keys() -> None:
    with pytest.raises(SettingsError, match="among the keys of /skydns"):
        check(given(state_prefix="/skydns/state", with_etcd=True))


@pytest.mark.parametrize("spoil", [False, True])
def test_cleanup_removes_a_torn_block(tmp_path: Path, spoil: bool) -> None:
    hosts, kept = tmp_path / "hosts", tmp_path / "state.json"
    hosts.write_bytes(b"one\n# BEGIN kube2etcd\n10.0.0.1 a.dtk.io\n10.0.0.2 b.late.io\n10.0.0.9 printer\n")
    FileState(kept).save(State(domains=(Domain.parse("late.io"),)), 0)
    if spoil:
        kept.write_text("{")
    cleanup(given(hosts_file=str(hosts), state_file=str(kept), domains="dtk.io"))
    left = b"10.0.0.2 b.late.io\n" if spoil else b""
    assert hosts.read_bytes() == b"one\n" + left + b"10.0.0.9 printer\n"
    assert not kept.exists()


def said(*args: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What the command line comes to."""
    found: list[Settings] = []

    def bridge(settings: Settings, *_: object) -> None:
        found.append(settings)
        raise SystemExit(0)

    monkeypatch.setattr("kube2etcd.app.run.bridge", bridge)
    assert CliRunner().invoke(main, ["webhook", *args]).exit_code == 0
    return found[0]


def test_the_command_line_of_desktop_kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dtk = ("--cluster-ip=192.168.122.167", "--port=5000", "--domains=dtk.io,mydomain.io")
    files = ("--hosts-file", "/etc/hosts", "--state-file", str(tmp_path / "state"))
    settings = said(*dtk, *files, monkeypatch=monkeypatch)
    assert settings.etcd.servers == ()
    assert list(map(str, settings.webhook.cluster_ip)) == ["192.168.122.167"]
    assert list(map(str, settings.domains)) == ["dtk.io", "mydomain.io"]
    assert (settings.webhook.bind, settings.webhook.port) == ("127.0.0.1", 5000)
    assert settings.webhook.hosts_file == "/etc/hosts"


def test_a_missing_folder_of_the_hosts_file_is_an_error(tmp_path: Path) -> None:
    settings = given(hosts_file=str(tmp_path / "none" / "hosts"), state_file=str(tmp_path / "s"))
    with pytest.raises(SettingsError, match=r"there is no folder .*none; make it, or write another"):
        check(settings)
    # to take out what is not there is no fault
    cleanup(settings)


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
