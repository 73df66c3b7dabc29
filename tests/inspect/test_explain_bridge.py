"""`explain --bridge`: what a running bridge, another version, or anything else answers."""

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
OTHERS = ("new", "none", "short", "less", "other")


def explained(name: str, rtype: str) -> Any:
    if name == "busy":
        raise TimeoutError
    if name == "odd":
        raise ValueError("odd is no name")
    found = {**FOUND, "name": f"{name}.", "type": rtype or "A", "resolves": not rtype or None}
    others: dict[str, list[dict[str, object]]] = {
        "new": [{"new": 1}],
        "none": [],
        "short": [found | {"answers": ["a x"]}],
        "less": [{"name": "less.", "type": "A", "rcode": "NOERROR"}],
        "other": [FOUND],
    }
    return others.get(name, [found])


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    page = status_page(HostPort("", 0), view, Status(), explained).start()
    yield page.port
    page.stop()


def call(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, ["explain", *arguments], env={"KUBECONFIG": "none", **environment})


def test_a_bridge_explains(port: int) -> None:
    for url in (f"http://127.0.0.1:{port}/", f"127.0.0.1:{port}", f":{port}"):
        result = call("web.shop", "--bridge", url)
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout == "web.shop. A: NOERROR\n  web.shop. 30 IN A 10.0.0.1\nwhy: they are held\n"
    result = call("web.shop", "aaaa", "--output", "json", KUBE2ETCD_LISTEN_PAGE=f":{port}")
    [found] = json.loads(result.stdout)
    assert (found["type"], found["resolves"], found["server"], found["nearest"]) == ("AAAA", None, None, [])
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("odd", "odd is no name"),
        ("busy", "the loop has not answered yet; try again"),
        *((name, "answers 200, and no explanation: is it a bridge's --listen-page") for name in OTHERS),
    ],
)
def test_a_bridge_does_not_explain(port: int, name: str, said: str) -> None:
    result = call(name, "--bridge", f":{port}")
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("url", ["127.0.0.1:{port}", "http://[", "nonsense://x", "http://127.0.0.1:{port}/x"])
def test_nothing_answers(url: str) -> None:
    result = call("web.shop", "--bridge", url.format(port=free_port()))
    assert result.exit_code == 2
    assert "no bridge answers at" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_something_else_answers(port: int) -> None:
    result = call("web.shop", "--bridge", f"127.0.0.1:{port}/api")
    assert (result.exit_code, "answers 404, and no explanation" in result.stderr) == (2, True)


def test_explain_works_without_the_bridge_of_the_settings() -> None:
    result = call("web.shop", KUBE2ETCD_LISTEN_PAGE=f":{free_port()}")
    note, error = result.stderr.splitlines()
    assert note.startswith("Note: answered without the bridge: no bridge answers at ")
    assert (result.exit_code, "kubeconfig" in error) == (2, True)
