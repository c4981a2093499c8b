"""`agcam demo`: the served page in a browser, against `agcam.explain` and `agcam images`."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By

import agcam
from agcam.cli.demo_page import Demo
from agcam.cli.explain import main
from agcam.cli.explained_files import Drawing
from agcam.errors import DataError, InputError
from agcam.training.loaded import load_trained
from small_checkpoint import save, small_classifier

STYLE = ["--top", "4", "--colormap", "viridis", "--alpha", "0.5"]
WATCHED = """
import sys
def watch(event, args):
    if event in ("socket.connect", "socket.getaddrinfo"):
        host = args[1][0] if event == "socket.connect" and isinstance(args[1], tuple) else args[0]
        if isinstance(host, str) and host not in ("127.0.0.1", "::1", "localhost"):
            print(f"FOREIGN {event} {host}", file=sys.stderr, flush=True)
sys.addaudithook(watch)
from agcam.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
"""The command, which says whom it asks on the network."""
PATIENCE = 120.0
"""Seconds for what takes one or two on a machine of its own."""


def until(happens: Callable[[], Any]) -> Any:
    """Wait for it; what the page replaces meanwhile is looked for again."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            if found := happens():
                return found
        except StaleElementReferenceException:
            pass
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = small_classifier(classes=6)
    model.hparams["class_names"] = [f"<i>beetle & {i}</i>" for i in range(6)]
    return save(model, tmp_path_factory.mktemp("checkpoint") / "model.ckpt")


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photograph") / "heron.png"
    colors = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(colors).resize((301, 200), Image.Resampling.BICUBIC).save(path)
    return path


@dataclass
class Served:
    """A running `agcam demo`."""

    process: subprocess.Popen[str]
    address: str
    temporary: Path
    """Where it keeps temporary files."""
    said: Path


@pytest.fixture(scope="module")
def served(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    temporary = tmp_path_factory.mktemp("temporary")
    said = tmp_path_factory.mktemp("said") / "stderr"
    command = [sys.executable, "-c", WATCHED, "demo", str(checkpoint), "--port", "0", "--device", "cpu", *STYLE]
    environment = os.environ | {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    with said.open("w") as errors, subprocess.Popen(command, stderr=errors, env=environment, text=True) as process:
        try:
            found = until(lambda: process.poll() is not None or re.search(r"http://\S+", said.read_text()))
            assert found is not True, said.read_text()
            yield Served(process, found[0], temporary, said)
        finally:
            process.kill()


class DemoPage:
    """The page in the browser."""

    def __init__(self, driver: webdriver.Chrome, address: str) -> None:
        self.driver = driver
        driver.get_log("browser")
        driver.get(address)

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def give(self, photograph: Path) -> None:
        until(lambda: self.all("#photograph input[type=file]"))[0].send_keys(str(photograph))

    def overlay(self) -> bytes:
        """The picture that is shown, as it came."""
        (picture,) = until(lambda: self.all("#where img"))
        return base64.b64decode(str(picture.get_attribute("src")).partition(",")[2])

    def classes(self) -> dict[str, float]:
        """Probabilities by class, in the order of the page."""
        texts = [str(label.get_property("textContent")).strip() for label in until(lambda: self.all("#classes label"))]
        rows = [text.removesuffix(" %").rpartition(" · ") for text in texts]
        return {name: float(percent) / 100 for name, _, percent in rows}

    def text(self) -> str:
        return str(until(lambda: self.all("#where"))[0].text)


def by_command(checkpoint: Path, photograph: Path, output: Path, method: str) -> dict[str, bytes]:
    """The overlays of `agcam images`, by class."""
    given = ["--checkpoint", checkpoint, "--input", photograph, "--output", output, "--method", method]
    assert main(["images", *map(str, given), "--device", "cpu", "-q", *STYLE]) == 0
    (entry,) = json.loads((output / "predictions.json").read_text())["images"]
    return {found["class"]: (output / found["overlay"]).read_bytes() for found in entry["classes"]}


@torch.no_grad()
def test_the_page_shows_what_explain_and_images_find_and_asks_nobody_else(
    served: Served, checkpoint: Path, photograph: Path, tmp_path: Path, driver: webdriver.Chrome
) -> None:
    page = DemoPage(driver, served.address)
    page.give(photograph)
    expected = by_command(checkpoint, photograph, tmp_path / "agcam", "agcam")
    assert page.overlay() == expected[next(iter(expected))]
    subject = load_trained(checkpoint)
    explanation = agcam.explain(subject.model, agcam.preprocess(subject)(photograph)[None])
    shares = explanation.logits.softmax(1)[0]
    most = shares.topk(4).indices.tolist()
    assert list(page.classes().items()) == [
        (subject.class_names[index], pytest.approx(float(shares[index]), abs=1e-4)) for index in most
    ]
    assert list(expected) == list(page.classes())

    name = list(expected)[2]
    page.all("#classes label")[2].click()
    until(lambda: page.overlay() == expected[name])
    assert f"Where the model looks for {name} in heron.png. agcam: " in page.text()

    page.all("#method input")[0].click()
    next(one for one in until(lambda: page.all("[role=option]")) if one.text.endswith("rollout")).click()
    until(lambda: page.overlay() == by_command(checkpoint, photograph, tmp_path / "rollout", "rollout")[name])
    assert [list(page.classes()), page.text().count("rollout: ")] == [list(expected), 1]

    assert [path for path in served.temporary.rglob("*") if path.is_file()] == []
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{served.address}/gradio_api/file={checkpoint}")
    with urllib.request.urlopen(served.address) as answer:
        assert "connect-src 'self'" in answer.headers["content-security-policy"]  # all else is an error of the page
        assert str(checkpoint.parent) not in answer.read().decode()
    assert [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []
    loaded = driver.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert len(loaded) > 10
    assert [one for one in loaded if not one.startswith((served.address, "data:", "blob:"))] == []


def test_what_cannot_be_explained_is_said_on_the_page(
    served: Served, photograph: Path, tmp_path: Path, driver: webdriver.Chrome
) -> None:
    (tmp_path / "cut.png").write_bytes(photograph.read_bytes()[:300])
    page = DemoPage(driver, served.address)
    page.give(tmp_path / "cut.png")
    (problem,) = until(lambda: page.all("#where .problem"))
    assert re.match(r"cut\.png: not a readable image, .* expected a whole JPEG or PNG$", problem.text)
    assert page.all("#where img") == []
    page.give(photograph)  # the next one is explained all the same
    page.overlay()
    assert page.all("#where .problem") == []
    assert "Traceback" not in served.said.read_text()


def by_program(served: Served, path: str) -> str:
    """What the page's endpoint answers a program that names a file in place of an upload."""
    address = f"{served.address}/gradio_api/call/explain"
    data = {"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}, "agcam"]}
    request = urllib.request.Request(address, json.dumps(data).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{address}/{event}") as answer:
        return str(answer.read().decode())


def test_neither_files_of_the_machine_nor_addresses_are_read_for_a_program(served: Served, checkpoint: Path) -> None:
    assert "model.ckpt: not among the uploads" in by_program(served, str(checkpoint))
    assert checkpoint.exists()
    assert "a.png: not among the uploads" in by_program(served, "http://example.invalid/a.png")
    assert "FOREIGN" not in served.said.read_text()


def test_ctrl_c_ends_it_and_nothing_is_left(served: Served) -> None:
    served.process.send_signal(signal.SIGINT)
    assert served.process.wait(PATIENCE) == 130
    assert "FOREIGN" not in served.said.read_text()
    assert list(served.temporary.glob("agcam-demo-*")) == []


@pytest.fixture
def demo(checkpoint: Path, tmp_path: Path) -> Demo:
    (tmp_path / "uploads").mkdir()
    return Demo(load_trained(checkpoint), 3, Drawing(), tmp_path / "uploads")


def test_a_photograph_is_removed_once_it_is_read_and_nothing_else_ever(demo: Demo, photograph: Path) -> None:
    upload = demo.uploads / "hash" / "a.png"
    upload.parent.mkdir()
    upload.write_bytes(photograph.read_bytes())
    assert demo.take(upload).photograph.size == (301, 200)
    assert list(demo.uploads.iterdir()) == []
    with pytest.raises(DataError, match=r"a\.png: the upload is gone; drop it again"):
        demo.take(upload)
    for path in (photograph, demo.uploads / ".." / photograph.name):
        with pytest.raises(DataError, match=r"heron\.png: not among the uploads"):
            demo.take(path)
    assert photograph.exists()


def test_the_page_explains_by_registered_methods_alone(demo: Demo, photograph: Path) -> None:
    upload = demo.uploads / "a.png"
    upload.write_bytes(photograph.read_bytes())
    seen = demo.take(upload)
    assert demo.explain(seen, "agcam").found is not None
    with pytest.raises(InputError, match="unknown method 'os:system'; known are agcam"):
        demo.explain(seen, "os:system")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["missing.ckpt"], "missing.ckpt: no such checkpoint"),
        (["README.md", "--top", "0"], "--top must be at least 1, found 0"),
        (["README.md", "--alpha", "2"], "--alpha must be between 0 and 1, found 2.0"),
        (["README.md", "--port", "65536"], "--port must be between 0 and 65535, found 65536"),
        (["README.md", "--host", "999.0.0.1"], "--host 999.0.0.1 --port "),
    ],
)
def test_what_makes_no_sense_is_refused_before_gradio_is_loaded(
    given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    port = [] if "--port" in given else ["--port", "0"]
    assert main(["demo", *given, *port]) == 2
    assert capsys.readouterr().err.startswith(f"error: {said}")
    assert "gradio" not in sys.modules


def test_a_port_that_is_taken_is_named(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert main(["demo", str(checkpoint), "--port", port]) == 2
    assert f"--port {port}: " in (said := capsys.readouterr().err)
    assert "--port 0 takes a free one" in said


def test_without_gradio_the_extra_is_named(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)  # as if it were not installed
    assert main(["demo", str(checkpoint)]) == 2
    assert "agcam demo needs gradio, which is not installed: pip install 'agcam[demo]'" in capsys.readouterr().err
