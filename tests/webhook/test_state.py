"""Changes to the state, its encoding, and its store in a file."""

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kube2etcd.external import Domain, Endpoint, Property, parse_cluster_address
from kube2etcd.webhook.state import (
    MAX_REFUSED,
    Changes,
    FileStore,
    NotStored,
    Refusal,
    State,
    decode,
    encode,
)
from tests.test_atomic import fail_with

DOMAINS = (Domain.parse("dtk.io"),)


def a(name: str, *targets: str, **fields: str) -> Endpoint:
    return Endpoint(name, targets or ("10.0.0.5",), "A", fields.get("sid", ""))


def after(state: State, **lists: tuple[Endpoint, ...]) -> State:
    return state.apply(Changes(**lists), DOMAINS)[0]


def test_an_unusable_endpoint_is_skipped_and_the_rest_applied() -> None:
    bad = Endpoint("x" * 300 + ".dtk.io", ("10.0.0.5",), "A")
    state, remarks = State().apply(Changes(create=(bad, a("foo.dtk.io"))), DOMAINS)
    assert list(state.endpoints.values()) == [a("foo.dtk.io")]
    assert [remark.reason for remark in remarks] == ["name"]
    assert "is skipped" in remarks[0].text


def test_a_bad_target_among_good_ones_is_reported_and_kept() -> None:
    mixed = a("foo.dtk.io", "10.0.0.5", "nonsense")
    state, remarks = State().apply(Changes(create=(mixed,)), DOMAINS)
    assert list(state.endpoints.values()) == [mixed]
    assert remarks == [
        Refusal("", "'foo.dtk.io' A is taken in part: 'nonsense': 'nonsense' is not an IP address")
    ]


def ownership(name: str, owned: str, sid: str = "", *, labelled: bool = True) -> Endpoint:
    labels = {"ownedRecord": owned} if labelled else {}
    text = '"heritage=external-dns,external-dns/owner=me"'
    return Endpoint(name, (text,), "TXT", sid, labels=labels)


BAD = {"CNAME": "10.0.0.5", "MX": "0 .", "NAPTR": "x", "A": "nonsense", "AAAA": "10.0.0.5"}


@pytest.mark.parametrize("rtype", sorted(BAD))
@pytest.mark.parametrize(
    ("labelled", "form"),
    [
        (True, "{type}-foo.dtk.io"),
        (True, "foo.dtk.io"),
        (True, "reg-{type}-foo.dtk.io"),
        (True, "{type}.foo.dtk.io"),
        # Without the label only the default names lead to the record.
        (False, "{type}-foo.dtk.io"),
        (False, "foo.dtk.io"),
    ],
)
@pytest.mark.parametrize("first", ["record", "text"])
def test_ownership_is_skipped_with_its_record(rtype: str, labelled: bool, form: str, first: str) -> None:
    name = form.format(type=rtype.lower())
    record = Endpoint("Foo.dtk.io.", (BAD[rtype],), rtype)
    text = ownership(name, "foo.dtk.io", labelled=labelled)
    pair = (record, text) if first == "record" else (text, record)
    state, refusals = State().apply(Changes(create=pair), DOMAINS)
    assert state.endpoints == {}
    assert [one.reason for one in refusals][-1] == "record"


def test_an_ownership_text_stays_with_the_record_that_is_kept() -> None:
    bad = Endpoint("foo.dtk.io", ("nonsense",), "AAAA")
    texts = (ownership("a-foo.dtk.io", "foo.dtk.io"), ownership("aaaa-foo.dtk.io", "foo.dtk.io"))
    state = after(State(), create=(a("foo.dtk.io"), bad, *texts))
    assert {one.name for one in state.endpoints.values()} == {"foo.dtk.io", "a-foo.dtk.io"}
    # An update that is refused leaves the record that is there, and its text.
    worse = Endpoint("foo.dtk.io", ("nonsense",), "A")
    again = after(state, update=(worse, texts[0]))
    assert again.endpoints == state.endpoints
    # One name for all types, as old clients write it; another set; a name with the type's letters in it.
    for name, owned, sid in (("txt-foo.dtk.io", "foo.dtk.io", ""), ("a-a-b.dtk.io", "a-b.dtk.io", "s")):
        good, text = a(owned, sid=sid), ownership(name, owned, sid)
        bad = Endpoint(owned, ("0 .",), "MX", sid)
        kept = after(State(), create=(text, good, bad))
        assert set(kept.endpoints) == {good.key, text.key}


def test_ownership_of_another_record_is_unaffected_by_a_refused_one() -> None:
    bad = Endpoint("foo.dtk.io", ("nonsense",), "A")
    nameless = Endpoint("x.dtk.io", ("text",), "TXT", labels={"ownedRecord": ""})
    texts = (ownership("a-bar.dtk.io", "bar.dtk.io"), ownership("a-foo.dtk.io", "foo.dtk.io", "s"), nameless)
    assert set(after(State(), create=(bad, *texts)).endpoints) == {one.key for one in texts}


def test_refused_names_are_remembered_up_to_a_limit() -> None:
    bad = Endpoint("foo.dtk.io", ("nonsense",), "A")
    state = after(State(), create=(bad,))
    assert list(state.refused) == ["foo.dtk.io"]
    assert after(State(), create=(a("foo.example"),)) == State()
    assert "nonsense" in state.refused["foo.dtk.io"]
    assert decode(encode(state)) == state
    assert after(state, create=(bad,)) == state
    assert after(state, create=(a("foo.dtk.io"),)).refused == {}
    assert after(state, delete=(bad,)).refused == {}
    many = tuple(Endpoint(f"n{number}.dtk.io", ("x",), "A") for number in range(MAX_REFUSED + 5))
    state = after(state, create=many)
    assert len(state.refused) == MAX_REFUSED
    assert after(state, create=many) == state


WHOLE = State(
    {
        one.key: one
        for one in (
            a("foo.dtk.io"),
            Endpoint("B.dtk.io", ('"heritage=x"',), "TXT", "s", 5, {"a": "b"}, (Property("p", "v"),)),
        )
    },
    (Domain.parse(".dtk.io"),),
    parse_cluster_address("192.0.2.1,fd00::1"),
)


def test_encoding_round_trip() -> None:
    assert decode(encode(WHOLE)) == WHOLE
    assert decode(encode(State())) == State()


def test_equal_states_have_equal_bytes() -> None:
    turned = State(dict(reversed(list(WHOLE.endpoints.items()))), WHOLE.domains, WHOLE.cluster)
    assert encode(turned) == encode(WHOLE)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"version": None}, "no state of kube2etcd webhook"),
        ({"version": "1"}, "no state of kube2etcd webhook"),
        ({"version": 2}, "upgrade it"),
        ({"version": 2, "domains": 5}, "upgrade it"),
        ({"endpoints": None}, "no state of kube2etcd webhook"),
        ({"endpoints": [5]}, "an endpoint is an object"),
        ({"domains": ["a..b"]}, "is no domain"),
        ({"domains": [5]}, "no state of kube2etcd webhook"),
        ({"domains": 5}, "no state of kube2etcd webhook"),
        ({"clusterIP": "x"}, "is not an IP address"),
    ],
)
def test_invalid_states(fields: dict[str, Any], why: str) -> None:
    given = {"version": 1, "domains": [], "clusterIP": "", "endpoints": []}
    assert decode(json.dumps(given).encode()) == State()
    with pytest.raises(ValueError, match=why):
        decode(json.dumps(given | fields).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b"[" * 9999])
def test_no_state_at_all(data: bytes) -> None:
    with pytest.raises(ValueError, match="no state of kube2etcd webhook"):
        decode(data)


# --- in a file

FOO = Endpoint("foo.dtk.io", ("10.0.0.5",), "A")
STATE = State({FOO.key: FOO})


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "lib" / "webhook.json")


def test_an_empty_state_makes_no_file(store: FileStore) -> None:
    assert store.check(store.load(), 0) == State()
    assert not store.path.exists()


def test_a_saved_state_is_loaded(store: FileStore) -> None:
    store.save(STATE, 0)
    assert FileStore(store.path).load() == STATE
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(store.path.parent)) == [".webhook.json.lock", "webhook.json"]


def test_a_damaged_file_is_rewritten(store: FileStore) -> None:
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


def test_an_unreadable_state_is_reported_and_left_alone(store: FileStore) -> None:
    store.path.parent.mkdir()
    store.path.write_bytes(b'{"version":1,"endpo')
    with pytest.raises(NotStored, match="restore it from a backup"):
        store.load()
    assert store.path.read_bytes() == b'{"version":1,"endpo'


def test_clear_deletes_all_files(store: FileStore) -> None:
    store.save(STATE, 0)
    for _ in range(2):
        store.clear()
        assert os.listdir(store.path.parent) == []


OTHER = """
import sys
from pathlib import Path
from kube2etcd.webhook.state import FileStore
from kube2etcd.webhook.state import State
store = FileStore(Path(sys.argv[1]))
store.save(State(), 0)
print("kept", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_refused(store: FileStore) -> None:
    assert store.load() == State()
    other = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(store.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"kept\n"
        before = store.path.read_bytes()
        for call in (store.load, store.clear, lambda: store.save(STATE, 0), lambda: store.check(STATE, 0)):
            with pytest.raises(NotStored, match="another process"):
                call()
        assert store.path.read_bytes() == before
    finally:
        other.communicate(timeout=60)
    store.save(STATE, 0)
    assert store.load() == STATE


def test_the_folder_is_created_or_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileStore(tmp_path / "a" / "b" / "state.json")
    state = store.load()
    assert store.check(state, 0) == state
    assert (tmp_path / "a" / "b").is_dir()
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        with pytest.raises(NotStored, match=r"give this user the right to write in .*b, or"):
            store.check(state, 0)
    assert store.check(state, 0) == state
    (tmp_path / "file").write_text("")
    other = FileStore(tmp_path / "file" / "state.json")
    with pytest.raises(NotStored, match=r"folder cannot be made: .*; make it, or write another --state-file"):
        other.check(State(), 0)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks(store: FileStore, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(fcntl, "lockf", fail_with(code))
    store.save(STATE, 0)
    assert store.load() == STATE


def test_a_file_that_cannot_be_read(store: FileStore) -> None:
    store.path.mkdir(parents=True)
    with pytest.raises(NotStored, match="cannot be read"):
        store.load()
