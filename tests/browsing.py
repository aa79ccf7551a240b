"""Headless Chromium for the tests of the page."""

import json
import shutil

import pytest
from selenium import webdriver

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
NARROW, WIDE = 360, 1280


def chromium():
    """Starts the browser, yields it and ends it."""
    if not (CHROMIUM and DRIVER):
        pytest.skip("no browser: needs Debian's packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def resize(browser, width):
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width == NARROW}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def visit(browser, path, query=""):
    """Opens a page and waits for its mathematics."""
    browser.get(path.as_uri() + query)
    wait = "const done = arguments[0]; const ready = () =>"
    wait += "(window.MathJax ? MathJax.startup.promise : Promise.resolve()).then(() => done());"
    wait += "document.readyState === 'complete' ? ready() : addEventListener('load', ready)"
    browser.execute_async_script(wait)


def complaints(browser):
    """What the console says, and requests that failed or left the folder."""
    yield from browser.get_log("browser")
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            address = message["params"]["request"]["url"]
            if not address.startswith(("file:", "data:")):
                yield address
        # A browser ends the loading of a film once it knows its length.
        failed = message["method"] == "Network.loadingFailed"
        if failed and not message["params"].get("canceled"):
            yield message
