"""The state in a file."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kube2etcd.external import Endpoint
from kube2etcd.webhook.keep import NotKept
from kube2etcd.webhook.keep_file import FileKeeper
from kube2etcd.webhook.state import State

FOO = Endpoint("foo.dtk.io", ("10.0.0.5",), "A")
STATE = State({FOO.key: FOO})


@pytest.fixture
def keeper(tmp_path: Path) -> FileKeeper:
    return FileKeeper(tmp_path / "lib" / "webhook.json")


def test_nothing_is_the_empty_state(keeper: FileKeeper) -> None:
    assert keeper.load() == State()
    assert not keeper.path.exists()


def test_kept_and_read_again(keeper: FileKeeper) -> None:
    keeper.save(STATE, 0)
    assert FileKeeper(keeper.path).load() == STATE
    assert keeper.path.stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(keeper.path.parent)) == [".webhook.json.lock", "webhook.json"]


def test_what_a_killed_writer_left_is_no_hindrance(keeper: FileKeeper) -> None:
    keeper.save(State(), 0)
    keeper.path.with_name(".webhook.json.new").write_text("half of it")
    assert keeper.load() == State()
    keeper.save(STATE, 0)
    assert keeper.load() == STATE


def test_damage_while_running_is_put_right(keeper: FileKeeper) -> None:
    keeper.save(STATE, 0)
    written = keeper.path.stat().st_mtime_ns
    assert keeper.check(STATE, 0) is STATE
    assert keeper.path.stat().st_mtime_ns == written
    keeper.path.write_text("nonsense")
    keeper.check(STATE, 0)
    assert keeper.load() == STATE
    keeper.path.unlink()
    keeper.check(STATE, 0)
    assert keeper.load() == STATE


def test_an_empty_state_makes_no_file(keeper: FileKeeper) -> None:
    keeper.check(keeper.load(), 0)
    assert not keeper.path.exists()


def test_what_cannot_be_read_is_told_and_left_alone(keeper: FileKeeper) -> None:
    keeper.path.parent.mkdir()
    keeper.path.write_text('{"version":2}')
    with pytest.raises(NotKept, match="upgrade it"):
        keeper.load()
    assert keeper.path.read_text() == '{"version":2}'


def test_a_folder_in_its_place(keeper: FileKeeper) -> None:
    keeper.path.mkdir(parents=True)
    with pytest.raises(NotKept, match="cannot be read"):
        keeper.load()
    with pytest.raises(NotKept, match="cannot be written"):
        keeper.save(STATE, 0)
    with pytest.raises(NotKept, match="cannot be removed"):
        keeper.clear()


def test_a_pipe_in_its_place_is_not_waited_for(keeper: FileKeeper) -> None:
    keeper.path.parent.mkdir()
    os.mkfifo(keeper.path)
    with pytest.raises(NotKept, match="cannot be read"):
        keeper.load()


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_state_and_nothing_beside_it(
    keeper: FileKeeper, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    keeper.save(STATE, 0)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(os, call, full)
        with pytest.raises(NotKept, match="No space left"):
            keeper.save(State(), 0)
    assert sorted(os.listdir(keeper.path.parent)) == [".webhook.json.lock", "webhook.json"]
    assert FileKeeper(keeper.path).load() == STATE


@pytest.mark.parametrize("kept", [0, 1, 20, -1])
def test_a_state_that_was_cut_off_is_told_and_left_alone(keeper: FileKeeper, kept: int) -> None:
    keeper.save(STATE, 0)
    torn = keeper.path.read_bytes()[:kept]
    keeper.path.write_bytes(torn)
    with pytest.raises(NotKept, match="put back a copy"):
        FileKeeper(keeper.path).load()
    assert keeper.path.read_bytes() == torn


def test_a_file_in_its_folders_place(tmp_path: Path) -> None:
    (tmp_path / "lib").write_text("")
    with pytest.raises(NotKept):
        FileKeeper(tmp_path / "lib" / "x").check(STATE, 0)


def test_cleared(keeper: FileKeeper) -> None:
    keeper.save(STATE, 0)
    for _ in range(2):
        keeper.clear()
        assert os.listdir(keeper.path.parent) == []


OTHER = """
import sys
from pathlib import Path
from kube2etcd.webhook.keep_file import FileKeeper
from kube2etcd.webhook.state import State
keeper = FileKeeper(Path(sys.argv[1]))
keeper.save(State(), 0)
print("kept", flush=True)
sys.stdin.read()
"""


def test_a_second_process_takes_nothing_from_the_first(keeper: FileKeeper) -> None:
    assert keeper.load() == State()
    other = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(keeper.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"kept\n"
        before = keeper.path.read_bytes()
        for call in (
            keeper.load,
            keeper.clear,
            lambda: keeper.save(STATE, 0),
            lambda: keeper.check(STATE, 0),
        ):
            with pytest.raises(NotKept, match="another process"):
                call()
        assert keeper.path.read_bytes() == before
    finally:
        other.communicate(timeout=60)
    keeper.save(STATE, 0)
    assert keeper.load() == STATE


def test_a_folder_is_made_and_one_that_cannot_be_used_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = FileKeeper(tmp_path / "a" / "b" / "state.json")
    state = keeper.load()
    assert keeper.check(state, 0) == state
    assert (tmp_path / "a" / "b").is_dir()
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        with pytest.raises(NotKept, match=r"give this user the right to write in .*b, or"):
            keeper.check(state, 0)
    assert keeper.check(state, 0) == state
    (tmp_path / "file").write_text("")
    other = FileKeeper(tmp_path / "file" / "state.json")
    with pytest.raises(NotKept, match=r"folder cannot be made: .*; make it, or write another --state-file"):
        other.check(State(), 0)
