"""The state in a file: written beside it, synced, renamed.  Knows files, and nothing of what is kept."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path

from kube2etcd import atomic
from kube2etcd.webhook.keep import NotKept
from kube2etcd.webhook.state import State, UnreadableState, decode, encode

_Version = tuple[int, int, int]


class FileKeeper:
    """Keeps the state in ``path``, readable for its owner alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._written: _Version | None = None
        self._lock = -1
        """A descriptor that says to other processes that the file is ours."""

    def __del__(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)

    def load(self) -> State:
        """As `Keeper` says."""
        self._claim()
        try:
            data, _ = atomic.read(self.path)
            self._written = self._version()
        except FileNotFoundError:
            return State()
        except OSError as error:
            raise NotKept(f"the state file {self.path} cannot be read: {error.strerror}") from None
        try:
            return decode(data)
        except UnreadableState as error:
            raise NotKept(
                f"the state file {self.path} cannot be used ({error}): put back a copy, or move it away to"
                " begin anew"
            ) from None

    def save(self, state: State, deadline: float) -> None:
        """As `Keeper` says."""
        beside = self._beside("new")
        try:
            self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._claim()
            with contextlib.suppress(FileNotFoundError):
                beside.unlink()
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(encode(state))
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, self.path)
            _sync(self.path.parent)
            self._written = self._version()
        except OSError as error:
            # On a full disk half of a state takes the room that the next one needs.
            with contextlib.suppress(OSError):
                beside.unlink()
            raise NotKept(f"the state file {self.path} cannot be written: {error.strerror}") from None

    def check(self, state: State, deadline: float) -> State:
        """As `Keeper` says; nobody else writes this file, so what differs is damage."""
        self._settle()
        try:
            there = self._version()
        except FileNotFoundError:
            there = None
        except OSError as error:
            raise NotKept(f"the state file {self.path} cannot be read: {error.strerror}") from None
        if there != self._written:
            self.save(state, deadline)
        return state

    def clear(self) -> None:
        """As `Keeper` says."""
        self._claim()
        try:
            self.path.unlink(missing_ok=True)
            self._beside("lock").unlink(missing_ok=True)
        except OSError as error:
            raise NotKept(f"the state file {self.path} cannot be removed: {error.strerror}") from None
        self._written = None

    def _settle(self) -> None:
        """See that there is a folder in which the file can be written; `NotKept`."""
        folder = self.path.parent
        try:
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise NotKept(
                f"the state file {self.path} cannot be written, since its folder cannot be made:"
                f" {error.strerror}; make it, or write another --state-file"
            ) from None
        if not os.access(folder, os.W_OK | os.X_OK):
            raise NotKept(
                f"the state file {self.path} cannot be written: give this user the right to write in"
                f" {folder}, or write another --state-file"
            )
        self._claim()

    def _beside(self, what: str) -> Path:
        return self.path.with_name(f".{self.path.name}.{what}")

    def _claim(self) -> None:
        """Two processes with one file would each take the other's for damage; `NotKept` for the second.

        Where there is no folder yet there is nothing to lose, and a file system without locks does without.
        """
        if self._lock >= 0:
            return
        try:
            descriptor = os.open(self._beside("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise NotKept(
                    f"another process keeps its state in {self.path}: stop it, or write another --state-file"
                ) from None
        else:
            self._lock = descriptor

    def _version(self) -> _Version:
        status = os.stat(self.path)
        return status.st_ino, status.st_mtime_ns, status.st_size


def _sync(directory: Path) -> None:
    """So that the name outlives a loss of power as well."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
