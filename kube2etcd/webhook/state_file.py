"""The state in a file."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from kube2etcd import atomic
from kube2etcd.webhook.state import NotStored, State, UnreadableState, decode, encode

_Version = tuple[int, int, int]


class FileStore:
    """A `StateStore` in the file ``path``, which its owner alone can read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._written: _Version | None = None
        self._lock = -1
        """Descriptor of the lock file, once it is ours."""

    def __del__(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)

    def load(self) -> State:
        """As `StateStore` says."""
        self._claim()
        try:
            data, _ = atomic.read(self.path)
            self._written = self._version()
        except FileNotFoundError:
            return State()
        except OSError as error:
            raise NotStored(f"the state file {self.path} cannot be read: {error.strerror}") from None
        try:
            return decode(data)
        except UnreadableState as error:
            raise NotStored(
                f"the state file {self.path} cannot be used ({error}): restore it from a backup, or move it"
                " away to begin anew"
            ) from None

    def save(self, state: State, deadline: float) -> None:
        """As `StateStore` says."""
        try:
            self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._claim()
            atomic.put(self.path, encode(state), 0o600)
            self._written = self._version()
        except OSError as error:
            raise NotStored(f"the state file {self.path} cannot be written: {error.strerror}") from None

    def check(self, state: State, deadline: float) -> State:
        """As `StateStore` says; nobody else writes this file, so what differs is damage."""
        self._prepare_folder()
        try:
            there = self._version()
        except FileNotFoundError:
            there = None
        except OSError as error:
            raise NotStored(f"the state file {self.path} cannot be read: {error.strerror}") from None
        if there != self._written:
            self.save(state, deadline)
        return state

    def clear(self) -> None:
        """As `StateStore` says."""
        self._claim()
        try:
            self.path.unlink(missing_ok=True)
            self._lock_file().unlink(missing_ok=True)
        except OSError as error:
            raise NotStored(f"the state file {self.path} cannot be removed: {error.strerror}") from None
        self._written = None

    def _prepare_folder(self) -> None:
        """See that the file can be written in its folder; `NotStored`."""
        folder = self.path.parent
        try:
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise NotStored(
                f"the state file {self.path} cannot be written, since its folder cannot be made:"
                f" {error.strerror}; make it, or write another --state-file"
            ) from None
        if not os.access(folder, os.W_OK | os.X_OK):
            raise NotStored(
                f"the state file {self.path} cannot be written: give this user the right to write in"
                f" {folder}, or write another --state-file"
            )
        self._claim()

    def _lock_file(self) -> Path:
        return self.path.with_name(f".{self.path.name}.lock")

    def _claim(self) -> None:
        """Lock the file for this process; `NotStored` for a second one, which would undo our writes.

        Without a folder there is nothing to lose yet; a file system without locks does without.
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

    def _version(self) -> _Version:
        status = os.stat(self.path)
        return status.st_ino, status.st_mtime_ns, status.st_size
