"""The state in a file, which one process owns by a lock."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from kube2etcd import atomic
from kube2etcd.webhook.state import NotStored, State, decode, encode


class FileState:
    """A `StateStore` in the file ``path``, readable by its owner alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._written: tuple[int, ...] | None = None
        """Version of the file as last read or written."""
        self._lock = -1
        """Descriptor of the locked lock file; -1 if there is none."""

    def __del__(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)

    def load(self) -> State:
        """See `StateStore`."""
        self._claim()
        with self._failing("read"):
            try:
                data, _ = atomic.read(self.path)
            except FileNotFoundError:
                return State()
            self._written = atomic.version(self.path)
        try:
            return decode(data)
        except ValueError as error:
            raise NotStored(
                f"the state file {self.path} cannot be used ({error}): restore it from a backup, or move it"
                " away to begin anew"
            ) from None

    def save(self, state: State, deadline: float) -> None:
        """See `StateStore`."""
        self._prepare_folder()
        with self._failing("written"):
            atomic.put(self.path, encode(state), 0o600)
        self._written = atomic.version(self.path)

    def check(self, state: State, deadline: float) -> State:
        """See `StateStore`; nobody else writes this file, so any difference is damage."""
        self._prepare_folder()
        if atomic.version(self.path) != self._written:
            self.save(state, deadline)
        return state

    def clear(self) -> None:
        """See `StateStore`."""
        self._claim()
        with self._failing("removed"):
            self.path.unlink(missing_ok=True)
            self._lock_file().unlink(missing_ok=True)
        self._written = None

    def _prepare_folder(self) -> None:
        """Make the folder if need be, and lock the file; `NotStored`."""
        folder, fault = self.path.parent, ""
        try:
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                fault = f"give this user the right to write in {folder}"
        except OSError as error:
            fault = f"its folder cannot be made: {error.strerror}; make it"
        if fault:
            raise NotStored(
                f"the state file {self.path} cannot be written: {fault}, or write another --state-file"
            )
        self._claim()

    def _lock_file(self) -> Path:
        return self.path.with_name(f".{self.path.name}.lock")

    def _claim(self) -> None:
        """Lock the file for this process; does nothing without the folder, or on a file system without locks.

        :raises NotStored: another process has locked it.
        """
        if self._lock >= 0:
            return
        try:
            descriptor = os.open(self._lock_file(), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise NotStored(
                    f"another process keeps its state in {self.path}: stop it, or write another --state-file"
                ) from None
        else:
            self._lock = descriptor

    @contextlib.contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        """Turn an `OSError` into `NotStored`: the file cannot be ``what`` (a participle)."""
        try:
            yield
        except OSError as error:
            raise NotStored(f"the state file {self.path} cannot be {what}: {error.strerror}") from None
