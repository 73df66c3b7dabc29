"""For every test: a clean environment and logging, and the profiles of hypothesis."""

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# A slow machine breaks no law. `tox -e unit` tries the same few examples on every run, `tox -e thorough`
# (--hypothesis-profile=thorough) ten times as many, other ones each time; a failure prints how to repeat it.
_ANY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", _ANY, derandomize=True, max_examples=60)
settings.register_profile("thorough", _ANY, max_examples=600, print_blob=True)
settings.load_profile("quick")

#: Where the built servers are kept; a matter of the tests themselves.
CACHE = "KUBE2ETCD_CACHE"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No environment that would configure a command, and no trace of the logging that one set up."""
    for name in list(os.environ):
        ours_or_theirs = name.startswith(("KUBE2ETCD_", "KUBERNETES_")) and name != CACHE
        if ours_or_theirs or name in ("DNS_DOMAIN", "KUBECONFIG"):
            monkeypatch.delenv(name)
    root, ours = logging.getLogger(), logging.getLogger("kube2etcd")
    handlers, levels = list(root.handlers), (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])
