"""The status page in a real browser: names of strangers run nothing, and axe-core finds no barrier."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from kube2etcd.inspect.live import View
from kube2etcd.inspect.page import StatusPage
from kube2etcd.metrics import Status
from kube2etcd.settings import HostPort
from tests.inspect.browser import Browser, installed
from tests.inspect.viewed import view

PROGRAM = installed()
#: Where pictures are kept to be looked at.
SHOTS = os.environ.get("KUBE2ETCD_SCREENSHOTS")

pytestmark = pytest.mark.skipif(
    PROGRAM is None,
    reason="no Chromium: the status page is NOT tested in a browser; install the package chromium",
)


class Bridge:
    def __init__(self) -> None:
        self.view = view(50_000)
        self.status = Status()
        self.status.report(True, ["2 deletions are held until a second listing agrees"])

    def ask(self) -> View:
        return self.view

    def delays(self) -> list[tuple[float, float, str]]:
        taken = self.view.taken
        return [(taken - number * 3, 0.002 * (1 + number % 40), "services") for number in range(200)]


@pytest.fixture(scope="module")
def bridge() -> Bridge:
    return Bridge()


@pytest.fixture(scope="module")
def address(bridge: Bridge) -> Iterator[str]:
    page = StatusPage(
        HostPort("", 0), bridge.ask, bridge.status, lambda name, rtype: [], bridge.delays
    ).start()
    yield f"http://127.0.0.1:{page.port}/"
    page.stop()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert PROGRAM is not None
    one = Browser(PROGRAM, tmp_path_factory.mktemp("profile"))
    yield one
    one.close()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (360, 740)], ids=["desktop", "phone"])
def test_accessibility(browser: Browser, address: str, width: int, height: int, dark: bool) -> None:
    browser.resize(width, height, dark)
    browser.open(f"{address}?q=example.com")
    browser.evaluate(files("axe_core_python").joinpath("axe.min.js").read_text("utf-8") + ";0")
    found = browser.evaluate(
        "axe.run().then(r => r.violations.map(v => v.id + ': ' + v.nodes.map(n => n.html).join(' | ')))"
    )
    assert found == []
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out"
    if SHOTS:
        shape = f"{'phone' if width < 500 else 'desktop'}-{'dark' if dark else 'light'}"
        browser.screenshot(Path(SHOTS) / f"{shape}.png")
        browser.evaluate("document.getElementById('latency').scrollIntoView()")
        browser.screenshot(Path(SHOTS) / f"{shape}-below.png")


def test_names_of_strangers_run_nothing(browser: Browser, address: str) -> None:
    browser.resize(1280, 900)
    browser.messages.clear()
    browser.open(f"{address}?q=%3Cimg+src%3Dx+onerror%3Dalert(1)%3E")
    assert browser.evaluate("document.images.length") == 0
    assert browser.evaluate("document.querySelectorAll('#live-records tbody tr').length") == 1
    assert browser.messages == []
    browser.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran=1\">')")
    browser.wait_for("performance.now() > 200")
    assert browser.evaluate("window.ran") is None, "even markup that got in would not run"
    assert any("Content Security Policy" in one for one in browser.messages)


def test_the_page_refreshes_itself(browser: Browser, address: str, bridge: Bridge) -> None:
    browser.resize(1280, 900)
    browser.open(address)
    assert browser.evaluate("document.title") == "kube2etcd: ready"
    bridge.status.report(False, ["etcd is away"])
    try:
        browser.wait_for("document.title === 'kube2etcd: not ready'")
        assert browser.evaluate("document.getElementById('status').innerText.includes('etcd is away')")
    finally:
        bridge.status.report(True, [])


def test_by_keyboard(browser: Browser, address: str) -> None:
    browser.resize(1280, 900)
    browser.open(address)
    browser.press("Tab", 9)
    assert browser.evaluate("document.activeElement.textContent") == "Skip to the records"
    browser.evaluate("document.querySelector('input[name=q]').focus()")
    browser.evaluate("document.activeElement.value = 'web-49999'")
    browser.press("Enter", 13)
    browser.wait_for("location.search.includes('web-49999') && document.readyState === 'complete'")
    assert browser.evaluate("document.querySelector('#live-records p').textContent") == "1 records"


def test_tables_without_scripts(browser: Browser, address: str) -> None:
    browser.resize(1280, 900)
    browser.scripts(False)
    try:
        browser.open(f"{address}?page=2")
        assert browser.evaluate("document.querySelectorAll('#live-records tbody tr').length") == 100
        assert browser.evaluate("document.getElementById('pause').hidden")
    finally:
        browser.scripts(True)
