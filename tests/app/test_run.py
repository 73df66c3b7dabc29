"""`run.check`: settings with which a bridge that restarts could not start."""

import socket
from contextlib import nullcontext

import pytest

from kube2etcd.app.run import check
from kube2etcd.errors import SettingsError
from kube2etcd.settings import Settings, load

API = {"kube_master_url": "http://192.0.2.1"}


def settings_of(**options: object) -> Settings:
    return load({**API, **options}, {})


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"ttl": 5}, ""),
        ({"listen": "127.0.0.1:{ours}"}, ""),
        ({"listen": ":0", "listen_page": ":{ours}"}, ""),
        ({"listen_page": ":{free}"}, ""),
        ({"listen_page": ":{taken}"}, "--listen-page 127.0.0.1:.* another program listens there"),
        ({"listen_page": "192.0.2.1:{free}"}, "--listen-page 192.0.2.1:.* this machine has no address"),
        ({"listen": "192.0.2.1:{ours}"}, "--listen 192.0.2.1:.* this machine has no address"),
        ({"listen_page": ":{ours}"}, "--listen-page 127.0.0.1:.* another program listens there"),
        (
            {"webhook": True, "domains": "a.b", "port": "{taken}"},
            "--bind, --port .* another program listens there",
        ),
    ],
    ids=[
        "no address",
        "host of ours",
        "swapped",
        "free",
        "taken",
        "no such host",
        "no such host for a port of ours",
        "twice",
        "webhook",
    ],
)
def test_addresses_of_changed_settings(change: dict[str, object], fault: str) -> None:
    with (
        socket.create_server(("", 0), dualstack_ipv6=False) as ours,
        socket.create_server(("127.0.0.1", 0)) as taken,
        socket.socket() as unused,
    ):
        unused.bind(("127.0.0.1", 0))
        free = unused.getsockname()[1]
        unused.close()
        ports = {"ours": ours.getsockname()[1], "taken": taken.getsockname()[1], "free": free}
        before = settings_of(listen=f":{ports['ours']}")
        options = {
            key: value.format(**ports) if isinstance(value, str) else value for key, value in change.items()
        }
        changed = settings_of(**{"listen": str(before.listen)} | options)
        with pytest.raises(SettingsError, match=fault) if fault else nullcontext():
            check(changed, before)
