"""Pages for the browser to open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import made_up
import pytest
from browsing import HOSTILE, Page
from selenium import webdriver

from agcam.report.model import Fact, Frame, Report
from agcam.report.page import render, write
from agcam.report.write import write_report


@pytest.fixture
def visit(driver: webdriver.Chrome) -> Iterator[Callable[..., Page]]:
    """Opens a page at a width, in a colour scheme; in the end it must not have complained."""
    visited = []

    def open_page(path: Path, width: int = 1280, height: int = 900, **media: str) -> Page:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        still = {"prefers_reduced_motion": "reduce"}  # nothing that is clicked is on its way
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in (still | media).items()]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        visited.append(Page(driver, path))
        visited[-1].js("localStorage.clear()")
        return visited[-1]

    yield open_page
    for page in visited[-1:]:
        assert page.errors() == []


@pytest.fixture(scope="session")
def benchmark_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images: 0, 4, 8 taken for dogs, every third one looked at elsewhere."""
    images = [made_up.shown(i, hit=i % 3 != 0, predicted="cat" if i % 4 else "dog") for i in range(12)]
    return write_report(made_up.benchmark(tmp_path_factory.mktemp("benchmark"), images))


@pytest.fixture(scope="session")
def classes_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images of a cat and a dog, the dogs of 0 and 1 missed, those of 0 and 2 looked at elsewhere."""
    images = []
    for i in range(4):
        cat = made_up.shown(i, truth=("cat", "dog"))
        dog = made_up.shown(i, truth=("cat", "dog"), seed=99 + i, hit=i not in (0, 2))
        images += [cat, replace(dog, image=cat.image, explained="dog", probability=0.2 if i < 2 else 0.9)]
    return write_report(made_up.benchmark(tmp_path_factory.mktemp("classes"), images))


@pytest.fixture(scope="session")
def run_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four epochs of four images: image n is looked at rightly from epoch n on; image 3 comes in epoch 2."""
    epochs = [[made_up.shown(i, hit=e >= i, curves=False) for i in range(4) if i < 3 or e >= 2] for e in range(4)]
    return write_report(made_up.run(tmp_path_factory.mktemp("run") / "version_0", epochs))


@pytest.fixture(scope="session")
def thousand_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    methods = ("agcam", "rollout", "lrp", "gradcam", "random")
    images = [made_up.shown(i, hit=i % 2 == 0, methods=methods, side=32) for i in range(1000)]
    path = tmp_path_factory.mktemp("thousand") / "report.html"
    write(render(Report("benchmark", "A thousand images", [], [Frame("x", None, images)]), path), path)
    return path


@pytest.fixture(scope="session")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = [
        made_up.shown(i, name=n, truth=(n, "cat"), predicted=n, explained=n, methods=HOSTILE[:2] if i else (n,))
        for i, n in enumerate(HOSTILE)
    ]
    folder = tmp_path_factory.mktemp("hostile") / 'it\'s "quoted" & <b>'
    return write_report(made_up.benchmark(folder, images, methods=HOSTILE, data=HOSTILE[0]))


@pytest.fixture(scope="session")
def bare_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of which nothing is known: no class, no object, no figures, no curves."""
    images = [made_up.shown(i, truth=(), objects=False, curves=False, methods=("agcam",)) for i in range(3)]
    path = tmp_path_factory.mktemp("bare") / "report.html"
    report = Report("images", "Photographs", [Fact("Images", "3")], [Frame("images", None, images)])
    write(render(report, path), path)
    return path
