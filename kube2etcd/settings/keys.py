"""Which keys a mapping of the file may have, and which one somebody may have meant.

Knows the table of settings; never reads a value.
"""

from __future__ import annotations

from kube2etcd.settings.table import BY_PATH, SETTINGS
from kube2etcd.settings.words import did_you_mean


def meant(key: str, known: tuple[str, ...]) -> str:
    """What somebody may have meant who wrote nearly one of the ``known`` keys, an option, or no group."""
    places = {name: name for name in known}
    for setting in SETTINGS:
        for name in (setting.option, *setting.aliases, setting.path.replace(".", "-")):
            places.setdefault(name.replace("-", "_"), setting.path)
    for setting in SETTINGS:
        places.setdefault(setting.path.rpartition(".")[2], setting.path)
    return did_you_mean(key, places)


def known_keys(above: str) -> tuple[str, ...]:
    """Keys that a mapping of the file may have."""
    paths = [*BY_PATH, *(("zones",) if not above else ())]
    return tuple(
        dict.fromkeys(path[len(above) :].partition(".")[0] for path in paths if path.startswith(above))
    )
