"""What of a state is published, and the places where: a hosts file, and whoever makes keys of names.

Says what cannot be published once, and what cannot be written as long as it is so.  Knows the places by
what they can do; keeps nothing and answers nobody.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from kube2etcd.errors import Kube2EtcdError
from kube2etcd.external import Domain, Endpoint, managed
from kube2etcd.webhook.adjust import ClusterAddress
from kube2etcd.webhook.messages import encode_endpoints
from kube2etcd.webhook.published import HostLines, Published, host_lines, published
from kube2etcd.webhook.state import State
from kube2etcd.webhook.troubles import NotNow, Troubles

log = logging.getLogger(__name__)


class HostsWriter(Protocol):
    """What is needed of a hosts file."""

    def write(self, wanted: Sequence[tuple[str, str]], ours: Callable[[str], bool]) -> bool:
        """Let it hold these (name, address); an error of ours where it cannot be."""
        ...

    def fault(self) -> str:
        """Why a change could not be written; empty: it could."""
        ...


#: Told of published names, whenever they may differ, with the domains and the cluster address.
Publish = Callable[[Mapping[str, tuple[Endpoint, ...]], tuple[Domain, ...], ClusterAddress], None]


@dataclass(frozen=True, eq=False)
class Known:
    """A state, with what was said at the start taken into account."""

    state: State
    domains: tuple[Domain, ...]
    cluster: ClusterAddress

    @cached_property
    def records(self) -> bytes:
        """All endpoints as posted, as JSON: made when it is asked for, which is rarer than changes."""
        return encode_endpoints(self.state.endpoints.values())


@dataclass(frozen=True, slots=True)
class View:
    """What of it is published: made once, compared often."""

    known: Known
    found: Published
    lines: HostLines


class Publication:
    """The places, from one thread at a time."""

    def __init__(
        self, hosts: HostsWriter | None, publish: Publish | None, own_name: str, troubles: Troubles
    ) -> None:
        """``own_name`` is that of this machine, which is never taken."""
        self._hosts, self._publish, self._own_name = hosts, publish, own_name
        self._troubles = troubles
        self._view: View | None = None
        self._warned: frozenset[str] = frozenset()

    def look_at(self, known: Known) -> View:
        """What of it is published; the same view for the same thing known."""
        if self._view is not None and self._view.known is known:
            return self._view
        found = published(known.state, known.domains, known.cluster)
        lines = HostLines()
        if self._hosts is not None:
            lines = host_lines(found.names, known.cluster, self._own_name)
        return View(known, found, lines)

    def write_hosts(self, view: View) -> None:
        """Let the hosts file be as it is to be; `NotNow`."""
        if self._hosts is None:
            return
        try:
            self._hosts.write(view.lines.lines, lambda name: managed(view.known.domains, name))
        except Kube2EtcdError as error:
            self._troubles.note("hosts", str(error))
            raise NotNow(str(error)) from None
        # Nothing had to be written, maybe; whether it could be is to be known before it must.
        self._troubles.note("hosts", self._hosts.fault())

    def hand_on(self, view: View) -> None:
        """Tell what is to become keys, and once what is not published."""
        if view is self._view:
            return
        self._view = view
        if self._publish is not None:
            self._publish(view.found.names, view.known.domains, view.known.cluster)
        warnings = view.found.warnings + view.lines.warnings
        for warning in warnings:
            if warning not in self._warned:
                log.warning("%s", warning)
        self._warned = frozenset(warnings)
