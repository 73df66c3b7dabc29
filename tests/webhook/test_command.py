"""`webhook`: settings that it refuses, cleanup, and the names that it sends."""

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


def settings_of(*, with_etcd: bool = False, **options: str) -> Settings:
    return alone(load(options, {}), with_etcd=with_etcd)


def test_nowhere_to_publish_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nowhere to publish"):
        check(settings_of())
    check(settings_of(with_etcd=True))
    check(settings_of(hosts_file=str(tmp_path / "hosts"), state_file=str(tmp_path / "state")))
    # published by the bridges that read the objects
    check(settings_of(state_objects="external-dns", kube_master_url="https://192.0.2.1"))


def test_cleanup_without_a_target_is_refused() -> None:
    with pytest.raises(SettingsError, match="there is nothing to clean up"):
        cleanup(settings_of())


def test_state_prefix_among_the_served_keys_is_refused() -> None:
    with pytest.raises(SettingsError, match="among the keys of /skydns"):
        check(settings_of(state_prefix="/skydns/state", with_etcd=True))


@pytest.mark.parametrize("malformed", [False, True], ids=["valid state", "malformed state"])
def test_cleanup_removes_a_torn_block(tmp_path: Path, malformed: bool) -> None:
    hosts, saved = tmp_path / "hosts", tmp_path / "state.json"
    hosts.write_bytes(b"one\n# BEGIN kube2etcd\n10.0.0.1 a.dtk.io\n10.0.0.2 b.late.io\n10.0.0.9 printer\n")
    FileState(saved).save(State(domains=(Domain.parse("late.io"),)), 0)
    if malformed:
        saved.write_text("{")
    cleanup(settings_of(hosts_file=str(hosts), state_file=str(saved), domains="dtk.io"))
    unmanaged = b"10.0.0.2 b.late.io\n" if malformed else b""
    assert hosts.read_bytes() == b"one\n" + unmanaged + b"10.0.0.9 printer\n"
    assert not saved.exists()


def settings_on_start(*args: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings with which the command starts."""
    found: list[Settings] = []

    def bridge(settings: Settings, *_: object) -> None:
        found.append(settings)
        raise SystemExit(0)

    monkeypatch.setattr("kube2etcd.app.run.bridge", bridge)
    assert CliRunner().invoke(main, ["webhook", *args]).exit_code == 0
    return found[0]


def test_command_line_of_the_desktop_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dtk = ("--cluster-ip=192.168.122.167", "--port=5000", "--domains=dtk.io,mydomain.io")
    files = ("--hosts-file", "/etc/hosts", "--state-file", str(tmp_path / "state"))
    settings = settings_on_start(*dtk, *files, monkeypatch=monkeypatch)
    assert settings.etcd.servers == ()
    assert list(map(str, settings.webhook.cluster_ip)) == ["192.168.122.167"]
    assert list(map(str, settings.domains)) == ["dtk.io", "mydomain.io"]
    assert (settings.webhook.bind, settings.webhook.port) == ("127.0.0.1", 5000)
    assert settings.webhook.hosts_file == "/etc/hosts"


def test_missing_folder_of_the_hosts_file_is_an_error(tmp_path: Path) -> None:
    settings = settings_of(hosts_file=str(tmp_path / "none" / "hosts"), state_file=str(tmp_path / "s"))
    with pytest.raises(SettingsError, match=r"there is no folder .*none; make it, or write another"):
        check(settings)
    # cleanup of a missing file is no error
    cleanup(settings)


def test_names_read_from_the_api_server_are_not_sent() -> None:
    settings = load({"dns_endpoints": True, "domains": ("dtk.io",), "state_objects": "default"}, {})
    queue = EventQueue()
    feed = Feed(settings, queue)
    client = Client(feed=feed)
    assert (feed.kinds, feed.late) == ((), (KIND,))
    assert client.apply(create=[a("a.dtk.io")]) == 204
    assert [event for event in queue.drain(0.1) if not isinstance(event, Rezoned)] == [Listed(KIND, ())]


def test_stored_domain_that_is_now_a_zone_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text("zones: [{zone: shop.example}]")
    client = Client(feed=Feed(load({}, {}, config), EventQueue()))
    client.provider.add_domains([Domain.parse("shop.example")])
    assert caplog.messages == [
        "the domain shop.example is not served: POST /domains and zones[0].zone are both the zone"
        " shop.example; give each its own name"
    ]


def test_names_are_sent_as_a_list_at_first_and_after_a_relist() -> None:
    queue = EventQueue()
    client = Client(feed=Feed(Settings(), queue))
    assert client.apply(create=[a("a.dtk.io"), a("b.dtk.io", "x")]) == 204
    assert client.apply(delete=[a("a.dtk.io")]) == 204
    client.provider.relist()
    client.provider.repair()
    one = DnsEndpoint(Metadata("", "a.dtk.io"), (Endpoint("a.dtk.io", ("10.0.0.5",), "A"),))
    reason = "A: 'x': 'x' is not an IP address"
    refused = DnsEndpoint(Metadata("", "b.dtk.io"), (), {"b.dtk.io": reason})
    assert [event for event in queue.drain(0.1) if not isinstance(event, Rezoned)] == [
        Listed(KIND, []),
        Changed(KIND, Event("MODIFIED", one, "", "a.dtk.io")),
        Changed(KIND, Event("MODIFIED", refused, "", "b.dtk.io")),
        Changed(KIND, Event("DELETED", None, "", "a.dtk.io")),
        Listed(KIND, [refused]),
    ]
