"""The mirror is the truth again once the watch has told everything, whatever came in between."""

from __future__ import annotations

from collections.abc import Callable

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

    def tell(self, revisions: int) -> WatchBatch:
        """What happened in the next so many revisions."""
        if not self.untold:
            return WatchBatch(self.revision)
        until = self.untold[0].mod_revision + revisions - 1
        told = tuple(event for event in self.untold if event.mod_revision <= until)
        self.untold = self.untold[len(told) :]
        return WatchBatch(min(until, self.revision), told)


def reading(revision: int, entries: dict[bytes, bytes]) -> Callable[[changes.Begin], int]:
    """A reading that fails once, after its first page."""

    def read(begin: changes.Begin) -> int:
        begin()({b"/a": b"failed"}.items())
        take = begin()
        for pair in entries.items():
            take([pair])
        return revision

    return read


def desiring(**wanted: str) -> Claims:
    """Keys of one unit, each in a group of its own."""
    claims = Claims(Groups(Layout()), lambda *_: (0, 0, "", "", ""))
    claims.put(UNIT, {f"/{name}".encode(): value.encode() for name, value in wanted.items()})
    return claims


def loaded(desired: Claims | None = None) -> tuple[Etcd, Mirror]:
    etcd, mirror = Etcd({b"/a": b"1", b"/b": b"1"}, 7), Mirror(desiring() if desired is None else desired)
    mirror.load(reading(7, etcd.entries))
    return etcd, mirror


def test_a_snapshot_tells_what_is_not_as_it_was_known() -> None:
    mirror = Mirror(desiring())
    assert mirror.load(reading(3, {b"/a": b"1", b"/b": b"1", b"/c": b"1"})) == {b"/a", b"/b", b"/c"}
    mirror.wrote([Put(b"/a", b"2"), Delete(b"/b")], ApplyResult(4, frozenset({4}), 2, ()))
    assert mirror.load(reading(5, {b"/a": b"2", b"/c": b"spoilt", b"/d": b"new"})) == {b"/c", b"/d"}
    assert mirror.load(reading(6, {})) == {b"/a", b"/c", b"/d"}


def test_what_is_older_than_the_snapshot_is_known() -> None:
    etcd, mirror = loaded()
    assert mirror.take(WatchBatch(7, (WatchEvent(b"/a", b"0", 7),))) == set()
    assert mirror == etcd.entries


def test_refused_changes_did_not_happen() -> None:
    _, mirror = loaded()
    put, delete = Put(b"/a", b"2"), Delete(b"/b")
    mirror.wrote([put, delete], ApplyResult(8, frozenset({8}), 1, refused=((put, "too large"),)))
    assert mirror == {b"/a": b"1"}


Step = tuple[str, changes.Batch, int]
WATCH: Step = ("watch", (), 1)


def they(*batch: changes.Change) -> Step:
    return ("they", batch, 0)


def we(*batch: changes.Change) -> Step:
    return ("we", batch, 0)


_CHANGES: st.SearchStrategy[changes.Change] = st.builds(
    Put, st.sampled_from(KEYS), st.sampled_from(VALUES)
) | st.builds(Delete, st.sampled_from(KEYS))
BATCHES = st.lists(_CHANGES, min_size=1, max_size=3, unique_by=lambda change: change.key).map(tuple)
STEPS: st.SearchStrategy[list[Step]] = st.lists(
    st.tuples(st.sampled_from(["we", "they", "wish"]), BATCHES, st.just(0))
    | st.tuples(st.just("watch"), st.just(()), st.integers(1, 3))
    | st.tuples(st.just("snapshot"), st.just(()), st.just(0)),
    max_size=14,
)


@LAW
@given(STEPS)
@example([they(Delete(b"/a")), we(Delete(b"/a")), they(Put(b"/a", b"1"))])
@example([they(Put(b"/b", b"2")), we(Put(b"/a", b"2")), we(Put(b"/a", b"1")), WATCH])
@example([they(Put(b"/a", b"2")), we(Put(b"/a", b"1")), WATCH])
@example([they(Put(b"/b", b"2")), we(Delete(b"/a")), WATCH, WATCH])
@example([they(Put(b"/a", b"2")), we(Delete(b"/a")), WATCH, WATCH])
@example([they(Put(b"/b", b"2")), we(Put(b"/a", b"2")), ("snapshot", (), 0), they(Put(b"/a", b"1"))])
def test_any_interleaving_ends_with_the_truth(steps: list[Step]) -> None:
    """We delete only what we believe to be there; another may have done so before us."""
    desired = desiring()
    etcd, mirror = loaded(desired)
    history = {etcd.revision: dict(etcd.entries)}
    theirs: set[int] = set()
    since = dict.fromkeys(KEYS, etcd.revision)  # no event before that counts
    deleted: set[bytes] = set()

    def take(revisions: int) -> None:
        before, batch = dict(mirror.items()), etcd.tell(revisions)
        news = mirror.take(batch)
        told = [
            one for one in batch.events if one.mod_revision in theirs or one.key in deleted & before.keys()
        ]
        assert {key for key, _ in before.items() ^ mirror.items()} <= news <= {one.key for one in told}
        for key in {*KEYS} - deleted:
            assert mirror.get(key) == history[max(since[key], batch.revision)].get(key)

    for who, batch, revisions in steps:
        match who:
            case "we":
                ours = tuple(one for one in batch if isinstance(one, Put) or one.key in mirror)
                result = etcd.write(ours)
                mirror.wrote(ours, result)
                since |= {one.key: result.revision for one in ours}
                # Whether that is the last word, the next snapshot says.
                deleted |= {one.key for one in ours if isinstance(one, Delete)}
            case "they":
                theirs |= etcd.write(batch).own_revisions
            case "wish":
                mirror.desire(
                    desired.put(UNIT, {one.key: one.value for one in batch if isinstance(one, Put)})
                )
            case "snapshot":
                # Events of before may still be on their way.
                mirror.load(reading(etcd.revision, etcd.entries))
                since = dict.fromkeys(KEYS, etcd.revision)
                deleted.clear()
            case _:
                take(revisions)
        history[etcd.revision] = dict(etcd.entries)
    while etcd.untold:
        take(2)
    assert (dict(mirror.items()), len(mirror)) == (etcd.entries, len(etcd.entries))
    assert mirror.differing == {
        key: etcd.entries.get(key) for key in KEYS if etcd.entries.get(key) != desired.get(key)
    }


def test_etcd_holds_what_was_desired_before_until_that_is_written() -> None:
    desired = desiring(a="1", b="1")
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


def test_an_empty_etcd_that_was_filled_holds_all_but_what_it_refused() -> None:
    desired = desiring(a="1", b="1")
    put = Put(b"/b", b"1")
    for others, lost in ((0, False), (1, True)):
        mirror = Mirror(desired)
        mirror.load(lambda begin: 7)
        mirror.differing.clear()
        mirror.filled(ApplyResult(8 + others, frozenset({8 + others}), 1, ((put, "too large"),)))
        assert (dict(mirror.items()), mirror.differing, mirror.lost) == ({b"/a": b"1"}, {b"/b": None}, lost)
