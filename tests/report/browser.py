"""A headless browser that opens pages from disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1440,900",
)
PATIENCE = 120
"""Seconds to wait, enough for busy machines."""


def require_browser() -> None:
    """Skips a test without a browser. In CI the test fails instead."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    if missing:
        end = pytest.fail if os.environ.get("CI") else pytest.skip
        end(f"no browser, pages are not tested: {' and '.join(missing)} missing (apt-get install chromium-driver)")


@contextmanager
def chromium() -> Iterator[WebDriver]:
    """Starts Debian's Chromium with an empty profile."""
    require_browser()
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        browser = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        browser.set_page_load_timeout(PATIENCE)
        browser.set_script_timeout(PATIENCE)
        try:
            yield browser
        finally:
            browser.quit()


def opened(browser: WebDriver, page: Path, question: str = "") -> None:
    """Opens a page and waits until its first question is on screen."""
    browser.get("about:blank")
    browser.get(page.resolve().as_uri() + (f"#{question}" if question else ""))
    ready = "return document.body.dataset.ready !== undefined"
    WebDriverWait(browser, PATIENCE).until(lambda it: it.execute_script(ready))
