"""YAML and JSON as people write them, to plain values: what could be meant in two ways is refused.

What it may know: YAML 1.1 as `kubectl` and Go's parsers take it, JSON.  What it must never do: make anything
but null, booleans, numbers, texts, lists and mappings with plain keys, or let a few lines with aliases
fill the memory.  A date stays the text that it is.  Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import yaml
from yaml.constructor import ConstructorError

#: Values that aliases may stand for in one text, beyond one for each of its characters.
MOST: Final = 1_000_000

_PLAIN = frozenset({"null", "bool", "int", "float", "str", "seq", "map", "merge"})
_PREFIX = "tag:yaml.org,2002:"
_MERGE: Final = _PREFIX + "merge"


class Unreadable(ValueError):
    """No YAML or JSON, or none that can be meant in one way only; the message says where and why."""


class NotJson(Unreadable):
    """No JSON, which does not say where: read as YAML, as which it may be good, it does."""


class _Loader(yaml.SafeLoader):
    """Plain values only."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError) as error:
            # What a tag promises and the text does not keep: `!!int x`; or a number of 5000 digits.
            kind = node.tag.removeprefix(_PREFIX)
            raise ConstructorError(
                None, None, f"what stands there is no usable {kind}", node.start_mark
            ) from error

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Resolve ``<<``: a mapping's own keys win, then those of the mapping that is named first.

        Done here because PyYAML 6.0.4 tells keys apart by the identity of their text: which value wins
        there depends on whether the interpreter interned it.
        """
        if all(key.tag != _MERGE for key, _ in node.value):
            return
        pairs = [(key, value) for key, value in node.value if key.tag != _MERGE]
        for key, value in node.value:
            if key.tag == _MERGE:
                for merged in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if not isinstance(merged, yaml.MappingNode):
                        problem = f"expected a mapping for merging, but found {merged.id}"
                        raise ConstructorError(None, None, problem, merged.start_mark)
                    self.flatten_mapping(merged)
                    pairs += merged.value
        first: dict[tuple[str, str], tuple[yaml.Node, yaml.Node]] = {}
        for key, value in pairs:
            first.setdefault((key.tag, key.value), (key, value))
        node.value = list(first.values())


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.removeprefix(_PREFIX) in _PLAIN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.yaml_constructors = {
    tag: constructor
    for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.removeprefix(_PREFIX) in _PLAIN
}


def read_documents(text: str | bytes) -> list[Any]:
    """The values of all documents, ``None`` for an empty one.

    :raises Unreadable: it is no text or no YAML, a key stands twice in one mapping, a value holds
        itself, a tag makes something that JSON does not have, or aliases stand for too much.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        return list(_documents(text))
    except UnicodeDecodeError as error:
        raise Unreadable(f"it is no text in UTF-8 (byte {error.start})") from None
    except yaml.reader.ReaderError as error:
        raise Unreadable(
            f"a character at {error.position} is not allowed (U+{error.character:04X})"
        ) from None
    except yaml.MarkedYAMLError as error:
        raise Unreadable(_told(error)) from None
    except RecursionError:
        raise Unreadable("it is nested too deeply") from None


def read_json(text: str) -> Any:
    """The value of a JSON text: JSON is YAML as well, but a hundred times slower to read so.

    :raises NotJson: it is none.
    :raises Unreadable: a key stands twice in one object.
    """
    try:
        value = msgspec.json.decode(text)
        # msgspec keeps the last of several, and never says so.
        json.loads(text, object_pairs_hook=_each_once, parse_int=len, parse_float=len)
    except _Twice:
        [(key, at), *_] = _keys_again(text)
        line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
        raise Unreadable(f"line {line}, column {column}: {_twice(key)}") from None
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise NotJson("it is no JSON") from None
    return value


class _Twice(Exception):
    """A key that stands twice, somewhere."""


def _each_once(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        raise _Twice


_MARK: Final = re.compile(r'("(?:[^"\\]|\\.)*")(\s*:)?|[{}]')


def _keys_again(text: str) -> Iterator[tuple[str, int]]:
    """Keys that stand in their object already, and where; the text is known to be JSON."""
    above: list[set[str]] = []
    for mark in _MARK.finditer(text):
        if mark[0] == "{":
            above.append(set())
        elif mark[0] == "}":
            above.pop()
        elif mark[2] is not None:
            key = json.loads(mark[1])
            if key in above[-1]:
                yield key, mark.start()
            above[-1].add(key)


def _twice(key: str) -> str:
    return f"the key {key if key.isprintable() else repr(key)} stands there twice; keep one of them"


def _documents(text: str) -> Iterator[Any]:
    loader = _Loader(text)
    try:
        while loader.check_node():
            node: Any = loader.get_node()
            _Weight(MOST + len(text)).of(node)
            yield loader.construct_document(node)
    finally:
        loader.dispose()


class _Weight:
    """How many values a document holds once every alias is written out."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[int, int] = {}
        self._above: set[int] = set()

    def of(self, node: yaml.Node) -> int:
        """Of this node; refuses one that holds itself, a key that stands twice, and too many."""
        mark = id(node)
        if mark in self._above:
            raise ConstructorError(None, None, "a value holds itself", node.start_mark)
        if mark not in self._known:
            self._above.add(mark)
            self._known[mark] = weight = 1 + sum(map(self.of, _within(node)))
            self._above.discard(mark)
            if weight > self._most:
                raise ConstructorError(None, None, "its aliases stand for too many values", node.start_mark)
        return self._known[mark]


def _within(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        keys = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ConstructorError(None, None, "a key is a list or a mapping; write text", key.start_mark)
            name = (key.tag, key.value)
            if name in keys:
                raise ConstructorError(None, None, _twice(key.value), key.start_mark)
            keys.add(name)
            yield key
            yield value


def _told(error: yaml.MarkedYAMLError) -> str:
    """One line: place and problem."""
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    parts = [part for part in (error.context, error.problem) if part]
    return where + " ".join("; ".join(parts).split())
