"""The outcome of one pass, for people and for programs.  Pure: values to text."""

from __future__ import annotations

import json

from kube2etcd.app.once import Outcome
from kube2etcd.sync.plan import Create, Delete, Update

#: Keys of others are named up to this many; they may be thousands.
SHOWN = 10


def text(outcome: Outcome, dry: bool = False) -> str:
    """One line for each key, and a summary."""
    lines = [_line(change, outcome) for change in outcome.changes]
    lines += [f"! {_shown(key)}  refused by etcd: {reason}" for key, reason in outcome.refused]
    lines += [
        f"? {_shown(key)}  of another and malformed: it spoils the names above it"
        for key in sorted(outcome.malformed)[:SHOWN]
    ]
    created, updated, deleted = _counts(outcome)
    if outcome.changes:
        would = "would be " if dry else ""
        lines.append(f"{created} {would}created, {updated} {would}updated, {deleted} {would}deleted")
    else:
        lines.append("nothing differs")
    if outcome.held:
        lines.append(
            f"{len(outcome.held)} of the deletions would be held until a second listing agrees (or --force)"
        )
    if outcome.foreign:
        others = len(outcome.foreign)
        lines.append(f"{others} {'key' if others == 1 else 'keys'} of others left alone")
    return "\n".join(lines)


def as_json(outcome: Outcome, dry: bool = False) -> str:
    """One JSON object."""

    def keys(kind: type) -> list[str]:
        return [_shown(change.key) for change in outcome.changes if isinstance(change, kind)]

    return json.dumps(
        {
            "dry_run": dry,
            "equal": not outcome.changes or not (dry or outcome.refused),
            "created": {_shown(c.key): _shown(c.value) for c in outcome.changes if isinstance(c, Create)},
            "updated": {
                _shown(c.key): {"before": _shown(c.before), "after": _shown(c.value)}
                for c in outcome.changes
                if isinstance(c, Update)
            },
            "deleted": keys(Delete),
            "held": [_shown(key) for key in sorted(outcome.held)],
            "refused": {_shown(key): reason for key, reason in outcome.refused},
            "foreign": [_shown(key) for key in sorted(outcome.foreign)],
            "malformed": [_shown(key) for key in sorted(outcome.malformed)],
        },
        indent=2,
        ensure_ascii=False,
    )


def _line(change: Create | Update | Delete, outcome: Outcome) -> str:
    key = _shown(change.key)
    if isinstance(change, Delete):
        return f"- {key}" + ("  (held)" if change.key in outcome.held else "")
    if isinstance(change, Update):
        return f"~ {key}  {_shown(change.before)} -> {_shown(change.value)}"
    return f"+ {key}  {_shown(change.value)}"


def _counts(outcome: Outcome) -> tuple[int, int, int]:
    kinds = [type(change) for change in outcome.changes]
    return kinds.count(Create), kinds.count(Update), kinds.count(Delete)


def _shown(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")
