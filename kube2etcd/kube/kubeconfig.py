"""What is wrong with a kubeconfig that could not be used, in one sentence that says what to do.

Asked after the package ``kubernetes`` has given up, whose own texts speak of its types and may quote an entry
with its token.

Of a user's entry nothing but its name gets into a message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

#: Names that are shown of a list; a kubeconfig may hold hundreds.
SHOWN: Final = 8

_LISTS: Final = ("clusters", "users", "contexts")


class _Fault(Exception):
    """Found it."""


def fault(paths: Sequence[Path], context: str | None) -> str | None:
    """What is wrong with the first of the files that is, or with all together; None where it is not seen.

    ``context`` is the one that is asked for, ``None``: the current one.
    """
    names = ":".join(map(str, paths))
    try:
        merged: dict[str, Any] = {kind: [] for kind in _LISTS}
        for path in paths:
            one = _file(path)
            for kind in _LISTS:
                merged[kind] += _entries(path, kind, one.get(kind))
            if "current-context" in one:
                merged["current-context"] = one["current-context"]
        _context(names, merged, context)
    except _Fault as found:
        return str(found)
    return None


def no_file(path: Path) -> str | None:
    """Why there is nothing to read at a path; None where there is a file or nothing at all."""
    if path.is_dir():
        inside = path / "config"
        hint = f": did you mean {inside}?" if inside.is_file() else "; name the file in it"
        return f"the kubeconfig {path} is a folder{hint}"
    if path.exists():
        return f"the kubeconfig {path} is no file that can be read again and again; write it to one"
    return None


def _file(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return {}
    except UnicodeDecodeError as error:
        raise _Fault(
            f"the kubeconfig {path} is no text in UTF-8 (byte {error.start}); is it the right file?"
        ) from None
    try:
        documents = [one for one in yaml.safe_load_all(text) if one is not None]
    except yaml.YAMLError as error:
        # The parser's own text may quote the line, and the line may hold a token.
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""
        raise _Fault(f"the kubeconfig {path} is not YAML{where}; correct it, or name another file") from None
    except RecursionError:
        raise _Fault(f"the kubeconfig {path} is nested too deeply; is it the right file?") from None
    if not documents:
        raise _Fault(f"the kubeconfig {path} is empty; write one there, or name another file")
    if len(documents) > 1:
        raise _Fault(f"the kubeconfig {path} holds {len(documents)} documents; leave one")
    if not isinstance(documents[0], dict):
        raise _Fault(
            f"the kubeconfig {path} has not the form of one: a mapping with clusters, users and contexts"
        )
    return documents[0]


def _entries(path: Path, kind: str, found: Any) -> list[Mapping[str, Any]]:
    if found is None:
        return []
    if not isinstance(found, list):
        raise _Fault(f"the kubeconfig {path} has not the form of one: {kind} is no list")
    for number, entry in enumerate(found):
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise _Fault(f"the kubeconfig {path} has not the form of one: {kind}[{number}] has no name: TEXT")
        inside = kind.removesuffix("s")
        if entry.get(inside) is not None and not isinstance(entry[inside], dict):
            raise _Fault(
                f"the kubeconfig {path} has not the form of one: {kind}[{number}].{inside} is no mapping"
            )
    return found


def _context(names: str, merged: Mapping[str, Any], asked: str | None) -> None:
    there = [entry["name"] for entry in merged["contexts"]]
    current = merged.get("current-context")
    if not there:
        raise _Fault(f"the kubeconfig {names} has no contexts, so it names no cluster; name another file")
    if asked is None and not current:
        raise _Fault(
            f"the kubeconfig {names} has no current context; name one with --context: {_shown(there)}"
        )
    wanted = current if asked is None else asked
    if wanted not in there:
        text = (
            f"'s current context {wanted!r} is not in it" if asked is None else f" has no context {wanted!r}"
        )
        raise _Fault(f"the kubeconfig {names}{text}; name one with --context: {_shown(there)}")
    inside = next(entry for entry in merged["contexts"] if entry["name"] == wanted).get("context") or {}
    clusters = [entry["name"] for entry in merged["clusters"]]
    if inside.get("cluster") not in clusters:
        raise _Fault(
            f"the kubeconfig {names} has no cluster {inside.get('cluster')!r}, which its context {wanted!r}"
            f" names; name another context with --context: {_shown(there)}"
        )


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
