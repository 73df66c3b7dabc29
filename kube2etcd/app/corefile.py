"""The Corefile as text, and `run --corefile FILE`, which keeps that file up to date.

The text depends on the settings and the external domains added at run time; CoreDNS's `reload` plugin notices
a new file by itself.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable
from pathlib import Path

from kube2etcd import atomic
from kube2etcd.app import build
from kube2etcd.errors import SettingsError
from kube2etcd.external import Domain
from kube2etcd.metrics import Check
from kube2etcd.settings import Settings
from skydns_compat.corefile import corefile

log = logging.getLogger(__name__)

#: Seconds between checks of the file, which revert foreign edits and retry failed writes.
LOOK = 5.0


def text(settings: Settings) -> str:
    """The Corefile of these settings.

    :raises SettingsError: SkyDNS, which has no Corefile, reads the keys.
    """
    made = corefile(build.corefile(settings))
    if settings.corefile.imports is None:
        return made
    return f"{made}\n# blocks of your own\nimport {settings.corefile.imports}\n"


class CorefileWriter:
    """Keeps a file equal to the Corefile.  `serve` may be called from any thread."""

    def __init__(self, settings: Settings, *, whole: bool = True) -> None:
        """Unless the settings name the ``whole`` of the domains, a file that exists is kept until `serve` is
        called: the webhook has not read its state yet, and CoreDNS would drop the other domains.

        :raises SettingsError: the file's folder does not exist, or SkyDNS reads the keys.
        """
        self._whole = whole
        self._settings = settings
        self._path = Path(settings.corefile.file or "")
        self._text = text(settings)
        self._lock = threading.Lock()
        self._fault = f"--corefile {self._path} is not written yet"
        self._domains = settings.domains
        self._remarks: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, name="corefile", daemon=True)
        if (folder := atomic.missing_folder(self._path)) is not None:
            raise SettingsError(
                f"--corefile {self._path}: there is no folder {folder}; make it, or write another path"
            )

    def start(self) -> None:
        """Write the file and keep it equal to the text."""
        for name in atomic.tidy(self._path):
            log.info("removed %s, left over from a write of %s that was killed", name, self._path)
        self.write()
        self._thread.start()

    def stop(self) -> None:
        """Stop; keeps the file, for CoreDNS."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def serve(self, domains: Iterable[Domain]) -> None:
        """Also serve these external domains."""
        domains = tuple(domains)
        if self._whole and domains == self._domains:
            return
        self._domains = domains
        settings, remarks = build.served(self._settings, domains)
        for remark in remarks:
            if remark not in self._remarks:
                log.warning("%s", remark)
        self._text, self._remarks = text(settings), remarks
        self._whole = True  # not before the text, which the other thread may write at once
        self.write()

    def write(self) -> None:
        """Write the text if the file differs; a failure is reported by `check` and retried."""
        if not self._whole and os.path.exists(self._path):
            return
        with self._lock:
            try:
                written = atomic.put(self._path, self._text.encode())
            except Exception as error:  # a file must not end the process's thread
                reason = getattr(error, "strerror", None) or error
                fault = f"--corefile {self._path} cannot be written: {reason}"
                if fault != self._fault:
                    log.warning("%s", fault)
                self._fault = fault
                return
            if written:
                log.info("corefile written", extra={"fields": {"file": str(self._path)}})
            self._fault = ""

    def check(self) -> Check:
        """Why the file cannot be written, and warnings that do not affect readiness."""
        return [self._fault] if self._fault else [], [*self._remarks]

    def _look(self) -> None:
        while not self._stop.wait(LOOK):
            self.write()
