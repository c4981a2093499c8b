"""A page in the browser, and the calls that the tests need."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

PATIENCE = 20.0
"""Seconds that a page may take for what should take none: the tests share their machine."""


HOSTILE = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(2)>",
    "\"'><svg onload=alert(3)>\u2028\u2029&amp;",
    "שלום \u202eעולם",
    "x" * 10_000,
    "{{ 7 * 7 }} ${alert(4)}",
    "bytes-\udcff",
)
"""Names that a careless page would obey, break on or burst from."""


class Page:
    """A page in the browser, with the calls that the tests need."""

    def __init__(self, driver: webdriver.Chrome, path: Path) -> None:
        self.driver = driver
        self.path = path
        driver.get_log("browser")
        driver.get(path.resolve().as_uri())

    def js(self, script: str, *args: Any) -> Any:
        """What a script returns."""
        return self.driver.execute_script(script, *args)

    def all(self, selector: str) -> list[WebElement]:
        """Elements that are shown."""
        return [e for e in self.driver.find_elements(By.CSS_SELECTOR, selector) if e.is_displayed()]

    def one(self, selector: str) -> WebElement:
        """The first of them."""
        found = self.all(selector)
        assert found, f"{selector} is not shown"
        return found[0]

    def text(self, selector: str) -> str:
        """The text of the first of them, as it is in the page."""
        return str(self.one(selector).get_property("textContent")).replace("\N{NO-BREAK SPACE}", " ")

    def choose(self, selector: str, value: object) -> None:
        """Set a control as a user would: input while it moves, change when it is let go."""
        self.js(
            "const c = document.querySelector(arguments[0]); c.value = arguments[1];"
            "for (const e of ['input', 'change']) c.dispatchEvent(new Event(e, {bubbles: true}));",
            selector,
            str(value),
        )

    def drawing(self, selector: str = ".card canvas") -> str:
        """The first canvas as a data URI of a PNG, once it is drawn."""
        self.until(lambda: self.js("return (document.querySelector(arguments[0])?.width ?? 0) > 0", selector))
        return str(self.js("return document.querySelector(arguments[0]).toDataURL()", selector))

    def pixels(self, selector: str = ".card canvas") -> np.ndarray:
        """(H, W, 3) uint8 of the first canvas, once it is drawn."""
        packed = base64.b64decode(self.drawing(selector).partition(",")[2])
        return np.asarray(Image.open(io.BytesIO(packed)).convert("RGB"))

    def changes(self, act: Callable[[], object], selector: str = ".card canvas") -> bool:
        """Whether a canvas comes to look different after `act`."""
        before = self.drawing(selector)
        act()
        self.until(lambda: self.drawing(selector) != before)
        return True

    def until(self, happens: Callable[[], Any]) -> None:
        """Wait for it."""
        end = time.monotonic() + PATIENCE
        while not happens():
            assert time.monotonic() < end, "it did not happen"
            time.sleep(0.02)

    def names(self) -> list[str]:
        """The images in the gallery, in order."""
        found: list[str] = self.js(
            "return [...document.querySelectorAll('.card')].map((card) => card.image.name.match(/\\d+/)?.[0])"
        )
        return found

    def errors(self) -> list[str]:
        """What the browser complained of since the page was opened."""
        return [entry["message"] for entry in self.driver.get_log("browser")]


Visit = Callable[..., Page]
