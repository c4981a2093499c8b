"""The folder that `agcam export --format web` writes, opened as a file in a browser, against the command's own way."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from browsing import HOSTILE, Page, Visit
from PIL import Image, ImageCms

import agcam
from agcam.cli.train import main
from agcam.data.input_config import InputConfig
from agcam.data.photographs import Photograph, read_photographs
from agcam.errors import DataError
from agcam.io.onnxruntime_web import read_onnxruntime_web
from agcam.report.web import WebModel, render_page
from agcam.training.classifier import ViTClassifier
from serving import serving
from small_checkpoint import save, small_classifier


@dataclass(frozen=True)
class Exported:
    """A folder that the command wrote, and its model."""

    folder: Path
    model: ViTClassifier

    def page(self, name: str, **changed: object) -> Path:
        """Another page in the same folder, for a model that differs in what the graph does not see."""
        data = re.search(r'id="data">(.*?)</script>', (self.folder / "index.html").read_text(), re.DOTALL)
        assert data is not None
        config = self.model.input_config
        shown = WebModel(b"", "vit", list(self.model.class_names), False, config, (config.size, config.size))
        path = self.folder / f"{name}.html"
        path.write_text(render_page(replace(shown, **changed), json.loads(data[1])["files"]))
        return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    try:
        read_onnxruntime_web()
    except DataError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("web")
    checkpoint = save(small_classifier(), folder / "last.ckpt")
    command = ["export", "--ckpt_path", str(checkpoint), "--output", str(folder / "page"), "--format", "web"]
    assert main(command) == 0
    return Exported(folder / "page", ViTClassifier.from_checkpoint(checkpoint))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Photographs of all shapes; one with a profile of other colors, which must not matter, one turned by EXIF."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)

    def picture(width: int, height: int) -> Image.Image:
        colors = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        return Image.fromarray(colors).resize((width, height), Image.Resampling.BICUBIC)

    turned = Image.Exif()
    turned[0x0112] = 6
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"?").replace(b"bXYZ", b"rXYZ").replace(b"?", b"bXYZ")
    picture(300, 200).save(folder / "turned.jpg", exif=turned, quality=90)
    picture(301, 199).save(folder / "profile.jpg", icc_profile=swapped, quality=80)
    picture(128, 128).save(folder / "half.png")
    picture(50, 40).save(folder / "small.png")
    picture(150, 40).save(folder / "mixed.png")
    picture(90, 120).convert("L").save(folder / "grey.jpg")
    picture(90, 120).quantize(16).save(folder / "palette.png")
    picture(90, 120).save(folder / "web.webp", lossless=True)
    return sorted(folder.iterdir())


def opened(visit: Visit, page: Path, **how: object) -> Page:
    found: Page = visit(page, **how)
    found.until(lambda: found.js("return document.documentElement.dataset.model") == "ready")
    return found


def give(page: Page, *files: Path) -> None:
    chooser = page.driver.find_element("id", "choose")
    chooser.send_keys("\n".join(map(str, files)))
    settled = "return document.querySelectorAll('.result .verdict, .result .problem').length"
    page.until(lambda: page.js(settled) == len(page.all(".result")) > 0)


@pytest.mark.parametrize(("resize", "interpolation"), [("squash", "bilinear"), ("center_crop", "bicubic")])
@torch.no_grad()
def test_a_page_finds_what_the_command_finds(
    resize: str, interpolation: str, exported: Exported, photographs: list[Path], visit: Visit
) -> None:
    config = InputConfig.from_dict(
        exported.model.input_config.to_dict() | {"resize": resize, "interpolation": interpolation}
    )
    page = opened(visit, exported.page(f"{resize}-{interpolation}", input=config))
    give(page, *photographs)
    (group,) = read_photographs(photographs, config, len(photographs))
    for number, photograph in enumerate(group):
        assert isinstance(photograph, Photograph)
        found = page.js(
            "const f = document.querySelectorAll('.result')[arguments[0]].found;"
            "return {p: [...f.probabilities], maps: [...f.heatmaps], targets: f.targets, h: f.h, w: f.w}",
            number,
        )
        images = photograph.image[None]
        probabilities = exported.model(images).softmax(1)[0]
        assert np.abs(np.array(found["p"]) - probabilities.numpy()).max() <= 0.002, photograph.path.name
        assert found["targets"] == probabilities.topk(3).indices.tolist()
        expected = agcam.explain(exported.model, images, torch.tensor([found["targets"]])).heatmaps[0].numpy()
        maps = np.array(found["maps"]).reshape(3, found["h"], found["w"])
        difference = np.abs(maps - expected).max() / expected.max()
        shrunk = resize == "squash" and min(photograph.size) >= config.size
        assert difference <= (1e-5 if shrunk else 0.02), (
            photograph.path.name
        )  # enlarged: some pixels differ by 1 of 255


def test_a_chosen_class_and_the_slider_change_the_picture(
    exported: Exported, photographs: list[Path], visit: Visit
) -> None:
    page = opened(visit, exported.folder / "index.html")
    give(page, photographs[0])
    assert re.fullmatch(r"beetle \d, \d+ %", page.text(".verdict"))
    assert page.changes(lambda: page.all(".class input")[2].click(), ".result canvas")
    assert page.changes(lambda: page.choose("#opacity", 0.2), ".result canvas")
    assert page.text("#opacity-value") == "20 %"
    page.one(".remove").click()
    assert not page.all(".result")
    assert not page.all("#tools")


def test_a_photograph_is_dropped_anywhere(exported: Exported, photographs: list[Path], visit: Visit) -> None:
    page = opened(visit, exported.folder / "index.html")
    page.js(
        "const data = new DataTransfer();"
        "data.items.add(new File([Uint8Array.from(arguments[0])], 'dropped.png', {type: 'image/png'}));"
        "const drop = (kind) => document.body.dispatchEvent("
        "new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true}));"
        "drop('dragenter'); drop('dragover'); return drop('drop')",
        list(photographs[1].read_bytes()),
    )
    page.until(lambda: page.all(".verdict"))
    assert page.text(".result h3") == "dropped.png"
    assert not page.js("return document.querySelector('#drop').classList.contains('over')")


def test_what_is_no_photograph_is_refused_in_words(
    exported: Exported, photographs: list[Path], tmp_path: Path, visit: Visit
) -> None:
    large = tmp_path / "large.png"
    Image.new("1", (10_100, 10_000)).save(large)
    (tmp_path / "words.jpg").write_text("no picture")
    (tmp_path / "empty.png").touch()
    Image.new("RGB", (8, 8)).save(tmp_path / "scan.tif")
    (tmp_path / "cut.jpg").write_bytes(photographs[0].read_bytes()[:300])
    refused = {
        large: "This picture has 101 megapixels, the limit is 100",
        tmp_path / "words.jpg": "not a picture that this browser can read",
        tmp_path / "empty.png": "This file is empty",
        tmp_path / "scan.tif": "Please save it as JPEG or PNG",
        tmp_path / "cut.jpg": "or it is damaged",
    }
    page = opened(visit, exported.folder / "index.html")
    give(page, *refused, photographs[1])
    cards = page.all(".result")
    for card, said in zip(cards, refused.values(), strict=False):
        assert said in card.find_element("class name", "problem").text
    assert cards[-1].find_element("class name", "verdict").text  # and the next one is explained all the same


def test_a_folder_with_a_part_missing_says_which(exported: Exported, tmp_path: Path, visit: Visit) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(exported.folder, folder)
    (part,) = folder.glob("data/model-*.js")
    part.unlink()
    page = visit(folder / "index.html")
    page.until(lambda: page.all("#broken"))
    assert f"The file data/{part.name} is missing" in page.text("#broken")
    assert all("ERR_FILE_NOT_FOUND" in line for line in page.errors())


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """The address of a server, and what it was asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

    with serving(Handler) as address:
        yield address, asked


def test_nothing_can_leave_the_machine(
    exported: Exported, photographs: list[Path], visit: Visit, listener: tuple[str, list[str]]
) -> None:
    address, asked = listener
    page = opened(visit, exported.folder / "index.html")
    give(page, photographs[0])
    blocked = page.js(
        "const at = arguments[0]; const made = (tag, name) => new Promise((blocked) => {"
        "  const e = document.createElement(tag); e.onerror = () => blocked(true); e.onload = () => blocked(false);"
        "  e[name] = `${at}/${tag}`; document.head.append(e); });"
        "return Promise.all([fetch(`${at}/fetch`).then(() => false, () => true), made('img', 'src'),"
        "  made('script', 'src'), Promise.resolve(!navigator.sendBeacon(`${at}/beacon`) || 'queued')])",
        address,
    )
    assert blocked[:3] == [True, True, True]
    assert asked == []
    assert all("Content Security Policy" in line for line in page.errors())


def test_hostile_names_of_several_classes_are_only_text(
    exported: Exported, photographs: list[Path], visit: Visit
) -> None:
    page = opened(visit, exported.page("hostile", class_names=list(HOSTILE[:5]), multilabel=True), width=390)
    give(page, photographs[0])
    names = [element.get_property("textContent") for element in page.all(".class-name")]
    assert len(names) == 3
    assert set(names) <= set(HOSTILE)
    assert page.js("return document.documentElement.scrollWidth") <= 390
    found = page.js("const f = document.querySelector('.result').found; return [[...f.logits], [...f.probabilities]]")
    assert np.allclose(found[1], 1 / (1 + np.exp(-np.array(found[0]))))
    assert "other classes" not in page.text(".result")
    assert "a probability of its own" in page.text(".reading")
