"""``tracer.py SOCKET COMMAND...`` runs kube2etcd, and reports over the socket which functions it enters.

It imports nothing of the tests, since the traced checkout may be another one.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

PACKAGES = ("kube2etcd", "skydns_compat")
#: A value found nowhere by chance: the path of a setting is the functions that hold it.
TTL = 7717


class _Tracer:
    """Records the functions that are entered.

    With ``value`` only those with a local variable that holds it: the path of a setting.
    """

    def __init__(self) -> None:
        self.recording = False
        self.value: int | None = None
        self.found: dict[str, None] = {}
        self.functions_at_txn = 0
        """The number of functions entered when a transaction was last sent; 0 for none."""
        self._modules: dict[str, str | None] = {}

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if not self.recording or event not in ("call", "return"):
            return
        code = frame.f_code
        if code.co_name.startswith("<"):
            return
        if code.co_filename not in self._modules:
            self._modules[code.co_filename] = _module(code.co_filename)
        module = self._modules[code.co_filename]
        if code.co_filename.endswith("grpc/_channel.py"):
            method = getattr(frame.f_locals.get("self"), "_method", None) or b""
            if event == "call" and method.endswith(b"/Txn"):
                self.functions_at_txn = len(self.found)
        if module is None or (event == "return" and self.value is None):
            return
        if self.value is None or _holds([*frame.f_locals.values(), argument], self.value):
            self.found.setdefault(f"{module}:{code.co_qualname}")


def _module(file: str) -> str | None:
    parts = Path(file).parts
    for package in PACKAGES:
        if package in parts:
            last = len(parts) - parts[::-1].index(package) - 1
            return ".".join(parts[last:]).removesuffix(".py").removesuffix(".__init__")
    return None


def _holds(values: Sequence[Any], wanted: int) -> bool:
    texts = (wanted, str(wanted))
    for value in values:
        if type(value) in (int, str) and value in texts:
            return True
        inside: Sequence[Any] = ()
        if isinstance(value, dict):
            inside = tuple(value.values())
        elif isinstance(value, tuple | list):
            inside = value[:50]
        elif hasattr(value, "__dict__") and str(type(value).__module__).startswith(PACKAGES):
            inside = tuple(vars(value).values())
        elif hasattr(value, "__struct_fields__"):
            inside = tuple(getattr(value, name) for name in value.__struct_fields__)
        if any(type(one) in (int, str) and one in texts for one in inside):
            return True
    return False


def trace(control: str, arguments: Sequence[str]) -> None:
    """Run the command, and obey orders from the socket."""
    tracer = _Tracer()
    if str(TTL) in arguments:
        tracer.value, tracer.recording = TTL, True

    def obey() -> None:
        with socket.socket(socket.AF_UNIX) as ours:
            ours.connect(control)
            with ours.makefile("rw") as lines:
                for line in lines:
                    if line.strip() == "record":
                        tracer.found, tracer.functions_at_txn = {}, 0
                        tracer.recording = True
                        answer: list[str] = []
                    else:
                        tracer.recording = False
                        answer = list(tracer.found)[: (not tracer.value and tracer.functions_at_txn) or None]
                        tracer.value = None
                    lines.write(json.dumps(answer) + "\n")
                    lines.flush()

    threading.Thread(target=obey, daemon=True).start()
    threading.setprofile(tracer)
    sys.setprofile(tracer)
    from kube2etcd.cli import main

    main(list(arguments))


if __name__ == "__main__":
    trace(sys.argv[1], sys.argv[2:])
