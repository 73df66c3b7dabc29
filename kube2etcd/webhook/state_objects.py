"""The state as DNSEndpoint objects of the API server, which every bridge with --dns-endpoints reads.

One object per part of the names, and one (the head) for everything else.  Writes require the known
resourceVersion.  A missing object is written again; one that differs was written by another webhook, and is
adopted.  The generation in each object shows whether a webhook that had missed a change restored it.

A call that changes several objects is not atomic: if the process is killed in between, the client gets no
answer and repeats the call.
"""

from __future__ import annotations

import logging
import re
import time
import zlib
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import msgspec

from kube2etcd.errors import ApiError, ApiNotFound
from kube2etcd.external import Endpoint, EndpointKey
from kube2etcd.kube.client import ApiConnection
from kube2etcd.kube.codec import shallow, without_nulls
from kube2etcd.kube.failures import ApiRefused
from kube2etcd.kube.objects import KINDS
from kube2etcd.kube.wire import ENDPOINTS, GENERATION, HEAD, Wire, WireDnsEndpoint, pack, unpack
from kube2etcd.webhook.state import (
    REQUEST_TIMEOUT,
    Head,
    NotStored,
    Overtaken,
    State,
    decode_endpoints,
    decode_head,
    encode_head,
    encode_sorted,
)

log = logging.getLogger(__name__)

#: The label by which our objects are listed.
LABEL: Final = "app.kubernetes.io/managed-by"
MANAGER: Final = "kube2etcd-webhook"
KIND: Final = KINDS["dnsendpoints"]
#: Parts of a state; of ten thousand endpoints, each holds about 150.
PARTS: Final = 64
#: Concurrent writes.
AT_ONCE = 8

_NAMES: Final = [f"{MANAGER}-{number:02}" for number in range(PARTS)]
_VERSIONS_ONLY: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"


_T = TypeVar("_T")


class _List(Wire):
    items: list[WireDnsEndpoint] | None


class _Conflict(Exception):
    """409: the object is not the known version, or exists already."""


class _Missing(NotStored):
    """404: the object, the namespace or the kind does not exist."""


@dataclass(slots=True)
class _Object:
    """What is known of one object."""

    version: str = ""
    """Its resourceVersion; empty if it does not exist."""
    generation: int = 0
    """The highest known, even if that object was deleted since."""
    text: str | None = None
    """Its annotation in that generation; None while the outcome of a write is unknown."""
    stored: bool = False
    """Whether the server has that text."""


def _part(key: EndpointKey) -> int:
    """The part that holds an endpoint; all endpoints of a name are in one."""
    return zlib.crc32(key.name.encode(errors="replace")) % PARTS


class ObjectsState:
    """A `StateStore` in ``namespace``."""

    def __init__(self, api: ApiConnection, namespace: str) -> None:
        self._api, self._namespace = api, namespace
        self._path = KIND.path(namespace)
        self._packed: list[tuple[list[Endpoint], str]] = [([], "")] * PARTS
        """Each part of the last state with its annotation, so that only changed ones are packed again."""
        self._objects: dict[str, _Object] = defaultdict(_Object)

    def load(self) -> State:
        """See `StateStore`."""
        items = self._ask(_List, "GET", time.monotonic() + 3 * REQUEST_TIMEOUT).items
        self._objects.clear()
        return self._merged(State(), items)

    def save(self, state: State, deadline: float) -> None:
        """See `StateStore`."""
        began = time.monotonic()
        missing = [(name, text) for name, text in self._parts(state).items() if self._is_missing(name, text)]
        # Our own work on a large state does not count.
        deadline += time.monotonic() - began
        if len(missing) < 2 or AT_ONCE < 2:
            for part in missing:
                self._write(*part, deadline)
            return
        pool = ThreadPoolExecutor(min(AT_ONCE, len(missing)), "state")
        try:
            for written in [pool.submit(self._write, *part, deadline) for part in missing]:
                written.result()
        finally:
            # Wait for requests in flight, whose outcome decides what is known of their objects.
            pool.shutdown(cancel_futures=True)

    def check(self, state: State, deadline: float) -> State:
        """See `StateStore`."""
        present = _versions(self._ask(_List, "GET", deadline, accept=_VERSIONS_ONLY).items)
        if any(self._objects[name].version != version for name, version in present.items()):
            items = self._ask(_List, "GET", deadline).items
            present = _versions(items)
            found = self._merged(state, items)
            state = state if found == state else found
        gone = [name for name, known in self._objects.items() if known.version and name not in present]
        for name in gone:
            self._objects[name].version = ""
        if gone:
            log.warning("%d state objects in %s were deleted; writing them again", len(gone), self._namespace)
        self.save(state, deadline)
        return state

    def clear(self) -> None:
        """See `StateStore`."""
        self._ask(Wire, "DELETE", time.monotonic() + REQUEST_TIMEOUT)
        self._objects.clear()

    # --- inside -----------------------------------------------------------------------------------

    def _merged(self, state: State, items: list[WireDnsEndpoint] | None) -> State:
        """``state`` with the objects that others have written since the last read."""
        endpoints, head = dict(state.endpoints), Head.of(state)
        for item in items or ():
            name, version = item.metadata.name, item.metadata.resource_version
            known = self._objects[name]
            if known.version == version:
                continue
            noted = item.metadata.annotations
            generation = int(noted.generation) if re.fullmatch("[0-9]{1,15}", noted.generation) else 0
            if generation < known.generation:
                # Restored by a webhook that had missed the last change: ours is newer.
                known.version, known.stored = version, False
                continue
            text = noted.head if name == MANAGER else noted.endpoints
            try:
                if name == MANAGER:
                    head = decode_head(text, Head)
                    head.state({})
                found = decode_endpoints(unpack(noted.endpoints))
            except ValueError as error:
                raise NotStored(
                    f"the object {self._namespace}/{name} cannot be used ({error}): restore it from a backup,"
                    " or delete it to begin anew"
                ) from None
            endpoints = {key: one for key, one in endpoints.items() if _NAMES[_part(key)] != name} | found
            self._objects[name] = _Object(version, generation, text, stored=True)
        return head.state(endpoints)

    def _parts(self, state: State) -> dict[str, str]:
        """The text of each object's annotation ``ENDPOINTS`` or ``HEAD``, by name of the object."""
        members: list[list[Endpoint]] = [[] for _ in range(PARTS)]
        for key, endpoint in state.endpoints.items():
            members[_part(key)].append(endpoint)
        for number, endpoints in enumerate(members):
            if self._packed[number][0] != endpoints:
                self._packed[number] = (endpoints, pack(encode_sorted(endpoints)))
        head = encode_head(Head.of(state)).decode()
        return {MANAGER: head} | {name: text for name, (_, text) in zip(_NAMES, self._packed, strict=True)}

    def _is_missing(self, name: str, text: str) -> bool:
        """Whether to write it; the head is never empty, so that the first write shows missing permissions."""
        known = self._objects[name]
        return not (known.stored and known.text == text) if known.version else bool(text)

    def _write(self, name: str, text: str, deadline: float) -> None:
        """Write one object; may run concurrently for different objects."""
        known = self._objects[name]
        before = replace(known)
        # Incremented once until an outcome is known, since others may be counting meanwhile.
        known.generation += known.text not in (None, text) or not known.generation
        known.text, known.stored = text if text == known.text else None, False
        method, path = ("PUT", f"/{name}") if known.version else ("POST", "")
        try:
            answer = self._ask(WireDnsEndpoint, method, deadline, path, self._body(name, text))
        except _Conflict:
            known.generation, known.text = before.generation, before.text
            raise Overtaken(f"another webhook has changed {self._namespace}/{name}: try again") from None
        except _Missing:
            # It was deleted: the next call creates it.
            known.version = ""
            raise
        known.version, known.text, known.stored = answer.metadata.resource_version, text, True

    def _body(self, name: str, text: str) -> dict[str, Any]:
        """The JSON of an object, to replace the known version."""
        known = self._objects[name]
        said = {HEAD if name == MANAGER else ENDPOINTS: text} if text else {}
        meta: dict[str, Any] = {
            "name": name,
            "namespace": self._namespace,
            "labels": {LABEL: MANAGER},
            "annotations": {**said, GENERATION: str(known.generation)},
        }
        if known.version:
            meta["resourceVersion"] = known.version
        return {
            "apiVersion": f"{KIND.group}/{KIND.version}",
            "kind": KIND.kind,
            "metadata": meta,
            "spec": {"endpoints": []},
        }

    def _ask(
        self,
        form: type[_T],
        method: str,
        deadline: float,
        below: str = "",
        body: dict[str, Any] | None = None,
        accept: str = "application/json",
    ) -> _T:
        if time.monotonic() > deadline:
            raise NotStored("the API server was too slow to store all of it: try again")
        params = {"labelSelector": f"{LABEL}={MANAGER}"} if body is None else {}
        data = None if body is None else msgspec.json.encode(body)
        path = f"{self._path}{below}"
        try:
            answer = self._api.request(
                method, path, params, timeout=REQUEST_TIMEOUT, body=data, accept=accept
            )
            try:
                return msgspec.json.decode(answer, type=form)
            except (msgspec.ValidationError, RecursionError):
                return msgspec.convert(without_nulls(msgspec.json.decode(shallow(answer))), form)
        except ApiNotFound as error:
            known = "create the namespace" in str(error)
            hint = "" if known else "; the state needs ExternalDNS's DNSEndpoint definition"
            raise _Missing(f"{error}{hint}") from None
        except ApiError as error:
            if isinstance(error, ApiRefused) and error.status == 409:
                raise _Conflict from None
            raise NotStored(str(error)) from None
        except msgspec.DecodeError as error:
            raise NotStored(f"the API server's answer about the state is no such object: {error}") from None


def _versions(items: list[WireDnsEndpoint] | None) -> dict[str, str]:
    return {item.metadata.name: item.metadata.resource_version for item in items or ()}
