from __future__ import annotations

import logging

import pytest

from tests.objects import service
from tests.sync.loop import Clock, World


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def world(clock: Clock) -> World:
    return World(clock).listed(service("web"))


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "kube2etcd.sync")
    return caplog
