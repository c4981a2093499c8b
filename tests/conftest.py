"""Small real things that many tests need: data sets on disk, a trained run, a quiet environment."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from selenium import webdriver

# before wandb or albumentations are imported anywhere
os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_SILENT"] = "true"
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
torch.set_num_threads(1)

import wandb  # noqa: E402  # after the environment is set

from agcam.data.shapes import ShapesDataset  # noqa: E402  # as above
from data_set_layouts import write_cub, write_voc  # noqa: E402  # as above


@pytest.fixture(scope="session")
def cub_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CUB tree of 24 training and 13 test images with segmentations."""
    root = tmp_path_factory.mktemp("cub") / "CUB_200_2011"
    write_cub({"train": ShapesDataset(24, 48, "train"), "test": ShapesDataset(13, 48, "test")}, root)
    return root


@pytest.fixture(scope="session")
def voc_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VOC tree of 16 training and 9 validation images with several classes each and masks."""
    root = tmp_path_factory.mktemp("voc") / "VOC2012"
    sources = {
        "train": ShapesDataset(16, 48, "train", multilabel=True),
        "val": ShapesDataset(9, 48, "val", multilabel=True),
    }
    write_voc(sources, root)
    return root


@pytest.fixture(autouse=True)
def _no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """LightningCLI looks at the command line even when it is given arguments."""
    monkeypatch.setattr("sys.argv", ["train.py"])


@pytest.fixture(autouse=True)
def _usual_algorithms() -> None:
    """Lightning's `deterministic: true` holds for the whole process: tests that follow would round otherwise."""
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module", autouse=True)
def _no_open_run() -> Iterator[None]:
    """A W&B run that a module leaves open would take in the runs of the next one."""
    yield
    if wandb.run is not None:
        wandb.finish()


@pytest.fixture(scope="session")
def driver() -> Iterator[webdriver.Chrome]:
    """A headless Chromium, one for all tests."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    binary = next(filter(None, map(shutil.which, names)), None)
    service = shutil.which("chromedriver")
    if binary is None or service is None:
        reason = f"no {'browser' if binary is None else 'chromedriver'} found; run .ci/browser to install one"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(service))
    yield driver
    driver.quit()
