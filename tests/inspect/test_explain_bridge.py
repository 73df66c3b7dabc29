"""`explain --bridge`, answered by a running bridge, another version, or anything else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kube2etcd.cli import main
from kube2etcd.inspect.page import status_page
from kube2etcd.metrics import Status
from kube2etcd.settings import HostPort
from tests.inspect.viewed import view
from tests.stack.process import free_port

FOUND = {
    "name": "web.shop.",
    "type": "A",
    "rcode": "NOERROR",
    "answers": ["web.shop. 30 IN A 10.0.0.1"],
    "additional": [],
    "reasons": ["they are held"],
    "nearest": [],
    "later": 1,
}
MALFORMED = ("new", "none", "short", "less", "other")


def explain(name: str, rtype: str) -> Any:
    if name == "busy":
        raise TimeoutError
    if name == "invalid":
        raise ValueError("invalid is no name")
    found = {**FOUND, "name": f"{name}.", "type": rtype or "A", "resolves": not rtype or None}
    malformed: dict[str, list[dict[str, object]]] = {
        "new": [{"new": 1}],
        "none": [],
        "short": [found | {"answers": ["a x"]}],
        "less": [{"name": "less.", "type": "A", "rcode": "NOERROR"}],
        "other": [FOUND],
    }
    return malformed.get(name, [found])


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    page = status_page(HostPort("127.0.0.1", 0), view, Status(), explain).start()
    yield page.port
    page.stop()


def call(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, ["explain", *arguments], env={"KUBECONFIG": "none", **environment})


def test_bridge_explains(port: int) -> None:
    for url in (f"http://127.0.0.1:{port}/", f"127.0.0.1:{port}", f":{port}"):
        result = call("web.shop", "--bridge", url)
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout == "web.shop. A: NOERROR\n  web.shop. 30 IN A 10.0.0.1\nwhy: they are held\n"
    result = call("web.shop", "aaaa", "--output", "json", KUBE2ETCD_LISTEN_PAGE=f":{port}")
    [found] = json.loads(result.stdout)
    assert (found["type"], found["resolves"], found["server"], found["nearest"]) == ("AAAA", None, None, [])
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("invalid", "invalid is no name"),
        ("busy", "the loop has not answered yet; try again"),
        *((name, "answers 200, and no explanation: is it a bridge's --listen-page") for name in MALFORMED),
    ],
)
def test_bridge_without_an_explanation(port: int, name: str, message: str) -> None:
    result = call(name, "--bridge", f":{port}")
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("url", ["127.0.0.1:{port}", "http://[", "nonsense://x", "http://127.0.0.1:{port}/x"])
def test_unreachable_bridge(url: str) -> None:
    result = call("web.shop", "--bridge", url.format(port=free_port()))
    assert result.exit_code == 2
    assert "no bridge answers at" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://me:hunter2@127.0.0.1:1", "holds a user name or password, which no bridge asks for"),
        (" ", "is empty; write the address of a bridge's status page, such as :8082"),
    ],
    ids=["password", "empty"],
)
def test_invalid_url(url: str, message: str) -> None:
    for option, result in (
        ("--bridge", call("web.shop", "--bridge", url)),
        ("KUBE2ETCD_BRIDGE", call("web.shop", KUBE2ETCD_BRIDGE=url)),
    ):
        assert (result.exit_code, f"{option} {message}" in result.stderr) == (2, True)
        assert "hunter2" not in result.output


def test_other_server_answers(port: int) -> None:
    result = call("web.shop", "--bridge", f"127.0.0.1:{port}/api")
    assert (result.exit_code, "answers 404, and no explanation" in result.stderr) == (2, True)


def test_unreachable_bridge_of_the_settings_is_only_noted() -> None:
    result = call("web.shop", KUBE2ETCD_LISTEN_PAGE=f":{free_port()}")
    note, error = result.stderr.splitlines()
    assert note.startswith("Note: answered without the bridge: no bridge answers at ")
    assert (result.exit_code, "kubeconfig" in error) == (2, True)
