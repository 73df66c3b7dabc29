"""A settings file that is changed while a process runs: it starts anew with what the file says then."""

from __future__ import annotations

import logging
import os
import sys
import threading

from kube2etcd.errors import Kube2EtcdError
from kube2etcd.settings import Loaded

log = logging.getLogger(__name__)


class Reload:
    """Stops a process whose settings file says something else than it was started with.

    Started anew rather than changed in place: one way to become what the settings say.  The keys stay in etcd
    meanwhile, so DNS goes on answering.
    """

    def __init__(self, loaded: Loaded) -> None:
        self.stop = threading.Event()
        """Set when the process is to end; may be set by others, too."""
        self.wanted = False
        """Whether it is to start anew then."""
        self._loaded = loaded
        self._seen: bytes | None = None
        self._fault = ""

    def look(self) -> str:
        """Look at the file; returns why its change is not taken over, else nothing."""
        config = self._loaded.config
        if config is None:
            return ""
        try:
            content = config.read_bytes()
        except OSError as error:
            return self._say(f"{config} cannot be read: {error.strerror}")
        if content == self._seen:
            return self._fault
        self._seen = content
        try:
            settings = self._loaded.again()
        except Kube2EtcdError as error:
            return self._say(f"the changed {config} is not taken: {error}")
        if settings != self._loaded.settings:
            log.info("settings changed file=%s; starting anew", config)
            self.wanted = True
            self.stop.set()
        return self._say("")

    def start_anew(self) -> None:
        """Become a new process with the same command line, where that is wanted."""
        if self.wanted:
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

    def _say(self, fault: str) -> str:
        if fault and fault != self._fault:
            log.error("%s", fault)
        self._fault = fault
        return fault
