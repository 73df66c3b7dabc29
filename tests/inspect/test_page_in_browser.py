"""The status page in a real browser: tenants' names run no script, and axe-core finds no violation."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from kube2etcd.inspect.page import status_page
from kube2etcd.metrics import Status
from kube2etcd.settings import HostPort
from tests.inspect.viewed import view

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
#: Folder for screenshots.
SCREENSHOTS = os.environ.get("KUBE2ETCD_SCREENSHOTS")
VIEW = view(50_000)

pytestmark = pytest.mark.skipif(
    PROGRAM is None,
    reason="no Chromium: the status page is NOT tested in a browser; install the package chromium",
)


@pytest.fixture(scope="module")
def status() -> Status:
    status = Status()
    status.report(True, ["2 deletions are held until a second listing agrees"])
    return status


@pytest.fixture(scope="module")
def address(status: Status) -> Iterator[str]:
    delays = [(VIEW.taken - number * 3, 0.002 * (1 + number % 40), "services") for number in range(200)]
    page = status_page(HostPort("127.0.0.1", 0), lambda: VIEW, status, lambda *_: [], lambda: delays).start()
    yield f"http://127.0.0.1:{page.port}/"
    page.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver, driver.chromium.launch(executable_path=PROGRAM) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_page(viewport={"width": 1280, "height": 900}) as page:
        page.set_default_timeout(20_000)
        yield page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (360, 740)], ids=["desktop", "phone"])
def test_accessibility(page: Page, address: str, width: int, height: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.goto(f"{address}?q=example.com")
    page.evaluate(files("axe_core_python").joinpath("axe.min.js").read_text("utf-8") + ";0")
    found = page.evaluate(
        "axe.run().then(r => r.violations.map(v => v.id + ': ' + v.nodes.map(n => n.html).join(' | ')))"
    )
    assert found == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "horizontal overflow"
    if SCREENSHOTS:
        page.screenshot(path=Path(SCREENSHOTS) / f"{width}-{scheme}.png", full_page=True)


def test_names_of_tenants_run_no_script(page: Page, address: str) -> None:
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.goto(f"{address}?q=%3Cimg+src%3Dx+onerror%3Dalert(1)%3E")
    assert page.locator("img").count() == 0
    assert page.locator("#live-records tbody tr").count() == 1
    assert messages == []
    with page.expect_console_message(lambda message: "script-src" in message.text):
        page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran=1\">')")
    assert page.evaluate("window.ran") is None, "injected markup ran"


def test_page_refreshes_itself(page: Page, address: str, status: Status) -> None:
    page.goto(address)
    assert page.title() == "kube2etcd: ready"
    status.report(False, ["etcd is unavailable"])
    try:
        expect(page).to_have_title("kube2etcd: not ready", timeout=20_000)
        expect(page.locator("#status")).to_contain_text("etcd is unavailable")

    finally:
        status.report(True, [])


def test_keyboard_navigation(page: Page, address: str) -> None:
    page.goto(address)
    page.keyboard.press("Tab")
    assert page.inner_text(":focus") == "Skip to the records"
    page.focus("input[name=q]")
    page.keyboard.type("web-49999")
    page.keyboard.press("Enter")
    page.wait_for_url("**web-49999**")
    assert page.inner_text("#live-records p") == "1 records"


def test_tables_without_scripts(browser: Browser, address: str) -> None:
    with browser.new_page(java_script_enabled=False) as page:
        page.goto(f"{address}?page=2")
        assert page.locator("#live-records tbody tr").count() == 100
        assert page.locator("#pause").is_hidden()
