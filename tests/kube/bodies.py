"""Response bodies as the API server writes them."""

from __future__ import annotations

import json
from typing import Any

from kube2etcd.kube.codec import decode_list
from kube2etcd.kube.objects import KINDS, ApiObject

SERVICES = KINDS["services"]


def body(items: Any, kind: Any = "Service", **meta: Any) -> bytes:
    return json.dumps(
        {
            "kind": f"{kind}List",
            "apiVersion": "v1",
            "metadata": {"resourceVersion": "7", **meta},
            "items": items,
        }
    ).encode()


def line(type_: Any, obj: Any) -> bytes:
    """A line of a watch."""
    return json.dumps({"type": type_, "object": obj}).encode()


def read_one(name: str, item: dict[str, Any]) -> ApiObject:
    page = decode_list(KINDS[name], body([item], KINDS[name].kind))
    assert page.rejected == []
    (found,) = page.items
    return found


META = {"namespace": "demo", "name": "x"}
