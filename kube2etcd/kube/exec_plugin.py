"""Exec plugins of a kubeconfig with a limit in time: the package ``kubernetes`` waits for them without one.

Every reflector asks for credentials before each request, under a lock, so a plugin that hangs would silence
them all (guarantee G2).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from types import SimpleNamespace
from typing import Any, Final

EXEC_TIMEOUT: Final = 30.0
"""Seconds for one run of a plugin; those of the cloud providers need one to five."""

EXEC_RETRY: Final = 10.0
"""Seconds after a timeout in which the plugin is not run again, so its waiters do not wait twice."""

_lock = threading.Lock()
_failed: dict[tuple[str, ...], float] = {}


class PluginTimeout(Exception):
    """The plugin timed out and was killed."""


def run(args: list[str], **options: Any) -> tuple[int, str, str]:
    """Run a plugin; returns its exit code, stdout and stderr.

    :raises PluginTimeout: it took longer than `EXEC_TIMEOUT`, now or less than `EXEC_RETRY` ago.
    """
    name = tuple(args)
    with _lock:
        if time.monotonic() < _failed.get(name, 0.0):
            raise _timeout(args)
    # Nobody answers its questions, and children of its own must not outlive it.
    process = subprocess.Popen(args, **(options | {"stdin": subprocess.DEVNULL, "start_new_session": True}))
    try:
        output, errors = process.communicate(timeout=EXEC_TIMEOUT)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        with _lock:
            _failed[name] = time.monotonic() + EXEC_RETRY
        raise _timeout(args) from None
    return process.returncode, output or "", errors or ""


def limit() -> None:
    """Have the package ``kubernetes`` run plugins through `run`."""
    from kubernetes.config import exec_provider

    library: Any = exec_provider
    library.subprocess = SimpleNamespace(Popen=_Limited, PIPE=subprocess.PIPE)


class _Limited:
    """What the package needs of a process."""

    def __init__(self, args: list[str], **options: Any) -> None:
        options.pop("shell", None)
        self._result = run(args, **options)

    def communicate(self) -> tuple[str, str]:
        return self._result[1:]

    def wait(self) -> int:
        return self._result[0]


def _timeout(args: list[str]) -> PluginTimeout:
    return PluginTimeout(
        f"exec plugin {args[0]}: no credentials within {EXEC_TIMEOUT:g} s; it is ended and run again"
    )
