"""The reader model with external zones against a real CoreDNS."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.skydns_compat.nested_cases import QUESTIONS, SETTINGS, keys
from tests.stack.harness import Etcd
from tests.stack.modelled import Modelled


@pytest.mark.parametrize("with_upstream", [False, True], ids=["alone", "with upstream"])
def test_every_question(etcd: Etcd, binaries: dict[str, Path], tmp_path: Path, with_upstream: bool) -> None:
    for key, value in keys().items():
        etcd.put(key.decode(), value.decode())
    model = Modelled(keys(), SETTINGS, with_upstream)
    assert model.differences(etcd, binaries, tmp_path, QUESTIONS) == ""
