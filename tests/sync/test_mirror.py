"""The mirror equals etcd once every watch event has arrived, in any interleaving."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from kube2etcd.etcd import changes
from kube2etcd.etcd.changes import ApplyResult, Delete, Put, WatchBatch, WatchEvent
from kube2etcd.kube.store import Unit
from kube2etcd.sync.claims import Claims, Groups
from kube2etcd.sync.mirror import Mirror
from skydns_compat.layout import Layout
from tests.strategies import LAW
from tests.sync.loop import Entries

KEYS = (b"/a", b"/b", b"/c")
VALUES = (b"1", b"2")
UNIT = Unit("services", "shop", "web")


class Etcd(Entries):
    def write(self, batch: changes.Batch) -> ApplyResult:
        return self.apply([[batch]])

    def deliver(self, revisions: int) -> WatchBatch:
        """The watch events of the next ``revisions`` revisions."""
        if not self.undelivered:
            return WatchBatch(self.revision)
        until = self.undelivered[0].mod_revision + revisions - 1
        events = tuple(event for event in self.undelivered if event.mod_revision <= until)
        self.undelivered = self.undelivered[len(events) :]
        return WatchBatch(min(until, self.revision), events)


def failing_once(revision: int, entries: dict[bytes, bytes]) -> Callable[[changes.Begin], int]:
    """A full read that fails once, after its first page."""

    def read(begin: changes.Begin) -> int:
        begin()({b"/a": b"failed"}.items())
        take = begin()
        for pair in entries.items():
            take([pair])
        return revision

    return read


def claims(**wanted: str) -> Claims:
    """Keys of one unit, each in a group of its own."""
    made = Claims(Groups(Layout()), lambda *_: (0, 0, "", "", ""))
    made.put(UNIT, {f"/{name}".encode(): value.encode() for name, value in wanted.items()})
    return made


def loaded(desired: Claims | None = None) -> tuple[Etcd, Mirror]:
    etcd, mirror = Etcd({b"/a": b"1", b"/b": b"1"}, 7), Mirror(claims() if desired is None else desired)
    mirror.load(failing_once(7, etcd.entries))
    return etcd, mirror


def test_load_returns_keys_that_differ_from_before() -> None:
    mirror = Mirror(claims())
    assert mirror.load(failing_once(3, {b"/a": b"1", b"/b": b"1", b"/c": b"1"})) == {b"/a", b"/b", b"/c"}
    mirror.wrote([Put(b"/a", b"2"), Delete(b"/b")], ApplyResult(4, frozenset({4}), 2, ()))
    assert mirror.load(failing_once(5, {b"/a": b"2", b"/c": b"foreign", b"/d": b"new"})) == {b"/c", b"/d"}
    assert mirror.load(failing_once(6, {})) == {b"/a", b"/c", b"/d"}


def test_events_up_to_the_loaded_revision_are_skipped() -> None:
    etcd, mirror = loaded()
    assert mirror.take(WatchBatch(7, (WatchEvent(b"/a", b"0", 7),))) == set()
    assert mirror == etcd.entries


def test_refused_changes_are_not_applied() -> None:
    _, mirror = loaded()
    put, delete = Put(b"/a", b"2"), Delete(b"/b")
    mirror.wrote([put, delete], ApplyResult(8, frozenset({8}), 1, refused=((put, "too large"),)))
    assert mirror == {b"/a": b"1"}


Step = tuple[str, changes.Batch, int]
WATCH: Step = ("watch", (), 1)


def foreign(*batch: changes.Change) -> Step:
    return ("foreign", batch, 0)


def own(*batch: changes.Change) -> Step:
    return ("own", batch, 0)


_CHANGES: st.SearchStrategy[changes.Change] = st.builds(
    Put, st.sampled_from(KEYS), st.sampled_from(VALUES)
) | st.builds(Delete, st.sampled_from(KEYS))
BATCHES = st.lists(_CHANGES, min_size=1, max_size=3, unique_by=lambda change: change.key).map(tuple)
STEPS: st.SearchStrategy[list[Step]] = st.lists(
    st.tuples(st.sampled_from(["own", "foreign", "desire"]), BATCHES, st.just(0))
    | st.tuples(st.just("watch"), st.just(()), st.integers(1, 3))
    | st.tuples(st.just("load"), st.just(()), st.just(0)),
    max_size=14,
)


@LAW
@given(STEPS)
@example([foreign(Delete(b"/a")), own(Delete(b"/a")), foreign(Put(b"/a", b"1"))])
@example([foreign(Put(b"/b", b"2")), own(Put(b"/a", b"2")), own(Put(b"/a", b"1")), WATCH])
@example([foreign(Put(b"/a", b"2")), own(Put(b"/a", b"1")), WATCH])
@example([foreign(Put(b"/b", b"2")), own(Delete(b"/a")), WATCH, WATCH])
@example([foreign(Put(b"/a", b"2")), own(Delete(b"/a")), WATCH, WATCH])
@example([foreign(Put(b"/b", b"2")), own(Put(b"/a", b"2")), ("load", (), 0), foreign(Put(b"/a", b"1"))])
def test_mirror_equals_etcd_after_any_interleaving(steps: list[Step]) -> None:
    """We delete only keys that the mirror has; another writer may have deleted them before."""
    desired = claims()
    etcd, mirror = loaded(desired)
    history = {etcd.revision: dict(etcd.entries)}
    foreign_revisions: set[int] = set()
    since = dict.fromkeys(KEYS, etcd.revision)  # earlier events are skipped
    deleted: set[bytes] = set()

    def take(revisions: int) -> None:
        before, batch = dict(mirror.items()), etcd.deliver(revisions)
        touched = mirror.take(batch)
        events = [
            one
            for one in batch.events
            if one.mod_revision in foreign_revisions or one.key in deleted & before.keys()
        ]
        assert {key for key, _ in before.items() ^ mirror.items()} <= touched <= {one.key for one in events}
        for key in {*KEYS} - deleted:
            assert mirror.get(key) == history[max(since[key], batch.revision)].get(key)

    for who, batch, revisions in steps:
        match who:
            case "own":
                ours = tuple(one for one in batch if isinstance(one, Put) or one.key in mirror)
                result = etcd.write(ours)
                mirror.wrote(ours, result)
                since |= {one.key: result.revision for one in ours}
                # The next load decides whether they are gone.
                deleted |= {one.key for one in ours if isinstance(one, Delete)}
            case "foreign":
                foreign_revisions |= etcd.write(batch).own_revisions
            case "desire":
                mirror.desire(
                    desired.put(UNIT, {one.key: one.value for one in batch if isinstance(one, Put)})
                )
            case "load":
                # Earlier events may still arrive.
                mirror.load(failing_once(etcd.revision, etcd.entries))
                since = dict.fromkeys(KEYS, etcd.revision)
                deleted.clear()
            case _:
                take(revisions)
        history[etcd.revision] = dict(etcd.entries)
    while etcd.undelivered:
        take(2)
    assert (dict(mirror.items()), len(mirror)) == (etcd.entries, len(etcd.entries))
    assert mirror.differing == {
        key: etcd.entries.get(key) for key in KEYS if etcd.entries.get(key) != desired.get(key)
    }


@LAW
@given(STEPS)
@example([foreign(Put(b"/a", b"2")), own(Put(b"/b", b"2"))])
@example([foreign(Put(b"/a", b"2")), own(Put(b"/a", b"1")), foreign(Put(b"/a", b"2"))])
@example([foreign(Put(b"/a", b"2")), WATCH, own(Put(b"/a", b"1")), foreign(Put(b"/a", b"2"))])
def test_watch_that_skips_events_up_to_our_last_write(steps: list[Step]) -> None:
    """As with etcd's v2 API; the loop reads etcd at once when the mirror is lost."""
    etcd, mirror = loaded()
    for who, batch, revisions in steps:
        match who:
            case "own":
                caught_up = not etcd.undelivered
                ours = tuple(one for one in batch if isinstance(one, Put) or one.key in mirror)
                result = etcd.write(ours)
                result = msgspec.structs.replace(result, skipped=bool(result.own_revisions))
                mirror.wrote(ours, result)
                if result.skipped:
                    etcd.undelivered = []
                    assert mirror.lost != caught_up, "lost only if others wrote"
                if mirror.lost:
                    mirror.load(failing_once(etcd.revision, etcd.entries))
            case "foreign":
                etcd.write(batch)
            case "watch":
                mirror.take(etcd.deliver(revisions))
            case _:
                pass
    mirror.take(etcd.deliver(99))
    assert dict(mirror.items()) == etcd.entries


def test_desire_changes_the_difference_and_not_the_entries() -> None:
    desired = claims(a="1", b="1")
    etcd, mirror = loaded(desired)
    steps: list[tuple[dict[bytes, bytes], dict[bytes, bytes | None]]] = [
        ({b"/a": b"2"}, {b"/a": b"1", b"/b": b"1"}),
        ({b"/a": b"3", b"/b": b"1"}, {b"/a": b"1"}),
        ({b"/a": b"1", b"/b": b"1", b"/c": b"1"}, {b"/c": None}),
        ({b"/a": b"1", b"/b": b"1"}, {}),
    ]
    for wanted, differing in steps:
        mirror.desire(desired.put(UNIT, wanted))
        assert (dict(mirror.items()), mirror.differing) == (etcd.entries, differing)


def test_filled_etcd_lacks_only_refused_keys() -> None:
    desired = claims(a="1", b="1")
    put = Put(b"/b", b"1")
    for others, lost in ((0, False), (1, True)):
        mirror = Mirror(desired)
        mirror.load(lambda begin: 7)
        mirror.differing.clear()
        mirror.filled(ApplyResult(8 + others, frozenset({8 + others}), 1, ((put, "too large"),)))
        assert (dict(mirror.items()), mirror.differing, mirror.lost) == ({b"/a": b"1"}, {b"/b": None}, lost)
