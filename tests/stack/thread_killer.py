"""kube2etcd whose threads can be killed: ``python -m tests.stack.thread_killer FOLDER COMMAND…``.

``FOLDER/kill`` names the thread to kill; ``FOLDER/threads`` lists those alive.
"""

import ctypes
import sys
import threading
import time
from pathlib import Path

from kube2etcd.cli import main

KILLER = "killer"


class Killed(BaseException):
    """Not an `Exception`, so that nothing catches it."""


def _kill_on_demand(folder: Path) -> None:
    named = folder / "kill"
    while True:
        time.sleep(0.02)
        alive = sorted(one.name for one in threading.enumerate() if one.name != KILLER)
        (folder / "threads.new").write_text("\n".join(alive))
        (folder / "threads.new").rename(folder / "threads")
        if named.exists() and (name := named.read_text()):
            for thread in threading.enumerate():
                if thread.name == name and thread.ident is not None:
                    ident, error = ctypes.c_ulong(thread.ident), ctypes.py_object(Killed)
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, error)
            named.unlink()


if __name__ == "__main__":
    place = Path(sys.argv.pop(1))
    threading.Thread(target=_kill_on_demand, args=(place,), name=KILLER, daemon=True).start()
    main()
