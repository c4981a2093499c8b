"""A data set whose folders and files have hostile names, trained on and looked at."""

from pathlib import Path

import numpy as np
import pytest
from browsing import Visit
from PIL import Image

from agcam.cli.train import main
from command_lines import SMALL, TINY_MODEL
from reading import page_data

CLASSES = ("<script>alert(1)<", "\"'><svg onload=alert(3)>", "שלום \u202eעולם", "x" * 250)
FILES = ('it\'s "quoted".png', "<img src=x onerror=alert(2)>.png", "עולם.png")


@pytest.mark.filterwarnings("ignore:no boxes in the explained batches")  # folders know none
def test_a_run_on_hostile_names_ends_with_an_inert_report(tmp_path: Path, visit: Visit) -> None:
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in CLASSES:
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for file in FILES:
                pixels = rng.integers(0, 255, (32, 32, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / part / name / file)
    logger = f"{{class_path: CSVLogger, init_args: {{save_dir: {tmp_path / 'runs'}, name: ''}}}}"
    data = [
        "--data=ImageFolderDataModule",
        f"--data.root={tmp_path / 'data'}",
        "--data.batch_size=4",
        "--data.num_workers=0",
    ]
    options = [f"--trainer.logger={logger}", "--trainer.max_epochs=1", "--explanation.gallery=12"]
    assert main(["fit", *SMALL, *TINY_MODEL, *data, *options]) == 0
    report = tmp_path / "runs" / "version_0" / "report.html"
    shown = page_data(report)["images"]
    assert {image["truth"][0] for image in shown} == set(CLASSES)
    page = visit(report)
    page.drawing()
    assert page.js("return document.querySelectorAll('script').length") == 2
    assert page.js("return document.querySelectorAll('main img, main svg[onload]').length") == 0
    captions = page.js("return [...document.querySelectorAll('.card')].map((card) => card.image.name)")
    assert {name.rpartition("/")[2] for name in captions} == set(FILES)
