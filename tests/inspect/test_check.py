"""What ``check`` says of an election, without servers; the rest is asked of real ones."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kube2etcd.app.build import election_key
from kube2etcd.errors import EtcdRefused
from kube2etcd.etcd import store, wire
from kube2etcd.etcd.changes import ServerHealth
from kube2etcd.etcd.servers import EtcdSettings
from kube2etcd.etcd.wire import Message, rpc
from kube2etcd.inspect import check
from kube2etcd.settings import load
from skydns_compat.layout import Layout

KEY = "/kube2etcd/leader/skydns/kube2etcd"


@pytest.mark.parametrize(
    ("written", "verdict", "said"),
    [
        ("a\nb\n", "ok", "matches these settings"),
        ("a\nb", "note", "does not match these settings: the end of its last line"),
        ("a\nc\n", "note", "does not match these settings: -c; +b"),
        ("c\nd\n", "note", "-c; -d; +a; 1 more lines"),
        (b"\xff", "fault", "cannot be read: 'utf-8' codec"),
        (None, "fault", "cannot be read: [Errno 2]"),
    ],
)
def test_a_corefile_is_compared(tmp_path: Path, written: str | bytes | None, verdict: str, said: str) -> None:
    file = tmp_path / "Corefile"
    if written is not None:
        file.write_bytes(written if isinstance(written, bytes) else written.encode())
    found = check.corefile(str(file), "a\nb\n")
    assert (found.what, found.verdict) == ("Corefile", verdict)
    assert str(file) in found.text
    assert said in found.text


class Etcd:
    """The part of etcd that is asked; ``refused``: keys without rights."""

    def __init__(self) -> None:
        self.keys: dict[bytes, tuple[bytes, int]] = {}
        """Value and lease."""
        self.refused: set[str] = set()

    def __enter__(self) -> Etcd:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def call(self, method: str, request: Message) -> Any:
        return getattr(self, method)(request)

    def Range(self, request: Message) -> Any:
        self.look(request.key)
        found = self.keys.get(request.key)
        kvs = [rpc.KeyValue(key=request.key, value=found[0], lease=found[1])] if found is not None else []
        return rpc.RangeResponse(kvs=kvs)

    def look(self, key: bytes) -> None:
        if key.decode() in self.refused:
            raise EtcdRefused("permission denied")


@pytest.fixture
def etcd(monkeypatch: pytest.MonkeyPatch) -> Etcd:
    wire.install()
    made = Etcd()
    keys = SimpleNamespace(snapshot=lambda: SimpleNamespace(entries={}), may_write=made.look)
    monkeypatch.setattr(check, "open_store", lambda *_: (made, keys))
    monkeypatch.setattr(store, "health", lambda *_: ServerHealth("3.7.3", 0, 0, True))
    return made


def election(prefix: str = "/skydns") -> tuple[str, str]:
    settings = load({"leader_elect": True, "etcd_prefix": prefix}, {})
    key = partial(election_key, settings)
    found = {one.what: one for one in check.etcd(EtcdSettings(), "v3", Layout(), (), None, key)}
    return found["election"].verdict, found["election"].text


def test_who_leads(etcd: Etcd) -> None:
    assert election() == ("ok", f"{KEY} can be read and written; nobody leads now")
    etcd.keys[KEY.encode()] = b"dns-7f-1a", 7
    assert election() == ("ok", f"{KEY} can be read and written; dns-7f-1a leads now")


def test_a_key_that_no_bridge_made(etcd: Etcd) -> None:
    etcd.keys[KEY.encode()] = b"me", 0
    assert election() == ("fault", f"the key {KEY} has no lease, so no bridge made it: delete it")


def test_no_rights_on_the_key(etcd: Etcd) -> None:
    etcd.refused.add(KEY)
    needed = f"--leader-elect needs an etcd user that may read and write {KEY}: permission denied"
    assert election() == ("fault", needed)


@pytest.mark.usefixtures("etcd")
def test_a_prefix_where_elections_are() -> None:
    verdict, text = election("/kube2etcd")
    assert verdict == "fault"
    assert "take another --etcd-prefix" in text
