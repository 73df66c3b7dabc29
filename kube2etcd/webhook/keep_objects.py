"""The state as DNSEndpoint objects of the API server, so that every bridge of a cluster can read it.

An object is rewritten as a whole when something in it changes, on the condition that it is still the one
that we know.  It is never taken away while we keep a state, so one that is missing was taken away by
somebody, and is written again; one that differs was written by another webhook, and is taken over.  By its
generation one that was put back by a webhook which had missed a change is told from one that is new.

A call that changes several objects is kept one by one, some side by side: should the process be killed in
between, the client has no answer and asks again.  Knows paths and answers of the API; must never decide
about names.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import msgspec

from kube2etcd.errors import ApiError, ApiNotFound
from kube2etcd.kube.client import ApiConnection
from kube2etcd.kube.failures import ApiRefused
from kube2etcd.webhook.keep import REQUEST, NotKept, Overtaken
from kube2etcd.webhook.state import State, decode_endpoints, decode_head
from kube2etcd.webhook.state_objects import (
    KIND,
    LABEL,
    MANAGER,
    Cutter,
    Part,
    annotation,
    content,
    generation,
    identity,
    part_of,
)

log = logging.getLogger(__name__)

#: Objects that are written side by side: a slow server is not slower for it, and few notice.
AT_ONCE = 8
#: The newest of what we have never seen: no content is like it.
_NEVER: Final = (0, b"?")

_VERSIONS_ONLY: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"


class _Changed(Exception):
    """An object is not the one that we know."""


class ObjectsKeeper:
    """Keeps the state in ``namespace``."""

    def __init__(self, api: ApiConnection, namespace: str) -> None:
        self._api, self._namespace = api, namespace
        self._path = KIND.path(namespace)
        self._cutter = Cutter()
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
        began = time.monotonic()
        missed = [part for part in self._cutter.cut(state) if self._is_missed(part)]
        # Our own work on a large state is no fault of the server's.
        deadline += time.monotonic() - began
        if len(missed) < 2 or AT_ONCE < 2:
            for part in missed:
                self._write(part, deadline)
            return
        pool = ThreadPoolExecutor(min(AT_ONCE, len(missed)), "keeper")
        try:
            for written in [pool.submit(self._write, part, deadline) for part in missed]:
                written.result()
        finally:
            # Whatever is on its way is heard of first: its fate decides what is known of the object.
            pool.shutdown(cancel_futures=True)

    def check(self, state: State, deadline: float) -> State:
        """As `Keeper` says: what another has written counts, what is missing is written again."""
        present = dict(map(_identity, self._list(deadline, accept=_VERSIONS_ONLY)))
        if any(self._versions.get(name) != version for name, version in present.items()):
            items = self._list(deadline)
            present = dict(map(_identity, items))
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
            name, version = _identity(item)
            if self._versions.get(name) == version:
                continue
            number = generation(item)
            if number < self._newest.get(name, _NEVER)[0]:
                # Lost, and put back by somebody who had not heard of the last change: ours is newer.
                self._versions[name] = version
                self._written.pop(name, None)
                continue
            try:
                if name == MANAGER:
                    head = decode_head(msgspec.json.decode(annotation(item)))
                found = decode_endpoints((item.get("spec") or {}).get("endpoints") or [])
            except (ValueError, RecursionError) as error:
                raise NotKept(
                    f"the object {self._namespace}/{name} cannot be used ({error}): put back a copy, or"
                    " delete it to begin anew"
                ) from None
            endpoints = {key: one for key, one in endpoints.items() if part_of(key) != name} | found
            self._versions[name], self._written[name] = version, content(item)
            self._newest[name] = (number, self._written[name])
        return State(endpoints, head.domains, head.cluster)

    def _list(self, deadline: float, accept: str = "application/json") -> list[dict[str, Any]]:
        params = {"labelSelector": f"{LABEL}={MANAGER}"}
        answer = self._ask("GET", self._path, params, deadline, accept=accept)
        items = answer.get("items") or []
        if "items" not in answer or not isinstance(items, list):
            raise NotKept(f"the answer to listing the state in {self._namespace} is no list")
        return items

    def _is_missed(self, part: Part) -> bool:
        if part.name in self._versions:
            return self._written.get(part.name) != part.content
        return part.says_anything

    def _write(self, part: Part, deadline: float) -> None:
        """Of several at once each has an object, and what is known of it, for itself."""
        name, said = part.name, part.content
        version, newest = self._versions.get(name), self._newest.get(name, _NEVER)
        # Once for all that we send until we hear: others may go on counting meanwhile.
        number = newest[0] + (newest[1] not in (said, b""))
        self._newest[name] = (number, said if said == newest[1] else b"")
        self._written.pop(name, None)
        method, path = ("POST", self._path) if version is None else ("PUT", f"{self._path}/{name}")
        try:
            answer = self._ask(method, path, {}, deadline, part.body(self._namespace, number, version))
        except _Changed:
            self._newest[name] = newest
            raise Overtaken(f"another webhook has changed {self._namespace}/{name}: try again") from None
        self._versions[name] = _identity(answer)[1]
        self._written[name] = said
        self._newest[name] = (number, said)

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


def _identity(item: Any) -> tuple[str, str]:
    found = identity(item)
    if found is None:
        raise NotKept("an object of the state has no metadata")
    return found
