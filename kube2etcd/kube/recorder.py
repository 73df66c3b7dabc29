"""Kubernetes Events on objects with records left out: the one channel that tenants can read."""

from __future__ import annotations

import hashlib
import logging
import queue
import socket
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from kube2etcd.errors import ApiError, ApiNotFound, ApiUnavailable
from kube2etcd.kube.client import ApiConnection
from kube2etcd.kube.failures import ApiRefused
from kube2etcd.kube.objects import KINDS
from kube2etcd.kube.store import Unit

log = logging.getLogger(__name__)

MAX_WAITING: Final = 1000
"""Limit of Events waiting to be posted; more are dropped, and `explain` still has the reason."""

BURST: Final = 25
"""Events that may be posted without a pause."""

PAUSE: Final = 1.0
"""Seconds between Events after a burst."""

NOTE: Final = 1024
"""Characters of a note that the API server accepts."""

RETRY: Final = 10.0
"""Seconds until a post that the API server could not answer is repeated: the reason is reported only once."""

TIMEOUT: Final = 10.0
"""Seconds for one request."""

_COMPONENT: Final = "kube2etcd"


class EventRecorder:
    """Posts Events from a thread of its own; `record` never blocks."""

    def __init__(
        self, api: ApiConnection, burst: int = BURST, pause: float = PAUSE, retry: float = RETRY
    ) -> None:
        self._api, self._burst, self._pause, self._retry = api, burst, pause, retry
        self._waiting: queue.Queue[tuple[Unit, str]] = queue.Queue(MAX_WAITING)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="event-recorder", daemon=True)

    def record(self, refused: Sequence[tuple[Unit, str]]) -> None:
        """Post an Event for each object and reason; skips units that are not API objects."""
        for unit, reason in refused:
            if unit.kind in KINDS:
                try:
                    self._waiting.put_nowait((unit, reason))
                except queue.Full:
                    log.warning("events: more than %d queued, dropping the rest", MAX_WAITING)
                    return

    def start(self) -> None:
        """Start posting."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; waiting Events are dropped."""
        self._stop.set()

    def _run(self) -> None:
        tokens, outage = self._burst, ""
        while not self._stop.is_set():
            try:
                unit, reason = self._waiting.get(timeout=self._pause)
            except queue.Empty:
                tokens = min(tokens + 1, self._burst)
                continue
            try:
                self._post(unit, reason)
                outage = ""
            except ApiError as error:
                if isinstance(error, ApiUnavailable) and not isinstance(error, ApiRefused):
                    if str(error) != outage:
                        outage = str(error)
                        log.warning("events: posted later: %s", error)
                    self.record([(unit, reason)])  # behind the others, which it must not block
                    self._stop.wait(self._retry)
                    continue
                log.warning("events: none for %s: %s", unit, error)
            except Exception:
                # No failure may end this thread: DNS must not become unready because of an Event.
                log.exception("events: none for %s", unit)
            tokens -= 1
            if tokens <= 0:
                tokens = 1
                self._stop.wait(self._pause)

    def _post(self, unit: Unit, reason: str) -> None:
        kind = KINDS[unit.kind]
        try:
            path = f"{kind.path(unit.namespace)}/{unit.name}"
            found = self._api.request("GET", path, {}, timeout=TIMEOUT)
        except ApiNotFound:
            return  # deleted meanwhile
        uid = msgspec.json.decode(found)["metadata"]["uid"]
        # The name derives from the content, so a restart or another DNS pod makes no second Event.
        digest = hashlib.sha256(f"{uid} {reason}".encode()).hexdigest()[:16]
        namespace = unit.namespace or "default"  # the namespace for Events of cluster-scoped objects
        event = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{unit.name[:200]}.{digest}", "namespace": namespace},
            "eventTime": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "type": "Warning",
            "reason": "DNSRecordLeftOut",
            "action": "PublishDNS",
            "note": reason[:NOTE],
            "reportingController": _COMPONENT,
            "reportingInstance": socket.gethostname()[:128],
            "regarding": {
                "apiVersion": f"{kind.group}/{kind.version}".lstrip("/"),
                "kind": kind.kind,
                "namespace": unit.namespace,
                "name": unit.name,
                "uid": uid,
            },
        }
        path = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"
        try:
            self._api.request("POST", path, {}, timeout=TIMEOUT, body=msgspec.json.encode(event))
        except ApiRefused as error:
            if error.status != 409:
                raise
