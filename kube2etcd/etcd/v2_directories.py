"""Directories of etcd's v2 keys: hidden ones are noted before anything is in them, empty ones removed.

An empty directory is a name that still exists, and a hidden one that is not noted is never found again.
Knows paths; must never remove a directory that has anything in it, nor one that nothing was taken out of.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from kube2etcd.errors import EtcdRefused
from kube2etcd.etcd import v2_failures
from kube2etcd.etcd.v2_http import V2Connection
from kube2etcd.etcd.v2_nodes import Tree

log = logging.getLogger(__name__)

# No index is negative.
_NOT_OURS = -1


class Directories:
    """The directories below one prefix, as far as we have to do with them."""

    def __init__(self, connection: V2Connection, tree: Tree) -> None:
        self._connection = connection
        self._tree = tree
        self._noted: set[str] = set()
        # Directories that may be empty, and those that we removed: the watch tells them as well.
        self._untidy: set[str] = set()
        self._leftover: set[str] = set()
        self._removed: dict[str, int | None] = {}

    def read(self, index: int) -> list[str]:
        """The hidden directories, as they are noted at ``index`` or later."""
        notes = self._connection.get_since(index, self._tree.notes)
        node = notes.reply.node
        self._noted = {self._tree.noted(note.key) for note in node.files()} if node is not None else set()
        return sorted(self._noted)

    def left_over(self, directory: str) -> None:
        """A hidden one in which nothing was found: the next writing tidies it up, reading must not write."""
        self._leftover.add(directory)

    def forget_removed(self) -> None:
        """Whoever watches from now on is not told any more what was removed."""
        self._removed.clear()

    def look_at_left_over(self) -> None:
        """We may write now."""
        self._untidy |= self._leftover
        self._leftover.clear()

    def note(self, path: str) -> None:
        """Note the directory of ``path``, where it is hidden, before anything is in it."""
        directory = self._tree.hidden(path)
        if directory is not None and directory not in self._noted:
            answer = self._connection.put(self._tree.note(directory), b"")
            if answer.code:
                raise answer.refusal()
            self._noted.add(directory)

    def leave_behind(self, path: str) -> None:
        """Something was taken out at ``path``: the directory that it was in may be empty now."""
        directory = self._tree.above(path)
        if directory is not None:
            self._untidy.add(directory)

    def tidy(self) -> list[int]:
        """Remove directories that have become empty, the deepest first; the indices that made."""
        made: list[int] = []
        while self._untidy:
            depth = max(directory.count("/") for directory in self._untidy)
            level = sorted(one for one in self._untidy if one.count("/") == depth)

            def work(directory: str) -> Callable[[], int]:
                return lambda: self._rmdir(directory)

            for directory, found in self._connection.workers.together((one, work(one)) for one in level):
                if isinstance(found, EtcdRefused):
                    log.info("the empty directory %s stays: %s", directory, found)
                elif found:
                    made.append(found)
                self._untidy.discard(directory)
        return made

    def _rmdir(self, directory: str) -> int:
        """Remove a directory if it is empty, and have the one above looked at; 0 where it stays."""
        hidden = self._tree.hidden(f"{directory}/.") is not None
        # Before it is sent: the watch may tell it before we are answered.
        self._removed[directory] = None
        answer = self._connection.delete(directory, dir="true")
        node = answer.reply.node
        index = node.modified if node is not None and not answer.code else 0
        if not index:
            self._removed.pop(directory, None)
        else:
            self._removed[directory] = index
        if index or answer.code == v2_failures.NOT_FOUND:
            self.leave_behind(directory)
            if hidden and directory in self._noted:
                self._connection.delete(self._tree.note(directory))
                self._noted.discard(directory)
        return index

    def is_own(self, directory: str, index: int) -> bool:
        """Whether the removal of a directory was ours."""
        # Asked by the watch's thread, while the other one may be about to tell how it went.
        removed = self._removed.get(directory, _NOT_OURS)
        if removed == index:
            self._removed.pop(directory, None)
        return removed in (None, index)
