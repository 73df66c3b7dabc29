"""Random changes while the bridge runs, and dies: the same answers again, and the keys of a fresh start."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.stack.harness import ApiServer, Bridge, Etcd, wait_for
from tests.stack.known_differences import known
from tests.stack.pair import Pair, bridge_args, running_pair
from tests.stack.questions import questions
from tests.stack.random_cluster import Operation, mutate, random_cluster


@pytest.mark.parametrize("seed", [11, 12])
def test_answers_and_keys_after_churn_are_those_of_a_fresh_start(
    seed: int,
    binaries: dict[str, Path],
    apiserver: ApiServer,
    etcd: Etcd,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = random_cluster(seed, 30)
    operations = mutate(seed, before, 300)
    third = len(operations) // 3
    with running_pair(binaries, tmp_path, apiserver, etcd) as pair:
        apiserver.apply_all(before)
        pair.settle()
        asked = {question[:2]: question for question in questions(pair.objects())}

        perform(apiserver, operations[:third])
        pair.bridge.kill()
        perform(apiserver, operations[third : 2 * third])
        pair.bridge.start()
        perform(apiserver, operations[2 * third :])
        pair.settle()

        asked |= {question[:2]: question for question in questions(pair.objects())}
        fresh = keys_of_a_fresh_start(binaries, tmp_path, pair)
        wait_for(lambda: equals(pair.etcd, fresh), "the keys of a fresh start")
        restart_writes_nothing(pair)
        report = pair.compare(asked.values())
        names = [known(difference) for difference in report.found]
        with capsys.disabled():
            print(f"\n{report.table(f'seed {seed} after {len(operations)} changes', names)}")
        assert all(names), report.table("after churn", names)


def perform(apiserver: ApiServer, operations: Sequence[Operation]) -> None:
    """One after the other, as they depend on each other."""
    for operation in operations:
        if operation.verb == "apply":
            apiserver.apply(operation.obj)
        else:
            apiserver.delete(operation.obj)


def keys_of_a_fresh_start(binaries: dict[str, Path], directory: Path, pair: Pair) -> dict[str, str]:
    """What another bridge writes into an empty etcd."""
    etcd = Etcd(directory, binaries, name="fresh-etcd")
    args = bridge_args(pair.apiserver.kubeconfig(), etcd.url, pair.pods)
    bridge = Bridge(directory, args, name="fresh-kube2etcd")
    try:
        etcd.start()
        bridge.start()
        bridge.wait_ready()
        keys = etcd.dump("/skydns")
    finally:
        bridge.kill()
        etcd.kill()
    assert keys
    return keys


def equals(etcd: Etcd, fresh: dict[str, str]) -> bool:
    """True, or an assertion that names the first keys which differ."""
    present = etcd.dump("/skydns")
    differing = sorted(key for key in present.keys() | fresh.keys() if present.get(key) != fresh.get(key))
    shown = [f"{key}: {present.get(key)} instead of {fresh.get(key)}" for key in differing[:5]]
    assert not differing, f"{len(differing)} keys differ; {'; '.join(shown)}"
    return True


def restart_writes_nothing(pair: Pair) -> None:
    """A bridge that is killed and started finds everything as it should be."""
    revision = pair.etcd.revision()
    pair.bridge.kill()
    pair.bridge.start()
    pair.bridge.wait_ready()
    assert pair.etcd.revision() == revision
