"""What a keeper of the state is: the one thing that must be written before a call is answered."""

from __future__ import annotations

from typing import Final, Protocol

from kube2etcd.errors import Kube2EtcdError
from kube2etcd.webhook.state import State

#: Seconds for one request of a keeper: so much later than its deadline is it done at the latest.
REQUEST: Final = 1.5


class NotKept(Kube2EtcdError):
    """The state could not be read or written, for now; the message says why and where."""


class Overtaken(NotKept):
    """Another writer was there first: `Keeper.check` takes over what it wrote, then try again."""


class Keeper(Protocol):
    """Keeps one state, so that it outlives the process.  Used by one thread at a time.

    ``deadline`` is on the clock of `time.monotonic`: a moment from which on nothing new is begun, nor tried
    again, be it one of many parts.  The time that a keeper's own work on a large state takes comes on top.
    """

    def load(self) -> State:
        """The state as it was kept last, empty when there is none; `NotKept`."""
        ...

    def save(self, state: State, deadline: float) -> None:
        """Keep ``state``, all of it or nothing; `NotKept`: which of both is not known.

        `Overtaken` where another writer has got ahead of us.
        """
        ...

    def check(self, state: State, deadline: float) -> State:
        """See that ``state`` is what is kept, and keep it again where it is lost; `NotKept`.

        Another state comes back where another writer has got ahead of us.
        """
        ...

    def clear(self) -> None:
        """Leave nothing behind; `NotKept`."""
        ...
