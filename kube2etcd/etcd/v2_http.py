"""The connection to etcd's v2 API: several servers as if they were one, credentials read anew.

Errors say what the caller can do.  It must never wait without a limit, never log or show a password,
never send anything twice but what was turned away at the door or only reads, and knows nothing of
what keys mean.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kube2etcd.errors import EtcdError, EtcdUnauthenticated, EtcdUnavailable
from kube2etcd.etcd import v2_failures
from kube2etcd.etcd.settings import EtcdSettings
from kube2etcd.etcd.v2_channel import IN_FLIGHT, LeftError, NoAnswerError, Response, Session, Stream
from kube2etcd.etcd.v2_nodes import Reply, decode, url_path
from kube2etcd.etcd.v2_parallel import Workers, closed_error
from kube2etcd.etcd.v2_untold import Made

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: etcd's reply, and how far etcd was."""

    reply: Reply
    index: int

    @property
    def code(self) -> int:
        """etcd's code for what was wrong; 0 for nothing."""
        return self.reply.code

    def refusal(self) -> EtcdError:
        """What is wrong, where an answer to a write can be nothing else."""
        reply = self.reply
        return v2_failures.meaning("its server", "PUT", 400, reply.code, reply.message, reply.cause)

    def not_back(self, seen: int) -> None:
        """EtcdUnavailable where etcd had been at the index ``seen`` before this was asked of it."""
        if self.index < seen:
            raise EtcdUnavailable(
                f"etcd's index went back from {seen} to {self.index}: it lost its data; read it anew"
            )


class V2Connection:
    """The servers of the settings as if they were one that never moves; connects when first used."""

    def __init__(self, settings: EtcdSettings) -> None:
        self.settings = settings
        self.endpoints = settings.endpoints()
        self._lock = threading.Lock()
        self._current: Session | None = None
        self._turn = 0
        self.workers = Workers(IN_FLIGHT)
        self.made = Made()
        """The indices that writes over this connection got."""

    def get(self, path: str, **params: str) -> Answer:
        """Read; every server is tried once."""
        for _ in self.endpoints[1:]:
            try:
                return self._ask("GET", path, params)
            except EtcdUnauthenticated:
                raise
            except EtcdUnavailable as error:
                log.info("%s", error)
        return self._ask("GET", path, params)

    def get_since(self, index: int, path: str) -> Answer:
        """All that is listed below ``path``, as it is at ``index`` or later; EtcdUnavailable before.

        A quorum costs an entry in the log for each reading, so only a member that is behind is asked for it.
        """
        answer = self.get(path, recursive="true")
        if answer.index < index:
            answer = self.get(path, recursive="true", quorum="true")
            answer.not_back(index)
        return answer

    def put(self, path: str, value: bytes, **params: str) -> Answer:
        """Write one key."""
        return self._made(self._ask("PUT", path, params, {"value": value}))

    def delete(self, path: str, **params: str) -> Answer:
        """Take one key or one directory out."""
        return self._made(self._ask("DELETE", path, params))

    def version(self) -> str:
        """The server's version."""
        _, response = self._sent("GET", "/version", {}, None)
        version = response.body.decode(errors="replace").partition('etcdserver":"')[2].partition('"')[0]
        return version or "unknown"

    def close(self) -> None:
        """Let nobody wait any longer: whatever is under way fails as EtcdUnavailable for its caller."""
        self.workers.close()
        if (session := self._current) is not None:
            session.close()

    def __enter__(self) -> V2Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def stream(self, path: str, params: Mapping[str, str]) -> Iterator[Stream]:
        """The events of a watch, as they come, over a connection of its own."""
        session = self._session()
        try:
            with session.watch(url_path(path), params) as stream:
                if isinstance(stream, Response):
                    reply = self._answer(session, "Watch", stream).reply
                    raise v2_failures.meaning(
                        str(session.endpoint), "Watch", stream.status, reply.code, reply.message
                    )
                yield stream
        except NoAnswerError as error:
            raise self._failed(session, error) from error

    def _made(self, answer: Answer) -> Answer:
        if not answer.code and answer.reply.node is not None:
            self.made.add(answer.reply.node.modified)
        return answer

    # -- one request ----------------------------------------------------------------------------

    def _ask(
        self,
        method: str,
        path: str,
        params: Mapping[str, str],
        data: Mapping[str, bytes] | None = None,
        renewed: bool = False,
    ) -> Answer:
        """One request to the present server; the password is read anew where it is not accepted."""
        session, response = self._sent(method, url_path(path), params, data)
        try:
            return self._answer(session, method, response)
        except EtcdUnauthenticated:
            if renewed or self.settings.user is None:
                raise
        # The request was turned away at the door, so it may be sent again, whatever it is.
        self.leave(session, turn=False)
        return self._ask(method, path, params, data, renewed=True)

    def _sent(
        self, method: str, url: str, params: Mapping[str, str], data: Mapping[str, bytes] | None
    ) -> tuple[Session, Response]:
        while True:
            session = self._session()
            try:
                return session, session.request(method, url, params, data)
            except LeftError:
                continue  # another thread has just left it
            except NoAnswerError as error:
                raise self._failed(session, error) from error

    def _answer(self, session: Session, what: str, response: Response) -> Answer:
        """etcd's reply; an error of ours for what is none."""
        status = response.status
        try:
            reply = decode(response.body)
        except ValueError:
            reply = Reply(message=response.reason)
            if status < 300:
                self.leave(session)
                raise v2_failures.unreachable(
                    str(session.endpoint), what, "the answer is not etcd's"
                ) from None
        if status >= 300 and reply.code not in v2_failures.ANSWERS:
            error = v2_failures.meaning(
                str(session.endpoint), what, status, reply.code, reply.message, reply.cause
            )
            if isinstance(error, EtcdUnavailable) and not isinstance(error, EtcdUnauthenticated):
                self.leave(session)
            raise error
        return Answer(reply, reply.index if response.index is None else response.index)

    def _session(self) -> Session:
        with self._lock:
            if self.workers.closed:
                raise closed_error()
            if self._current is None:
                endpoint = self.endpoints[self._turn % len(self.endpoints)]
                try:
                    self._current = Session(endpoint, self.settings)
                except OSError as error:
                    # A rotation that is half done: the next attempt reads the files again.
                    raise EtcdUnavailable(
                        f"the TLS files for etcd at {endpoint} cannot be read: {error}"
                    ) from error
            return self._current

    def _failed(self, session: Session, error: NoAnswerError) -> EtcdError:
        """What a request without an answer means; the next one goes to the next server."""
        self.leave(session)
        return error.meaning

    def leave(self, session: Session, turn: bool = True) -> None:
        """Drop these connections, if they are still the present ones; the next server has its turn."""
        with self._lock:
            if session is self._current:
                self._turn += turn
                self._current = None
                session.close()
