"""An etcd user with rights on the prefix alone, and keys that are not text."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stack.faults import HERE, metric, running, same_keys
from tests.stack.harness import ApiServer, Etcd, wait_for
from tests.stack.objects import service, services


@pytest.fixture
def user(etcd: Etcd) -> tuple[str, ...]:
    """The options of a user who may read and write below /skydns/ and nowhere else."""
    return ("--etcd-user", "bridge", "--etcd-password-file", str(etcd.restrict("/skydns/")))


def test_rights_on_the_prefix_alone_are_enough(
    user: tuple[str, ...], apiserver: ApiServer, etcd: Etcd, tmp_path: Path
) -> None:
    apiserver.apply_all(services(5))
    with running(tmp_path, apiserver.kubeconfig(), etcd, *user) as bridge:
        expected = etcd.dump("/skydns")
        etcd.delete(f"{HERE}/svc/default/s001")
        same_keys(etcd, expected, 5)
        etcd.ctl("compact", str(etcd.revision()))
        etcd.restart()
        apiserver.apply(service("later"))
        wait_for(lambda: f"{HERE}/svc/default/later" in etcd.dump(HERE), "the next change", 10)
        bridge.wait_ready()
        assert "permission denied" not in bridge.process.log.read_text()


def test_an_election_says_which_right_it_lacks_and_goes_on_when_it_is_given(
    user: tuple[str, ...], apiserver: ApiServer, etcd: Etcd, tmp_path: Path
) -> None:
    apiserver.apply_all(services(5))
    with running(tmp_path, apiserver.kubeconfig(), etcd, *user, "--leader-elect", ready=False) as bridge:
        wait_for(
            lambda: "--leader-elect needs" in bridge.get("/readyz").text, "the reason", 20, bridge.process
        )
        assert bridge.get("/readyz").status_code == 503
        assert bridge.get("/livez").status_code == 200
        assert etcd.dump("/skydns") == {}
        [said] = [line for line in bridge.get("/readyz").text.splitlines() if "--leader-elect needs" in line]
        key = next(word.strip(":,") for word in said.split() if word.startswith("/"))
        assert not key.startswith("/skydns/")
        etcd.ctl("role", "grant-permission", "names", "readwrite", key)
        bridge.wait_ready(30)
        assert metric(bridge, "kube2etcd_leader") == 1
        assert "hunter2" not in bridge.process.log.read_text()


def test_keys_that_are_not_text_are_foreign_and_harmless(
    apiserver: ApiServer, etcd: Etcd, tmp_path: Path
) -> None:
    """As keys and as values, before the start and under a running watch."""
    odd = f"{HERE}/svc/default/\udcff\udc80x"
    for key in (odd, f"{HERE}//", f"{HERE}/svc/default/{'y' * 5000}", f"{HERE}/svc/default/\x01"):
        etcd.put(key, "\udcfe\udcff")
    apiserver.apply_all(services(5))
    with running(tmp_path, apiserver.kubeconfig(), etcd) as bridge:
        ours = f"{HERE}/svc/default/s001"
        present = etcd.ctl("get", ours)
        for number in range(3):
            etcd.put(f"{odd}{number}", "\udcfe")
            etcd.put(ours, f"\udcfe{number}")
            wait_for(lambda: etcd.ctl("get", ours) == present, "the repair", 10, not_yet=(UnicodeError,))
        apiserver.apply(service("later"))
        wait_for(lambda: etcd.ctl("get", f"{HERE}/svc/default/later"), "the next change", 10)
        assert metric(bridge, "kube2etcd_foreign_keys") == 7
        assert etcd.ctl("get", "--count-only", "--prefix", "--write-out=fields", odd).count('"Count" : 4')
        assert bridge.ready()
        assert "Traceback" not in bridge.process.log.read_text()
