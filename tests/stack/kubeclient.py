"""A small client of the Kubernetes API: plain JSON objects in and out."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import requests
from requests.adapters import HTTPAdapter

from tests.stack.process import wait_for

#: A Kubernetes object as JSON.
Object = dict[str, Any]

#: An alias outside the class, which has a method ``list``.
Objects = list[Object]

R = TypeVar("R")

#: Kinds that others need: applied first, deleted last.
_RANK = {"CustomResourceDefinition": 0, "Namespace": 1}

#: Concurrent requests.
WORKERS = 8


class KubeError(RuntimeError):
    """The API server returned an error; ``status`` is the HTTP status."""

    def __init__(self, method: str, path: str, status: int, text: str) -> None:
        super().__init__(f"{method} {path}: HTTP {status}: {text}")
        self.status = status


@dataclass(frozen=True)
class Resource:
    """A kind's resource, from discovery."""

    plural: str
    namespaced: bool
    has_status: bool


class KubeClient:
    """Applies, deletes and reads objects; thread-safe."""

    def __init__(self, url: str, token: str, ca_file: Path) -> None:
        self.url = url
        self.applied_kinds: set[tuple[str, str]] = set()
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy and no netrc for loopback
        self._session.verify = str(ca_file)
        self._session.headers["Authorization"] = f"Bearer {token}"
        self._session.mount("https://", HTTPAdapter(pool_maxsize=4 * WORKERS))
        self._resources: dict[tuple[str, str], Resource] = {}

    def request(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        content_type: str = "application/json",
        params: dict[str, str] | None = None,
        check: bool = True,
    ) -> requests.Response:
        """One request; with ``check`` an error status raises a KubeError."""
        answer = self._session.request(
            method,
            self.url + path,
            json=body,
            params=params,
            headers={"Content-Type": content_type} if body is not None else None,
            timeout=30,
        )
        if check and answer.status_code >= 400:
            raise KubeError(method, path, answer.status_code, answer.text[:2000])
        return answer

    def close(self) -> None:
        """Close all connections; the next request opens a new one."""
        self._session.close()

    def resource(self, api_version: str, kind: str, deadline_s: float = 10.0) -> Resource:
        """The resource of a kind; waits for a new CRD to be served."""
        known = self._resources.get((api_version, kind))
        return known or wait_for(
            lambda: self._discover(api_version, kind),
            f"kind {kind} of {api_version} to be served",
            deadline_s,
        )

    def _discover(self, api_version: str, kind: str) -> Resource:
        answer = self.request("GET", _root(api_version), check=False)
        listed: Objects = answer.json().get("resources", []) if answer.status_code == 200 else []
        with_status = {
            item["name"].removesuffix("/status") for item in listed if item["name"].endswith("/status")
        }
        for item in listed:
            if "/" not in item["name"]:
                found = Resource(item["name"], item["namespaced"], item["name"] in with_status)
                self._resources[(api_version, item["kind"])] = found
        assert (api_version, kind) in self._resources, f"{api_version} serves no {kind}"
        return self._resources[(api_version, kind)]

    def forget_discovery(self) -> None:
        """Clear the cached kinds: CRDs may be gone."""
        self._resources.clear()
        self.applied_kinds.clear()

    def path(self, api_version: str, kind: str, namespace: str | None = None, name: str | None = None) -> str:
        """The URL path of a collection or an object, in the namespace ``default`` by default."""
        resource = self.resource(api_version, kind)
        parts = [_root(api_version)]
        if resource.namespaced and (namespace or name):
            parts += ["namespaces", namespace or "default"]
        parts.append(resource.plural)
        if name:
            parts.append(name)
        return "/".join(parts)

    def _path_of(self, obj: Object, *, collection: bool = False) -> str:
        metadata = obj["metadata"]
        namespace = metadata.get("namespace") or "default"
        return self.path(obj["apiVersion"], obj["kind"], namespace, None if collection else metadata["name"])

    def apply(self, obj: Object) -> Object:
        """Create or replace the object, and its ``status`` if it has one.

        A missing namespace is an error. The kind of an applied CRD is served on return.
        """
        result: Object
        self.applied_kinds.add((obj["apiVersion"], obj["kind"]))
        answer = self.request("POST", self._path_of(obj, collection=True), obj, check=False)
        if answer.status_code == 409 and answer.json().get("reason") == "AlreadyExists":
            answer = self._replace(obj)
        if answer.status_code >= 400:
            method, path = str(answer.request.method), str(answer.request.path_url)
            raise KubeError(method, path, answer.status_code, answer.text[:2000])
        result = answer.json()
        if obj.get("status") and self.resource(obj["apiVersion"], obj["kind"]).has_status:
            result = self.patch_status(obj)
        if obj["kind"] == "CustomResourceDefinition":
            self._wait_served(obj)
        return result

    def _replace(self, obj: Object) -> requests.Response:
        path = self._path_of(obj)
        for _ in range(10):
            present = self.request("GET", path, check=False)
            if present.status_code == 404:  # deleted in between
                answer = self.request("POST", self._path_of(obj, collection=True), obj, check=False)
            else:
                version = present.json().get("metadata", {}).get("resourceVersion", "")
                metadata = {**obj["metadata"], "resourceVersion": version}
                answer = self.request("PUT", path, {**obj, "metadata": metadata}, check=False)
            if answer.status_code != 409:
                break
        return answer

    def _wait_served(self, crd: Object) -> None:
        names = crd["spec"]["names"]
        for version in crd["spec"]["versions"]:
            if version.get("served", True):
                path = f"/apis/{crd['spec']['group']}/{version['name']}/{names['plural']}"

                def served(path: str = path) -> bool:
                    return self.request("GET", path, params={"limit": "1"}, check=False).status_code == 200

                wait_for(served, f"{path} to be served", 15)

    def apply_all(self, objects: Iterable[Object]) -> Objects:
        """Apply CRDs, then Namespaces, then the others, each group concurrently."""
        return _concurrently(self.apply, tuple(objects), lambda rank: rank)

    def patch(self, path: str, body: Object) -> requests.Response:
        """Merge-patch the object at this path."""
        return self.request("PATCH", path, body, content_type="application/merge-patch+json")

    def patch_status(self, obj: Object) -> Object:
        """Write the object's ``status``, as a controller would."""
        result: Object = self.patch(f"{self._path_of(obj)}/status", {"status": obj["status"]}).json()
        return result

    def delete(self, obj: Object, *, wait: bool = True) -> None:
        """Delete the object, if it exists, without a grace period."""
        if obj["kind"] == "Namespace":
            self.delete_namespace(obj["metadata"]["name"])
            return
        path = self._path_of(obj)
        body = {"gracePeriodSeconds": 0, "propagationPolicy": "Background"}
        answer = self.request("DELETE", path, body, check=False)
        if answer.status_code >= 400 and answer.status_code != 404:
            raise KubeError("DELETE", path, answer.status_code, answer.text[:2000])
        # a 200 with a Status instead of the object means that it is gone already
        if wait and answer.status_code < 300 and answer.json().get("kind") != "Status":
            wait_for(lambda: self.request("GET", path, check=False).status_code == 404, f"{path} to go", 20)

    def delete_all(self, objects: Iterable[Object]) -> None:
        """Delete objects concurrently, Namespaces and CRDs last."""
        _concurrently(self.delete, tuple(objects), lambda rank: -rank)

    def delete_namespace(self, name: str) -> None:
        """Delete a namespace as its controller does: its objects, its finalizers, then itself."""
        for api_version, kind in [("v1", "Service"), ("discovery.k8s.io/v1", "EndpointSlice"), ("v1", "Pod")]:
            for item in self.list(api_version, kind, name):
                self.delete(item)
        path = f"/api/v1/namespaces/{name}"
        self.request("DELETE", path, check=False)
        present = self.request("GET", path, check=False)
        if present.status_code == 404:
            return
        body = present.json()
        body["spec"]["finalizers"] = []
        self.request("PUT", f"{path}/finalize", body, check=False)
        wait_for(
            lambda: self.request("GET", path, check=False).status_code == 404, f"namespace {name} to go", 10
        )

    def get(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> Object:
        """One object; raises a KubeError with status 404 if there is none."""
        result: Object = self.request("GET", self.path(api_version, kind, namespace, name)).json()
        return result

    def list(self, api_version: str, kind: str, namespace: str | None = None, selector: str = "") -> Objects:
        """The objects of a kind in one namespace or all, each with its apiVersion and kind."""
        params = {"labelSelector": selector} if selector else None
        answer = self.request("GET", self.path(api_version, kind, namespace), params=params)
        items: Objects = answer.json().get("items") or []
        return [{**item, "apiVersion": api_version, "kind": kind} for item in items]


@dataclass(frozen=True)
class Operation:
    """One request to the API server: ``apply`` (create or replace) or ``delete`` the object."""

    verb: Literal["apply", "delete"]
    obj: Object

    def perform(self, api: KubeClient, *, wait: bool = True) -> None:
        if self.verb == "apply":
            api.apply(self.obj)
        else:
            api.delete(self.obj, wait=wait)


def _concurrently(
    act: Callable[[Object], R], objects: Sequence[Object], order: Callable[[int], int]
) -> list[R]:
    """Act on the objects of each rank concurrently; raises a rank's first error once it is done."""
    ranks = [order(_RANK.get(obj["kind"], len(_RANK))) for obj in objects]
    results: dict[int, R] = {}
    with ThreadPoolExecutor(WORKERS) as pool:
        for rank in sorted(set(ranks)):
            futures = {i: pool.submit(act, obj) for i, obj in enumerate(objects) if ranks[i] == rank}
            results |= {i: future.result() for i, future in futures.items()}
    return [results[i] for i in range(len(objects))]


def _root(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
