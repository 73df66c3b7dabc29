"""Desktop Kubernetes' calls, and a hosts file under the unit's sandbox."""

from __future__ import annotations

import json
from pathlib import Path

from tests.stack.harness import wait_for
from tests.stack.webhook import Webhook, a, alias, block, ownership

#: What ProtectSystem=strict and ReadWritePaths=/etc/hosts come to.
_AS_THE_UNIT = """
set -e
mount --bind "$1" "$1"
mount --bind "$1/hosts" "$1/hosts"
mount -o remount,bind,ro "$1"
shift
exec "$@"
"""


def in_unit(etc: Path) -> list[str]:
    return ["unshare", "--mount", "--propagation=private", "--", "sh", "-c", _AS_THE_UNIT, "sh", str(etc)]


def test_a_hosts_file_in_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    hosts = etc / "hosts"
    hosts.write_bytes(b"127.0.0.1 localhost\n")
    options = [
        "--hosts-file",
        str(hosts),
        "--state-file",
        str(tmp_path / "state.json"),
        "--domains",
        "dtk.io",
    ]
    with Webhook(tmp_path, options, wrapper=in_unit(etc)) as webhook:
        inode = hosts.stat().st_ino
        assert webhook.apply(create=[a("foo.dtk.io", "10.0.0.5"), a("bar.dtk.io", "10.0.0.6")]) == 204
        assert hosts.stat().st_ino == inode
        assert block(hosts) == ["10.0.0.6 bar.dtk.io", "10.0.0.5 foo.dtk.io"]
        assert webhook.apply(delete=[a("bar.dtk.io", "10.0.0.6")]) == 204
        assert hosts.read_bytes().startswith(b"127.0.0.1 localhost\n# BEGIN kube2etcd")
        assert hosts.read_bytes().endswith(b"\n10.0.0.5 foo.dtk.io\n# END kube2etcd\n")
        assert sorted(path.name for path in etc.iterdir()) == ["hosts"]
        # An editor puts a new file in its place: the unit's path starts the service anew.
        edited = etc / "edited"
        edited.write_bytes(b"# edited\n" + hosts.read_bytes())
        edited.replace(hosts)
        webhook.restart()
        assert webhook.apply(create=[a("new.dtk.io", "10.0.0.7")]) == 204
        assert hosts.read_bytes().startswith(b"# edited\n127.0.0.1 localhost\n")
        assert block(hosts) == ["10.0.0.5 foo.dtk.io", "10.0.0.7 new.dtk.io"]


def test_what_its_install_script_and_example_do(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_bytes(b"127.0.0.1 localhost\n")
    with Webhook(
        tmp_path, ["--hosts-file", str(hosts), "--state-file", str(tmp_path / "state.json")]
    ) as webhook:
        assert webhook.call("GET", "/").json() == {"regexInclude": "^$"}
        for path, data in (("domains", "dtk.io"), ("clusterip", "192.168.122.167")):
            for _ in range(2):
                # As curl sends it: a form.
                form = {"Content-Type": "application/x-www-form-urlencoded"}
                assert webhook.call("POST", f"/{path}", data.encode(), form).status_code == 200
        assert webhook.call("GET", "/domains").json() == ["dtk.io"]
        assert webhook.call("GET", "/").json() == {"include": ["dtk.io"]}
        example = alias("foo.dtk.io", "foo.dtk.io", labels={"resource": "ingress/default/test"})
        body = json.dumps([example]).encode()
        media = {"Content-Type": "application/external.dns.webhook+json;version=1"}
        adjusted = webhook.call("POST", "/adjustendpoints", body, media).json()
        assert adjusted == [{**example, "recordType": "A", "targets": ["192.168.122.167"]}]
        assert webhook.apply(create=[*adjusted, ownership(adjusted[0])]) == 204
        assert block(hosts) == ["192.168.122.167 foo.dtk.io"]
        webhook.restart()
        wait_for(lambda: block(hosts) == ["192.168.122.167 foo.dtk.io"], "the block after a restart", 5)
        assert webhook.call("GET", "/domains").json() == ["dtk.io"]
