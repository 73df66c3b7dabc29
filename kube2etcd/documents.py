"""Strict reading of hand-written YAML 1.1 and JSON into plain values.

Accepts what `kubectl` accepts, but rejects duplicate keys, tags without a JSON counterpart and alias bombs.
A date stays text.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import yaml
from yaml.constructor import ConstructorError

#: Limit on a document's values with all aliases expanded, on top of one per character of its text.
MAX_VALUES: Final = 1_000_000

_PLAIN = frozenset({"null", "bool", "int", "float", "str", "seq", "map", "merge"})
_PREFIX = "tag:yaml.org,2002:"
_MERGE: Final = _PREFIX + "merge"


class Unreadable(ValueError):
    """Invalid or ambiguous YAML or JSON; the message says where and why."""


class NotJson(Unreadable):
    """Not JSON, without a position; the text may still be valid YAML, whose parser gives one."""


class _Loader(yaml.SafeLoader):
    """Plain values only."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
            # Python refuses to write longer numbers, and reads them only in hexadecimal and binary.
            if isinstance(value, int):
                str(value)
            return value
        except (ValueError, LookupError, AttributeError) as error:
            # A value that does not match its tag, such as `!!int x` or a number of 5,000 digits.
            kind = node.tag.removeprefix(_PREFIX)
            raise ConstructorError(None, None, f"the value is not a valid {kind}", node.start_mark) from error

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Resolve ``<<``: a mapping's own keys win, then those of the mapping named first.

        PyYAML 6.0.4 compares merged keys by identity, so which value wins there depends on whether the
        interpreter interned the key; hence our own.
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
    """The values of all documents in ``text``, ``None`` for an empty one.

    :raises Unreadable: ``text`` is not UTF-8 or not YAML, a mapping repeats a key, a value contains itself, a
        tag has no JSON counterpart, or aliases expand to too much.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        return list(_documents(text))
    except UnicodeDecodeError as error:
        raise Unreadable(f"not UTF-8 (byte {error.start})") from None
    except yaml.reader.ReaderError as error:
        raise Unreadable(
            f"a character at {error.position} is not allowed (U+{error.character:04X})"
        ) from None
    except yaml.MarkedYAMLError as error:
        raise Unreadable(_one_line(error)) from None
    except RecursionError:
        raise Unreadable("it is nested too deeply") from None
    except ValueError:
        # PyYAML hands the number in an escape such as "\U00110000" to `chr`.
        raise Unreadable("an escaped character is beyond U+10FFFF") from None


def read_json(text: str) -> Any:
    """The value of a JSON text; JSON is YAML too, but the YAML parser is a hundred times slower.

    :raises NotJson: ``text`` is not JSON.
    :raises Unreadable: an object repeats a key.
    """
    try:
        value = msgspec.json.decode(text)
        # msgspec keeps the last duplicate silently.
        json.loads(text, object_pairs_hook=_each_once, parse_int=len, parse_float=len)
    except Unreadable:
        raise
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise NotJson("not JSON") from None
    return value


def _each_once(pairs: list[tuple[str, Any]]) -> None:
    counts = Counter(key for key, _ in pairs)
    if len(counts) != len(pairs):
        raise Unreadable(_twice(max(counts, key=counts.__getitem__)))


def _documents(text: str) -> Iterator[Any]:
    loader = _Loader(text)
    try:
        while loader.check_node():
            node: Any = loader.get_node()
            _weigh(node, MAX_VALUES + len(text), {})
            yield loader.construct_document(node)
    finally:
        loader.dispose()


def _weigh(node: yaml.Node, limit: int, known: dict[int, int]) -> int:
    """Values in ``node`` with every alias expanded; rejects cycles, repeated keys and more than ``limit``.

    ``known`` has the results so far by node, and 0 for nodes in progress.
    """
    if id(node) not in known:
        known[id(node)] = 0
        weight = 1 + sum(_weigh(one, limit, known) for one in _within(node))
        if weight > limit:
            raise ConstructorError(None, None, "its aliases expand to too many values", node.start_mark)
        known[id(node)] = weight
    if not known[id(node)]:
        raise ConstructorError(None, None, "a value contains itself", node.start_mark)
    return known[id(node)]


def _within(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        keys = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ConstructorError(None, None, "a key is a list or a mapping; use text", key.start_mark)
            name = (key.tag, key.value)
            if name in keys:
                raise ConstructorError(None, None, _twice(key.value), key.start_mark)
            keys.add(name)
            yield key
            yield value


def _twice(key: str) -> str:
    return f"the key {key if key.isprintable() else repr(key)} appears twice; keep one of them"


def _one_line(error: yaml.MarkedYAMLError) -> str:
    """Position and problem on one line."""
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    parts = [part for part in (error.context, error.problem) if part]
    return where + " ".join("; ".join(parts).split())
