"""Look up running threads by name."""

import threading


def running(name: str) -> threading.Thread | None:
    """The running thread of that name, or None."""
    return next((one for one in threading.enumerate() if one.name == name), None)
