"""Preflight checks of the API server, etcd and the Corefile; writes nothing."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from kube2etcd.errors import ApiError, ApiNotFound, ApiUnavailable, EtcdError, EtcdUnavailable, SettingsError
from kube2etcd.etcd import KeyStore, election, open_store
from kube2etcd.etcd.changes import ServerHealth
from kube2etcd.etcd.v2_client import V2Connection
from kube2etcd.kube.client import ApiConnection
from kube2etcd.kube.objects import KINDS, Kind
from kube2etcd.settings import Cluster, Etcd
from skydns_compat.layout import Layout
from skydns_compat.message import owner_of
from skydns_compat.names import REVERSE, Name

if TYPE_CHECKING:
    from kube2etcd.etcd.client import EtcdConnection

#: Timeout in seconds of a request to the API server.
PATIENCE = 10.0
#: Share of the quota above which to warn; at the quota, etcd refuses writes.
NEARLY_FULL = 0.8
#: Foreign keys, or differing lines of a Corefile, that a finding lists.
SHOWN = 3

Verdict: TypeAlias = Literal["ok", "note", "fault"]
_Result: TypeAlias = tuple[Verdict, str]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was checked, the verdict, and the details with what to do."""

    what: str
    verdict: Verdict
    text: str

    def __str__(self) -> str:
        return f"{self.verdict:<5}  {self.what}: {self.text}"


def corefile(path: str, ours: str) -> Finding:
    """Compare the Corefile at ``path`` with ``ours``, and show the first lines that differ.

    A difference is only a note, since a running process adds the domains from ``POST /domains``.
    """
    try:
        theirs = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        return Finding("Corefile", "fault", f"{path} cannot be read: {reason}")
    if theirs == ours:
        return Finding("Corefile", "ok", f"{path} matches these settings")
    differing = difflib.unified_diff(theirs.splitlines(), ours.splitlines(), n=0, lineterm="")
    lines = [line for line in differing if not line.startswith(("---", "+++", "@@"))]
    shown = "; ".join(lines[:SHOWN]) or "the end of its last line"
    more = f"; {len(lines) - SHOWN} more lines" if len(lines) > SHOWN else ""
    return Finding("Corefile", "note", f"{path} does not match these settings: {shown}{more}")


def cluster(settings: Cluster, kinds: tuple[Kind, ...], state: str | None) -> Iterator[Finding]:
    """Check the API server, access to ``kinds``, and to state objects in the namespace ``state``."""
    try:
        api = ApiConnection(settings)
    except (ApiError, SettingsError) as error:
        yield Finding("API server", "fault", str(error))
        return
    with closing(api):
        try:
            version = _get(api, "/version").get("gitVersion", "?")
            yield Finding("API server", "ok", f"{api.server} is Kubernetes {version}")
        except ApiUnavailable as error:
            # Every kind would report the same.
            yield Finding("API server", "fault", str(error))
            return
        except (ApiError, ValueError, AttributeError) as error:
            # Listing may be allowed even if reading the version is not.
            yield Finding("API server", "note", str(error))
        for kind in kinds:
            yield Finding(kind.resource, *_kind(api, kind))
        if state is not None:
            yield _checked(f"state in {state}", partial(_state_objects, api, state))


def _get(api: ApiConnection, path: str, parameters: Mapping[str, str] = {}) -> Any:
    return json.loads(api.request("GET", path, parameters, timeout=PATIENCE))


def _kind(api: ApiConnection, kind: Kind) -> _Result:
    trouble = "cannot be listed"
    try:
        version = _get(api, kind.path(), {"limit": "1"}).get("metadata", {}).get("resourceVersion", "0")
        trouble = "can be listed, but not watched"
        watch = {"watch": "true", "timeoutSeconds": "1", "resourceVersion": version}
        with api.stream(kind.path(), watch, connect_timeout=PATIENCE, read_timeout=PATIENCE):
            return "ok", "can be listed and watched"
    except ApiNotFound as error:
        return ("note", "not installed; tried again every 10 s") if kind.optional else ("fault", str(error))
    except (ApiError, ValueError, AttributeError) as error:
        return "fault", f"{trouble}: {error}"


def _checked(what: str, check: Callable[[], _Result]) -> Finding:
    """The result of a check as a finding; an error is a fault."""
    try:
        return Finding(what, *check())
    except (ApiError, EtcdError, SettingsError, ValueError, AttributeError) as error:
        return Finding(what, "fault", str(error))


def _state_objects(api: ApiConnection, namespace: str) -> _Result:
    """Whether the webhook's state can be stored as objects in ``namespace``."""
    kind = KINDS["dnsendpoints"]
    ours = {"labelSelector": "app.kubernetes.io/managed-by=kube2etcd-webhook"}
    try:
        found = _get(api, kind.path(namespace), ours).get("items") or []
    except ApiNotFound:
        missing = f"{kind.resource} are not installed: the state cannot be stored"
        return "fault", f"{missing}, and ExternalDNS's calls fail until they are"
    if not _get(api, KINDS["namespaces"].path(), {"fieldSelector": f"metadata.name={namespace}"}).get(
        "items"
    ):
        return "fault", f"there is no namespace {namespace}: create it"
    refused = [f"{verb}d" for verb in ("create", "update") if not _may(api, kind, namespace, verb)]
    if refused:
        denied = f"{kind.resource} may be listed, but not {' or '.join(refused)}"
        return "fault", f"{denied}: ExternalDNS's calls fail until that is allowed"
    if older := sum(bool((one.get("spec") or {}).get("endpoints")) for one in found):
        return "note", (
            f"{older} objects have an older version's format, which ExternalDNS with --source=crd reads as"
            " desired endpoints: start this version's webhook, which rewrites them"
        )
    if _may(api, kind, namespace, "deletecollection"):
        return "ok", "it can be stored, and --cleanup can delete it"
    return "ok", "it can be stored; --cleanup may not delete it"


def _may(api: ApiConnection, kind: Kind, namespace: str, verb: str) -> bool:
    """Whether the API server would allow it, by an access review, which stores nothing."""
    asked = {"namespace": namespace, "verb": verb, "group": kind.group, "resource": kind.name}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    answer = api.request("POST", path, {}, timeout=PATIENCE, body=json.dumps(review).encode())
    return json.loads(answer).get("status", {}).get("allowed") is True


def etcd(
    settings: Etcd,
    layout: Layout,
    zones: tuple[Name, ...],
    state: str | None = None,
    election_key: Callable[[], bytes] | None = None,
) -> Iterator[Finding]:
    """Check etcd's servers, access to the keys of ``layout``, and foreign keys in ``zones``.

    With v3, also check access to the webhook's state under the prefix ``state``, and to the ``election_key``.
    """
    away = 0
    for server in settings.servers:
        try:
            with open_store(replace(settings, servers=(server,)))[0] as one:
                yield Finding(f"etcd {server}", *_health(one.health()))
        except SettingsError as error:
            # Unusable certificate files: the same for every server.
            yield Finding("etcd", "fault", str(error))
            return
        except EtcdError as error:
            yield Finding(f"etcd {server}", "fault", str(error))
            away += isinstance(error, EtcdUnavailable)
    if away == len(settings.servers):
        return  # every other check would report the same
    prefix = f"{layout.prefix}/"
    connection, keys = open_store(settings)
    with connection:
        try:
            entries = keys.snapshot().entries
        except EtcdError as error:
            yield Finding("etcd keys", "fault", str(error))
            return
        yield Finding("etcd keys", "ok", f"{len(entries)} under {prefix} can be read")
        able = f"keys under {prefix} can be written and deleted"
        rights = [("etcd rights", f"{prefix}kube2etcd-check", able, "keys cannot be written")]
        if state is not None and not isinstance(connection, V2Connection):
            rights.append(
                (f"state under {state}", f"{state}/manifest", "it can be stored", "it cannot be stored")
            )
        for what, key, able, fault in rights:
            try:
                keys.may_write(key.encode())
                yield Finding(what, "ok", able)
            except (EtcdError, ValueError) as error:
                yield Finding(what, "fault", f"{fault}: {error}")
        if election_key is not None and not isinstance(connection, V2Connection):
            yield _checked("election", partial(_election, connection, keys, election_key))
    yield from _others(layout, zones, entries)


def _election(connection: EtcdConnection, keys: KeyStore, key_of: Callable[[], bytes]) -> _Result:
    """Whether this bridge can take part in the election."""
    key = key_of()
    shown = key.decode()
    try:
        leader = election.leader(connection, key)
        keys.may_write(key)
    except EtcdError as error:
        return "fault", f"--leader-elect needs an etcd user that may read and write {shown}: {error}"
    if leader is not None and not leader.lease:
        return "fault", f"the key {shown} has no lease, so no bridge wrote it: delete it"
    name = "there is no leader"
    if leader is not None:
        name = f"the leader is {leader.value.decode(errors='backslashreplace')}"
    return "ok", f"{shown} can be read and written; {name}"


def _health(state: ServerHealth) -> _Result:
    """Whether a server accepts writes, and how close it is to its quota."""
    seen = f"version {state.version}" + (f", {_mebi(state.size)}" if state.size else "")
    if not state.leader:
        return "fault", f"{seen}; it has no leader, so it refuses writes"
    if state.alarms:
        cure = "compact, defragment and disarm it" if "NOSPACE" in state.alarms else "see etcd's log"
        return "fault", f"{seen}; alarm {' and '.join(state.alarms)} is raised: {cure}"
    if not state.quota:
        return "ok", seen
    seen += f" of a quota of {_mebi(state.quota)}"
    if state.size > NEARLY_FULL * state.quota:
        return "note", f"{seen}: compact and defragment it soon"
    return "ok", seen


def _others(layout: Layout, zones: tuple[Name, ...], entries: dict[bytes, bytes]) -> Iterator[Finding]:
    """Keys in our zones with another owner or none, which only ``resync --prune-foreign`` deletes."""
    ours = tuple(map(layout.zone_range, zones))
    reverse = tuple(map(layout.zone_range, REVERSE))  # PTR records of other owners are expected there
    owners = {key: owner_of(value) for key, value in sorted(entries.items())}
    below = [key for key in owners if key.startswith(ours) or (key.startswith(reverse) and not owners[key])]
    for what, effect, chosen in (
        (
            "malformed keys",
            "CoreDNS answers SERVFAIL for their names and those above",
            [key for key in below if owners[key] is None],
        ),
        (
            "foreign keys",
            "served as they are",
            [key for key in below if owners[key] not in (None, layout.owner)],
        ),
    ):
        if chosen:
            some = ", ".join(key.decode(errors="backslashreplace") for key in chosen[:SHOWN])
            more = f" and {len(chosen) - SHOWN} more" if len(chosen) > SHOWN else ""
            cure = "only resync --prune-foreign deletes them"
            yield Finding(what, "note", f"{some}{more}: {effect}; {cure}")


def _mebi(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
