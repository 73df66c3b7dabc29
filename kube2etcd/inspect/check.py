"""Preflight checks: a finding for each thing that the bridge needs of its neighbours; writes nothing."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kube2etcd.app import build
from kube2etcd.app.corefile import text
from kube2etcd.errors import ApiError, ApiNotFound, ApiUnavailable, EtcdError, EtcdUnavailable, SettingsError
from kube2etcd.etcd import election, open_store, store, v2
from kube2etcd.etcd.changes import ServerHealth
from kube2etcd.etcd.v2_client import V2Connection
from kube2etcd.kube.client import ApiConnection
from kube2etcd.kube.objects import KINDS, Kind
from kube2etcd.settings import Settings
from skydns_compat.message import owner_of
from skydns_compat.names import REVERSE

if TYPE_CHECKING:
    from kube2etcd.etcd.client import EtcdConnection

#: Seconds for one question to the API server.
PATIENCE = 10.0
#: Share of the quota above which to warn: at the quota etcd refuses writes.
NEARLY_FULL = 0.8
#: Foreign keys, and lines of a Corefile, that are shown.
SHOWN = 3

Verdict = Literal["ok", "note", "fault"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was checked, the verdict, and what was found and what to do."""

    what: str
    verdict: Verdict
    text: str

    def __str__(self) -> str:
        return f"{self.verdict:<5}  {self.what}: {self.text}"


def findings(settings: Settings) -> Iterator[Finding]:
    """All findings, as the answers come in."""
    yield from _cluster(settings)
    yield from _etcd(settings)
    if settings.corefile.file is not None:
        yield corefile_finding(settings.corefile.file, text(settings))


def corefile_finding(path: str, ours: str) -> Finding:
    """Whether the Corefile at ``path`` is ``ours``, else the first lines in which they differ.

    A running process adds the domains that came by ``POST /domains``, so a difference is a note.
    """
    try:
        theirs = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return Finding("Corefile", "fault", f"{path} cannot be read: {error}")
    if theirs == ours:
        return Finding("Corefile", "ok", f"{path} matches these settings")
    differing = difflib.unified_diff(theirs.splitlines(), ours.splitlines(), n=0, lineterm="")
    lines = [line for line in differing if not line.startswith(("---", "+++", "@@"))]
    shown = "; ".join(lines[:SHOWN]) or "the end of its last line"
    more = f"; {len(lines) - SHOWN} more lines" if len(lines) > SHOWN else ""
    return Finding("Corefile", "note", f"{path} does not match these settings: {shown}{more}")


def _cluster(settings: Settings) -> Iterator[Finding]:
    try:
        api = ApiConnection(build.cluster(settings))
    except (ApiError, SettingsError) as error:
        yield Finding("API server", "fault", str(error))
        return
    try:
        version = json.loads(api.get("/version", {}, timeout=PATIENCE))
        yield Finding("API server", "ok", f"{api.server} is Kubernetes {version.get('gitVersion', '?')}")
    except ApiUnavailable as error:
        # Each kind would say the same again.
        yield Finding("API server", "fault", str(error))
        api.close()
        return
    except (ApiError, ValueError, AttributeError) as error:
        # Whoever may not read the version may still list.
        yield Finding("API server", "note", str(error))
    for kind in build.kinds(settings):
        yield from _kind(api, kind)
    namespace = settings.webhook.state_objects
    if settings.webhook.inside and namespace is not None:
        yield _asked(f"state in {namespace}", partial(_state_objects, api, namespace))
    api.close()


def _kind(api: ApiConnection, kind: Kind) -> Iterator[Finding]:
    try:
        body = api.get(kind.path(), {"limit": "1"}, timeout=PATIENCE)
        meta = json.loads(body).get("metadata", {})
    except ApiNotFound as error:
        if kind.optional:
            yield Finding(kind.resource, "note", "not installed; checked again every 30 s")
        else:
            yield Finding(kind.resource, "fault", str(error))
        return
    except (ApiError, ValueError, AttributeError) as error:
        yield Finding(kind.resource, "fault", f"cannot be listed: {error}")
        return
    parameters = {
        "watch": "true",
        "timeoutSeconds": "1",
        "resourceVersion": str(meta.get("resourceVersion", "0")),
    }
    try:
        with api.stream(kind.path(), parameters, connect_timeout=PATIENCE, read_timeout=PATIENCE):
            yield Finding(kind.resource, "ok", "can be listed and watched")
    except ApiError as error:
        yield Finding(kind.resource, "fault", f"can be listed, but not watched: {error}")


def _asked(what: str, ask: Callable[[], Finding | str], fault: str = "") -> Finding:
    """The finding of a question: a text is ok, an error is a fault."""
    try:
        found = ask()
    except (ApiError, EtcdError, SettingsError, ValueError, AttributeError) as error:
        return Finding(what, "fault", f"{fault}: {error}" if fault else str(error))
    return found if isinstance(found, Finding) else Finding(what, "ok", found)


def _state_objects(api: ApiConnection, namespace: str) -> Finding | str:
    """Whether the state of the webhook can be stored as objects in ``namespace``."""
    kind, what = KINDS["dnsendpoints"], f"state in {namespace}"
    ours = {"labelSelector": "app.kubernetes.io/managed-by=kube2etcd-webhook"}
    try:
        found = json.loads(api.get(kind.path(namespace), ours, timeout=PATIENCE)).get("items") or []
    except ApiNotFound:
        missing = f"{kind.resource} are not installed: the state cannot be stored"
        return Finding(what, "fault", f"{missing}, and ExternalDNS's calls fail until then")
    only = {"fieldSelector": f"metadata.name={namespace}"}
    if not json.loads(api.get(KINDS["namespaces"].path(), only, timeout=PATIENCE)).get("items"):
        return Finding(what, "fault", f"there is no namespace {namespace}: create it")
    refused = [f"{verb}d" for verb in ("create", "update") if not _may(api, kind, namespace, verb)]
    if refused:
        denied = f"{kind.resource} may be listed, but not {' and '.join(refused)}"
        return Finding(what, "fault", f"{denied}: ExternalDNS's calls fail until then")
    if wishes := [one for one in found if (one.get("spec") or {}).get("endpoints")]:
        return Finding(
            what,
            "note",
            f"{len(wishes)} objects are in an older version's format, which ExternalDNS with --source=crd"
            " reads as desired endpoints: start this version's webhook, which rewrites them",
        )
    cleanup = _may(api, kind, namespace, "deletecollection")
    return "it can be stored" + (
        ", and --cleanup can delete it" if cleanup else "; --cleanup may not delete it"
    )


def _may(api: ApiConnection, kind: Kind, namespace: str, verb: str) -> bool:
    """Whether we have a right, by the API server's own word; nothing is stored for the question."""
    asked = {"namespace": namespace, "verb": verb, "group": kind.group, "resource": kind.name}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    answer = api.request("POST", path, {}, timeout=PATIENCE, body=json.dumps(review).encode())
    return json.loads(answer).get("status", {}).get("allowed") is True


def _etcd(settings: Settings) -> Iterator[Finding]:
    given, api = build.etcd(settings), settings.etcd.api
    health = v2.health if api == "v2" else store.health
    away = 0
    for server in given.servers:
        try:
            yield _server(server, health(given, server))
        except SettingsError as error:
            # Files that no server can be asked with.
            yield Finding("etcd", "fault", str(error))
            return
        except EtcdError as error:
            yield Finding(f"etcd {server}", "fault", str(error))
            away += isinstance(error, EtcdUnavailable)
    if away == len(given.servers):
        return  # whatever else is asked would only say so again
    prefix = build.etcd_prefixes(settings)[0]
    connection, keys = open_store(given, api, (prefix,))
    with connection:
        try:
            entries = keys.snapshot().entries
            yield Finding("etcd keys", "ok", f"{len(entries)} under {prefix.decode()} can be read")
        except EtcdError as error:
            yield Finding("etcd keys", "fault", str(error))
            return

        def may_write() -> str:
            keys.may_write(prefix + b"kube2etcd-check")
            return f"keys under {prefix.decode()} can be written and deleted"

        yield _asked("etcd rights", may_write, "keys cannot be written")
        webhook = settings.webhook
        if not isinstance(connection, V2Connection):
            if webhook.inside and webhook.state_objects is None:
                state = webhook.state_prefix
                stored = partial(_state, connection, state)
                yield _asked(f"state under {state}", stored, "it cannot be stored")
            if settings.leader_elect:
                yield _asked("election", partial(_election, connection, settings))
    yield from _others(settings, entries)


def _state(connection: EtcdConnection, prefix: str) -> str:
    store.may_write(connection, f"{prefix}/manifest".encode())
    return "it can be stored"


def _election(connection: EtcdConnection, settings: Settings) -> Finding | str:
    """Whether we can take part in the election of the bridge that writes."""
    key = build.election_key(settings)
    shown = key.decode()
    try:
        holder = election.holder(connection, key)
        store.may_write(connection, key)
    except EtcdError as error:
        needed = f"--leader-elect needs an etcd user that may read and write {shown}"
        return Finding("election", "fault", f"{needed}: {error}")
    if holder is not None and not holder.leased:
        return Finding("election", "fault", f"the key {shown} has no lease, so no bridge made it: delete it")
    return f"{shown} can be read and written; {holder.name if holder is not None else 'nobody'} leads now"


def _server(server: str, state: ServerHealth) -> Finding:
    size = f", {_mebi(state.size)}" if state.size else ""
    what, seen = f"etcd {server}", f"version {state.version}{size}"
    if not state.leader:
        return Finding(what, "fault", f"{seen}; it has no leader, so nothing can be written")
    if state.alarms:
        alarms = " and ".join(state.alarms)
        cure = "compact, defragment and disarm it" if "NOSPACE" in state.alarms else "see etcd's log"
        return Finding(what, "fault", f"{seen}; alarm {alarms} is raised: {cure}")
    if state.quota and state.size > NEARLY_FULL * state.quota:
        return Finding(
            what, "note", f"{seen} of a quota of {_mebi(state.quota)}: compact and defragment it soon"
        )
    return Finding(what, "ok", f"{seen} of a quota of {_mebi(state.quota)}" if state.quota else seen)


def _others(settings: Settings, entries: dict[bytes, bytes]) -> Iterator[Finding]:
    """Keys under our zones with another owner or none: they are answered, and we never change them."""
    layout = build.layout(settings)
    zones = tuple(layout.zone_range(name) for name in build.zone_names(settings))
    reverse = tuple(layout.zone_range(name) for name in REVERSE)  # other owners' records there are in order
    below = sorted(
        key
        for key, value in entries.items()
        if key.startswith(zones) or (key.startswith(reverse) and not owner_of(value))
    )
    for what, chosen in (
        ("malformed keys", [key for key in below if owner_of(entries[key]) is None]),
        ("foreign keys", [key for key in below if owner_of(entries[key]) not in (None, settings.owner_id)]),
    ):
        if chosen:
            some = ", ".join(key.decode(errors="backslashreplace") for key in chosen[:SHOWN])
            more = f" and {len(chosen) - SHOWN} more" if len(chosen) > SHOWN else ""
            yield Finding(what, "note", f"{some}{more}: served as they are, never changed by us")


def _mebi(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
