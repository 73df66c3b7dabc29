"""The state in a file."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kube2etcd.external import Endpoint
from kube2etcd.webhook.state import NotStored, State
from kube2etcd.webhook.state_file import FileState
from tests.test_atomic import fail_with

FOO = Endpoint("foo.dtk.io", ("10.0.0.5",), "A")
STATE = State({FOO.key: FOO})


@pytest.fixture
def store(tmp_path: Path) -> FileState:
    return FileState(tmp_path / "lib" / "webhook.json")


def test_empty_state_creates_no_file(store: FileState) -> None:
    assert store.check(store.load(), 0) == State()
    assert not store.path.exists()


def test_saved_state_is_loaded(store: FileState) -> None:
    store.save(STATE, 0)
    assert FileState(store.path).load() == STATE
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(store.path.parent)) == [".webhook.json.lock", "webhook.json"]


def test_damaged_file_is_rewritten(store: FileState) -> None:
    store.save(STATE, 0)
    written = store.path.stat().st_mtime_ns
    assert store.check(STATE, 0) is STATE
    assert store.path.stat().st_mtime_ns == written
    store.path.write_text("nonsense")
    store.check(STATE, 0)
    assert store.load() == STATE
    store.path.unlink()
    store.check(STATE, 0)
    assert store.load() == STATE


def test_unreadable_state_is_reported_and_kept(store: FileState) -> None:
    store.path.parent.mkdir()
    store.path.write_bytes(b'{"version":1,"endpo')
    with pytest.raises(NotStored, match="restore it from a backup"):
        store.load()
    assert store.path.read_bytes() == b'{"version":1,"endpo'


def test_clear_deletes_all_files(store: FileState) -> None:
    store.save(STATE, 0)
    for _ in range(2):
        store.clear()
        assert os.listdir(store.path.parent) == []


OTHER = """
import sys
from pathlib import Path
from kube2etcd.webhook.state_file import FileState
from kube2etcd.webhook.state import State
store = FileState(Path(sys.argv[1]))
store.save(State(), 0)
print("saved", flush=True)
sys.stdin.read()
"""


def test_second_process_is_refused(store: FileState) -> None:
    assert store.load() == State()
    other = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(store.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"saved\n"
        before = store.path.read_bytes()
        for call in (store.load, store.clear, lambda: store.save(STATE, 0), lambda: store.check(STATE, 0)):
            with pytest.raises(NotStored, match="another process"):
                call()
        assert store.path.read_bytes() == before
    finally:
        other.communicate(timeout=60)
    store.save(STATE, 0)
    assert store.load() == STATE


def test_folder_is_created_or_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileState(tmp_path / "a" / "b" / "state.json")
    state = store.load()
    assert store.check(state, 0) == state
    assert (tmp_path / "a" / "b").is_dir()
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        with pytest.raises(NotStored, match=r"give this user the right to write in .*b, or"):
            store.check(state, 0)
    assert store.check(state, 0) == state
    (tmp_path / "file").write_text("")
    other = FileState(tmp_path / "file" / "state.json")
    with pytest.raises(NotStored, match=r"folder cannot be made: .*; make it, or write another --state-file"):
        other.check(State(), 0)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS])
def test_file_system_without_locks(store: FileState, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(fcntl, "lockf", fail_with(code))
    store.save(STATE, 0)
    assert store.load() == STATE


def test_file_that_cannot_be_read(store: FileState) -> None:
    store.path.mkdir(parents=True)
    with pytest.raises(NotStored, match="cannot be read"):
        store.load()
