"""The state as DNSEndpoint objects of the API server, so that every bridge of a cluster can read it.

One object for each part of the names, and one for what was set at run time.  A part is rewritten as a
whole when something in it changes, on the condition that it is still the one that we know.  An object
is never taken away while we keep a state, so one that is missing was taken away by somebody, and is
written again; one that differs was written by another webhook, and is taken over.  Each carries a number
that grows with what it says: so one that was put back by a webhook which had missed a change is told from
one that is new.

A call that changes several parts is kept part by part: should the process be killed in between, the
client has no answer and asks again.  Knows paths and bodies of the API; must never decide about names.
"""

from __future__ import annotations

import logging
import re
import time
import zlib
from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec

from kube2etcd.cluster.failures import ApiRefused
from kube2etcd.cluster.objects import KINDS
from kube2etcd.errors import ApiError, ApiNotFound
from kube2etcd.external import Endpoint, EndpointKey
from kube2etcd.webhook.keep import PROGRESS, REQUEST, NotKept, Overtaken
from kube2etcd.webhook.state import (
    State,
    decode_endpoints,
    decode_head,
    encode_endpoints,
    encode_head,
)

log = logging.getLogger(__name__)

#: Parts of the names: some hundred endpoints each, of ten thousand.
PARTS: Final = 64
#: What our objects carry, and are listed by.
LABEL: Final = "app.kubernetes.io/managed-by"
MANAGER: Final = "kube2etcd-webhook"
#: Where what was set at run time stands, as an annotation of the object without endpoints.
HEAD: Final = "kube2etcd/webhook"
#: How often what an object says has changed, as an annotation of each.
GENERATION: Final = "kube2etcd/generation"
#: The newest of what we have never seen: no content is like it.
_NEVER: Final = (0, b"?")

_KIND: Final = KINDS["dnsendpoints"]
_VERSIONS_ONLY: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"


class Api(Protocol):
    """What is needed of the API server's connection."""

    def request(
        self,
        method: str,
        path: str,
        params: Mapping[str, str],
        *,
        timeout: float,
        body: bytes | None = None,
        accept: str = "application/json",
    ) -> bytes:
        """One complete answer; an `ApiError` else."""
        ...


class _Changed(Exception):
    """An object is not the one that we know."""


class ObjectsKeeper:
    """Keeps the state in ``namespace``."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api, self._namespace = api, namespace
        self._path = _KIND.path(namespace)
        self._versions: dict[str, str] = {}
        """Resource versions by object, as far as we know them."""
        self._written: dict[str, bytes] = {}
        """What we last wrote or read, by object; nothing where that is in doubt."""
        self._newest: dict[str, tuple[int, bytes]] = {}
        """The newest that we know of each object, be it gone: generation and content; empty: we have sent
        something and not heard of its fate."""

    def load(self) -> State:
        """As `Keeper` says."""
        self._forget()
        return self._taken_over(State(), self._list(time.monotonic() + 3 * REQUEST))

    def save(self, state: State, deadline: float) -> None:
        """As `Keeper` says."""
        done = deadline + PROGRESS
        for name, body in _cut(state, self._namespace).items():
            if self._written.get(name) == _content(body) and name in self._versions:
                continue
            if name not in self._versions and not _says_anything(body):
                continue
            try:
                self._write(name, body, deadline)
                deadline = done
            except _Changed:
                raise Overtaken(f"another webhook has changed {self._namespace}/{name}: try again") from None

    def check(self, state: State, deadline: float) -> State:
        """As `Keeper` says: what another has written counts, what is missing is written again."""
        present = {
            name: version for name, version, _ in map(_identity, self._list(deadline, accept=_VERSIONS_ONLY))
        }
        if any(self._versions.get(name) != version for name, version in present.items()):
            items = self._list(deadline)
            present = {name: version for name, version, _ in map(_identity, items)}
            found = self._taken_over(state, items)
            state = state if found == state else found
        gone = self._versions.keys() - present.keys()
        for name in gone:
            del self._versions[name]
        if gone:
            log.warning("%d objects in %s were deleted, and are written again", len(gone), self._namespace)
        self.save(state, deadline)
        return state

    def clear(self) -> None:
        """As `Keeper` says."""
        self._ask("DELETE", self._path, {"labelSelector": f"{LABEL}={MANAGER}"}, time.monotonic() + REQUEST)
        self._forget()

    # --- inside -----------------------------------------------------------------------------------

    def _forget(self) -> None:
        self._versions, self._written, self._newest = {}, {}, {}

    def _taken_over(self, state: State, items: list[dict[str, Any]]) -> State:
        """``state`` with the parts that others have written since we last looked."""
        endpoints, head = dict(state.endpoints), state
        for item in items:
            name, version, content = _identity(item)
            if self._versions.get(name) == version:
                continue
            generation = _generation(item)
            if generation < self._newest.get(name, _NEVER)[0]:
                # Lost, and put back by somebody who had not heard of the last change: ours is newer.
                self._versions[name] = version
                self._written.pop(name, None)
                continue
            try:
                if name == MANAGER:
                    head = decode_head(msgspec.json.decode(_annotation(item)))
                found = decode_endpoints((item.get("spec") or {}).get("endpoints") or [])
            except (ValueError, RecursionError) as error:
                raise NotKept(
                    f"the object {self._namespace}/{name} cannot be used ({error}): put back a copy, or"
                    " delete it to begin anew"
                ) from None
            endpoints = {key: one for key, one in endpoints.items() if _part(key) != name} | found
            self._versions[name], self._written[name] = version, content
            self._newest[name] = (generation, content)
        return State(endpoints, head.domains, head.cluster)

    def _list(self, deadline: float, accept: str = "application/json") -> list[dict[str, Any]]:
        params = {"labelSelector": f"{LABEL}={MANAGER}"}
        answer = self._ask("GET", self._path, params, deadline, accept=accept)
        items = answer.get("items") or []
        if "items" not in answer or not isinstance(items, list):
            raise NotKept(f"the answer to listing the state in {self._namespace} is no list")
        return items

    def _write(self, name: str, body: dict[str, Any], deadline: float) -> None:
        version, content = self._versions.get(name), _content(body)
        newest = self._newest.get(name, _NEVER)
        # Once for all that we send until we hear: others may go on counting meanwhile.
        generation = newest[0] + (newest[1] not in (content, b""))
        self._newest[name] = (generation, content if content == newest[1] else b"")
        self._written.pop(name, None)
        annotations = {**body["metadata"]["annotations"], GENERATION: str(generation)}
        meta = {**body["metadata"], "annotations": annotations}
        if version is None:
            method, path = "POST", self._path
        else:
            method, path = "PUT", f"{self._path}/{name}"
            meta["resourceVersion"] = version
        try:
            answer = self._ask(method, path, {}, deadline, {**body, "metadata": meta})
        except _Changed:
            self._newest[name] = newest
            raise
        self._versions[name] = _identity(answer)[1]
        self._written[name] = content
        self._newest[name] = (generation, content)

    def _ask(
        self,
        method: str,
        path: str,
        params: Mapping[str, str],
        deadline: float,
        body: dict[str, Any] | None = None,
        accept: str = "application/json",
    ) -> dict[str, Any]:
        if time.monotonic() > deadline:
            raise NotKept("the API server was too slow to keep all of it: try again")
        data = None if body is None else msgspec.json.encode(body)
        try:
            answer = self._api.request(method, path, params, timeout=REQUEST, body=data, accept=accept)
        except ApiRefused as error:
            if error.status == 409:
                raise _Changed from None
            raise NotKept(str(error)) from None
        except ApiNotFound as error:
            if method == "PUT":
                self._versions.pop(path.rpartition("/")[2], None)
            raise NotKept(f"{error}; the state needs ExternalDNS's DNSEndpoint definition") from None
        except ApiError as error:
            raise NotKept(str(error)) from None
        try:
            found = msgspec.json.decode(answer)
        except msgspec.DecodeError:
            found = None
        if not isinstance(found, dict):
            raise NotKept("the answer of the API server is no object")
        return found


def _cut(state: State, namespace: str) -> dict[str, dict[str, Any]]:
    """The objects that say ``state``, by name."""
    members: dict[str, list[Endpoint]] = {f"{MANAGER}-{number:02}": [] for number in range(PARTS)}
    for key, endpoint in state.endpoints.items():
        members[_part(key)].append(endpoint)
    head = msgspec.json.encode(encode_head(state)).decode()
    found = {MANAGER: _object(MANAGER, namespace, [], {HEAD: head})}
    for name, endpoints in members.items():
        found[name] = _object(name, namespace, msgspec.json.decode(encode_endpoints(endpoints)), {})
    return found


def _part(key: EndpointKey) -> str:
    """The object that holds an endpoint."""
    return f"{MANAGER}-{zlib.crc32(key.name.encode(errors='replace')) % PARTS:02}"


def _object(name: str, namespace: str, endpoints: list[Any], annotations: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": f"{_KIND.group}/{_KIND.version}",
        "kind": _KIND.kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {LABEL: MANAGER},
            "annotations": annotations,
        },
        "spec": {"endpoints": endpoints},
    }


def _says_anything(body: dict[str, Any]) -> bool:
    """Whether an object that is not there is missed."""
    return bool(body["spec"]["endpoints"]) or body["metadata"]["annotations"].get(HEAD, _NOTHING) != _NOTHING


_NOTHING: Final = msgspec.json.encode(encode_head(State())).decode()


def _identity(item: Any) -> tuple[str, str, bytes]:
    """Name, resource version and content; empty where there is none."""
    meta = item.get("metadata") if isinstance(item, dict) else None
    if not isinstance(meta, dict):
        raise NotKept("an object of the state has no metadata")
    return str(meta.get("name")), str(meta.get("resourceVersion")), _content(item)


def _content(item: dict[str, Any]) -> bytes:
    """What of an object is ours to say."""
    return msgspec.json.encode(
        [(item.get("spec") or {}).get("endpoints") or [], _annotation(item)], order="sorted"
    )


def _annotation(item: dict[str, Any], key: str = HEAD) -> str:
    return str(((item.get("metadata") or {}).get("annotations") or {}).get(key, ""))


def _generation(item: dict[str, Any]) -> int:
    """Zero where it has none that can be read, such as one of an older version of ours."""
    text = _annotation(item, GENERATION)
    return int(text) if re.fullmatch("[0-9]{1,15}", text) else 0
