"""The state as DNSEndpoint objects: which object says what, and what one that was read says.

One object for each part of the names, and one, without endpoints, for what was set at run time.  Each
carries a number that grows with what it says.  Knows the form of the objects; must never ask the API
server, nor decide which of two objects counts.  Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from kube2etcd.external import Endpoint, EndpointKey
from kube2etcd.kube.objects import KINDS
from kube2etcd.webhook.shards import SHARDS, Parts, shard
from kube2etcd.webhook.state import State, encode_endpoints, encode_head

#: What our objects carry, and are listed by.
LABEL: Final = "app.kubernetes.io/managed-by"
MANAGER: Final = "kube2etcd-webhook"
#: Where what was set at run time stands, as an annotation of the object without endpoints.
HEAD: Final = "kube2etcd/webhook"
#: How often what an object says has changed, as an annotation of each.
GENERATION: Final = "kube2etcd/generation"

KIND: Final = KINDS["dnsendpoints"]
_NAMES: Final = [f"{MANAGER}-{number:02}" for number in range(SHARDS)]


@dataclass(frozen=True, slots=True)
class Part:
    """What one object is to say."""

    name: str
    content: bytes
    """As `content` has it."""

    @property
    def says_anything(self) -> bool:
        """Whether an object that is not there is missed."""
        return self.content not in _SAYING_NOTHING

    def body(self, namespace: str, generation: int, version: str | None) -> dict[str, Any]:
        """The object; ``version``: the resource version that it is to replace."""
        endpoints, head = msgspec.json.decode(self.content)
        meta = {
            "name": self.name,
            "namespace": namespace,
            "labels": {LABEL: MANAGER},
            "annotations": ({HEAD: head} if head else {}) | {GENERATION: str(generation)},
        }
        if version is not None:
            meta["resourceVersion"] = version
        return {
            "apiVersion": f"{KIND.group}/{KIND.version}",
            "kind": KIND.kind,
            "metadata": meta,
            "spec": {"endpoints": endpoints},
        }


class Cutter:
    """Cuts states into parts, and remembers the last one so that only what differs is made again."""

    def __init__(self) -> None:
        self._parts = Parts(_said)

    def cut(self, state: State) -> list[Part]:
        """What every object is to say."""
        head = Part(MANAGER, _content([], _head(state)))
        return [head, *map(Part, _NAMES, self._parts.cut(state))]


def part_of(key: EndpointKey) -> str:
    """The name of the object that holds an endpoint."""
    return _NAMES[shard(key)]


def identity(item: Any) -> tuple[str, str] | None:
    """Name and resource version of an object that was read; None where it has no metadata."""
    meta = item.get("metadata") if isinstance(item, dict) else None
    return (str(meta.get("name")), str(meta.get("resourceVersion"))) if isinstance(meta, dict) else None


def content(item: Mapping[str, Any]) -> bytes:
    """What of an object that was read is ours to say."""
    return _content((item.get("spec") or {}).get("endpoints") or [], annotation(item))


def annotation(item: Mapping[str, Any], key: str = HEAD) -> str:
    """An annotation's text, empty where it is not there."""
    return str(((item.get("metadata") or {}).get("annotations") or {}).get(key, ""))


def generation(item: Mapping[str, Any]) -> int:
    """Zero where it has none that can be read, such as one of an older version of ours."""
    text = annotation(item, GENERATION)
    return int(text) if re.fullmatch("[0-9]{1,15}", text) else 0


def _said(endpoints: list[Endpoint]) -> bytes:
    return _content(msgspec.json.decode(encode_endpoints(endpoints)), "")


def _content(endpoints: list[Any], head: str) -> bytes:
    return msgspec.json.encode([endpoints, head], order="sorted")


def _head(state: State) -> str:
    return msgspec.json.encode(encode_head(state)).decode()


_SAYING_NOTHING: Final = (_content([], ""), _content([], _head(State())))
