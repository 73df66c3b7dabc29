"""Before every test: clean environment and logging. Registers the hypothesis profiles."""

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# No deadline: a slow machine is no failure. `tox -e unit` runs the same few examples each time, `tox -e
# thorough` (--hypothesis-profile=thorough) ten times as many, random ones; a failure says how to repeat it.
_ANY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", _ANY, derandomize=True, max_examples=60)
settings.register_profile("thorough", _ANY, max_examples=600, print_blob=True)
settings.load_profile("quick")

#: Directory of the built servers; set for the tests, so it stays.
CACHE = "KUBE2ETCD_CACHE"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Unset variables that configure a command; restore logging afterwards."""
    for name in list(os.environ):
        configures = name.startswith(("KUBE2ETCD_", "KUBERNETES_")) and name != CACHE
        if configures or name in ("DNS_DOMAIN", "KUBECONFIG"):
            monkeypatch.delenv(name)
    root, bridge = logging.getLogger(), logging.getLogger("kube2etcd")
    handlers, levels = list(root.handlers), (root.level, bridge.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    bridge.setLevel(levels[1])
