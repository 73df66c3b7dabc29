"""The shape of etcd's v2 keys: a tree of directories and values, part of it hidden.  Pure.

What shapes everything here: a directory cannot hold a value, and a node whose name begins with ``_``
is in no listing of the directories above it and in no watch on them.  Whoever has its path can read
it.  So whatever is written below a hidden directory is noted in a visible one (`Tree.note`), or it
could never be found again.  Knows paths and JSON; must never look into a value.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import msgspec

#: Below the prefix: where hidden directories are noted.  Hidden itself, so that no reader meets it.
NOTES = "_kube2etcd/hidden"
#: Stands for the slash in the name of a note; no DNS name has it.
_SLASH = "|"


class Node(msgspec.Struct, rename={"modified": "modifiedIndex", "nodes": "nodes"}):
    """One node of an answer: a directory, or a key with its value."""

    key: str = ""
    value: str = ""
    dir: bool = False
    modified: int = 0
    nodes: list[Node] | None = None

    def files(self) -> Iterator[Node]:
        """The keys with values at and below this node, as far as they are listed."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            if node.dir:
                waiting += node.nodes or ()
            else:
                yield node


class Reply(msgspec.Struct, rename={"code": "errorCode", "before": "prevNode"}):
    """The body of an answer, or one event of a watch: what was done, or what was wrong."""

    action: str = ""
    node: Node | None = None
    before: Node | None = None
    code: int = 0
    message: str = ""
    cause: str = ""
    index: int = 0


_decoder = msgspec.json.Decoder(Reply)


def decode(body: bytes) -> Reply:
    """The reply in ``body``; `ValueError` when it is not one of etcd's."""
    return _decoder.decode(body)


class Tree:
    """Where keys are, below one prefix such as ``/skydns``."""

    def __init__(self, prefix: str) -> None:
        self.prefix = "/" + prefix.strip("/")
        self.notes = f"{self.prefix}/{NOTES}"

    def path(self, key: bytes) -> str | None:
        """The path of ``key``, or None where the tree cannot hold it: no text, or outside the prefix.

        A last segment that is hidden could not be listed even from its own directory.
        """
        try:
            path = key.decode()
        except UnicodeDecodeError:
            return None
        segments = path.split("/")[1:]
        odd = any(segment in ("", ".", "..") or _SLASH in segment for segment in segments)
        if odd or segments[-1].startswith("_") or not path.startswith(self.prefix + "/"):
            return None
        return None if path.startswith(self.notes + "/") else path

    def hidden(self, path: str) -> str | None:
        """The directory of ``path`` where that, or one above it, is hidden; None where ``path`` is listed."""
        parent = path.rpartition("/")[0]
        return parent if "/_" in parent[len(self.prefix) :] else None

    def is_hidden(self, path: str) -> bool:
        """Whether no listing and no open watch tells of ``path``."""
        return "/_" in path[len(self.prefix) :]

    def note(self, directory: str) -> str:
        """The path of the note that says that ``directory`` is there."""
        inside = directory[len(self.prefix) + 1 :]
        # The first segment must not hide the note itself.
        return f"{self.notes}/{_SLASH}{inside.replace('/', _SLASH)}"

    def noted(self, path: str) -> str:
        """The directory that a note is about."""
        return f"{self.prefix}/{path.rpartition('/')[2][1:].replace(_SLASH, '/')}"

    def above(self, path: str) -> str | None:
        """The directory that ``path`` is in, or None for the prefix, which stays."""
        parent = path.rpartition("/")[0]
        return parent if len(parent) > len(self.prefix) else None


def url_path(path: str) -> str:
    """The path as a URL has it."""
    return "/v2/keys" + quote(path, safe="/")
