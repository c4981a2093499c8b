"""What the documentation shows runs: the code of every page, the commands of `extend.md`, docstrings' examples."""

from __future__ import annotations

import doctest
import importlib
import os
import pkgutil
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib as mpl
import pytest
import timm
import torch
from lightning.pytorch.loggers import CSVLogger
from PIL import Image

import agcam
from agcam.cli.explain import main
from agcam.data.shapes import ShapesDataset
from agcam.explainers import family_registry as families
from agcam.explainers import registry as methods
from agcam.metrics import registry as metrics
from agcam.tracking import registry as trackers
from benchmark.small_benchmarks import write_checkpoint

ROOT = Path(__file__).parents[1]
PAGES = {path.name: path for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
NOT_RUN = {
    ("clusters.md", "bash"): "needs SLURM",
    ("clusters.md", "yaml"): "needs Kubernetes or SkyPilot",
    ("extend.md", "toml"): "part of a package's pyproject.toml; tests/test_plugin.py builds and installs one like it",
}
"""By page and language: blocks of code that are not run, and why."""
RECIPE = """\
trainer: {accelerator: cpu, max_epochs: 1, enable_progress_bar: false, enable_model_summary: false}
model:
  backbone: vit_tiny_patch16_224
  image_size: 32
  backbone_args: {patch_size: 8, embed_dim: 32, depth: 2, num_heads: 2}
  layer_decay: 1.0
data:
  class_path: Shapes
  init_args: {train_size: 64, val_size: 8}
"""


@dataclass(frozen=True)
class Block:
    """A fenced block of code."""

    page: str
    language: str
    title: str
    code: str


def blocks_of(page: str) -> list[Block]:
    found = re.findall(r"^```(\w*)([^\n]*)\n(.*?)^```$", PAGES[page].read_text(), re.MULTILINE | re.DOTALL)
    titles = [re.search(r'title="([^"]+)"', rest) for _, rest, _ in found]
    return [
        Block(page, language, "" if title is None else title[1], code)
        for (language, _, code), title in zip(found, titles, strict=True)
    ]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
WITH_PYTHON = sorted({block.page for block in BLOCKS if block.language == "python"})
COMMANDS = re.findall(r"^    (agcam (?:.*\\\n)*.*)$", PAGES["extend.md"].read_text(), re.MULTILINE)


def write_photographs(folder: Path) -> None:
    """Photographs with boxes.csv, as `my_data.py` reads it."""
    source, folder = ShapesDataset(20, 48, "train"), folder / "PHOTOS"
    folder.mkdir()
    lines = ["file,split,class,xmin,ymin,xmax,ymax"]
    for number in range(len(source)):
        example = source[number]
        Image.fromarray(example.image).save(folder / f"{number}.png")
        for box, label in zip(example.boxes, example.box_labels, strict=True):
            edges = ",".join(str(float(edge)) for edge in box)
            lines.append(f"{number}.png,{'train' if number < 14 else 'val'},{source.class_names[label]},{edges}")
    (folder / "boxes.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the pages' commands and code run: their own files, and what they say must be there."""
    folder = tmp_path_factory.mktemp("pages")
    write_checkpoint(folder / "model.ckpt")
    (folder / "recipe.yaml").write_text(RECIPE)
    write_photographs(folder)
    places = ["--checkpoint", "model.ckpt", "--input", "PHOTOS", "--output", "explained"]  # of explain.md
    places = [place if place.startswith("--") else str(folder / place) for place in places]
    assert main(["images", *places, "--format", "parquet", "--quiet"]) == 0
    for block in BLOCKS:
        if block.title:
            (folder / block.title).write_text(block.code)
    return folder


def command(folder: Path, line: str) -> str:
    """Run a line of a page that starts with `agcam`."""
    _, *words = shlex.split(line.replace("\\\n", " "))
    path = os.pathsep.join([".", str(ROOT / "src")])
    done = subprocess.run(
        [sys.executable, "-m", "agcam", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def benchmark(folder: Path) -> Path:
    """A benchmark in DIR, which pages read."""
    small = "--data Shapes --data.val_size 4 --metrics abpc --methods agcam"
    command(folder, f"agcam benchmark --checkpoint model.ckpt {small} --save-heatmaps --output DIR")
    return folder


@pytest.fixture
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget afterwards what is registered, and the modules that pages bring."""
    agcam.methods()
    agcam.families()
    metrics.registered()
    monkeypatch.setattr(families, "_REGISTERED", dict(families._REGISTERED))
    monkeypatch.setattr(methods, "_REGISTERED", dict(methods._REGISTERED))
    monkeypatch.setattr(metrics, "_REGISTERED", dict(metrics._REGISTERED))
    monkeypatch.setattr(trackers, "_TRACKERS", list(trackers._TRACKERS))
    mpl.use("agg")
    titles = {block.title.removesuffix(".py") for block in BLOCKS if block.title}
    yield
    for name in titles & sys.modules.keys():
        del sys.modules[name]


def test_every_block_of_code_is_run_or_said_not_to_be() -> None:
    others = {(block.page, block.language) for block in BLOCKS if block.language != "python"}
    assert others == NOT_RUN.keys()
    assert {"README.md", "benchmark.md", "explain.md", "extend.md", "report.md"} <= set(WITH_PYTHON)


@pytest.mark.usefixtures("as_before")
@pytest.mark.parametrize("page", WITH_PYTHON)
def test_the_code_of_a_page_runs(page: str, benchmark: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(benchmark)
    monkeypatch.syspath_prepend(str(benchmark))
    namespace: dict[str, Any] = {}
    for number, block in enumerate(blocks_of(page)):
        # tests/test_users_module.py runs what needs loaders and a logger
        if block.language == "python" and not block.title and "train_loader" not in block.code:
            exec(compile(block.code, f"{page}, block {number}", "exec"), namespace)
    assert namespace


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_extend_page_runs(line: str, folder: Path) -> None:
    command(folder, line)


def test_the_commands_of_the_extend_page_leave_what_it_says(folder: Path) -> None:
    files = [block.title for block in BLOCKS if block.page == "extend.md" and block.title]
    assert files == ["my_method.py", "my_metric.py", "my_data.py", "my_tracker.py", "my_model.py"]
    for name in files:
        assert sum(re.search(rf"\b{name.removesuffix('.py')}[:.]", line) is not None for line in COMMANDS) == 1, name
    by_method, by_metric, diary = folder / "by_method", folder / "by_metric", folder / "diary"
    for done, output in ((COMMANDS[0], by_method), (COMMANDS[1], by_metric), (COMMANDS[3], diary)):
        if not output.exists():  # where this test runs alone
            command(folder, done)
    assert "my_method:value_norm:order=1" in (by_method / "results.md").read_text().replace("\\", "")
    assert "How far its values lie apart." in (by_metric / "report.html").read_text()
    assert "## Other" in (by_metric / "results.md").read_text()
    assert '"val/accuracy"' in (diary / "metrics.jsonl").read_text()
    assert len(list(diary.glob("*.jpg"))) > 0


class AnyOutput(doctest.OutputChecker):
    """Compares what an example prints where its docstring shows it; all else must run."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return not want or super().check_output(want, got, optionflags)


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(agcam.__path__, "agcam."):
        if found.name != "agcam.__main__":
            yield importlib.import_module(found.name)


def examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = {test.name: test for module in modules() for test in finder.find(module) if test.examples}
    return list(found.values())


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the examples of docstrings take for granted: a model, a batch with boxes and masks, its explanation."""
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", embed_dim=48, depth=2, num_heads=2, num_classes=10).eval()
    images = torch.rand(4, 3, 224, 224)
    labels = torch.tensor([0, 1, 2, 3])
    explanation = agcam.explain(model, images, labels)
    mask_ids = torch.zeros(4, 224, 224, dtype=torch.int64)
    mask_ids[:, 50:150, 60:160], mask_ids[:, :10] = 1, 255
    right = torch.ones(4, dtype=torch.bool)
    return {
        "CSVLogger": CSVLogger,
        "Image": Image,
        "agcam": agcam,
        "metric_specs": metrics.metric_specs,
        "timm": timm,
        "torch": torch,
        "model": model,
        "images": images,
        "labels": labels,
        "targets": labels,
        "correct": right,
        "alone": right,
        "multi_hot": torch.nn.functional.one_hot(labels, 10),
        "logits": explanation.logits,
        "losses": torch.rand(4),
        "explanation": explanation,
        "heatmaps": explanation.heatmaps[:, 0],
        "boxes": [torch.tensor([[60.0, 50.0, 160.0, 150.0]])] * 4,
        "mask_ids": mask_ids,
        "masks": mask_ids == 1,
        "paths": ["a.png", "b.png"],
    }


@pytest.mark.usefixtures("as_before")
@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_the_example_of_a_docstring_runs(
    example: doctest.DocTest, names: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in names["paths"]:
        Image.new("RGB", (30, 20)).save(path)
    example.globs = {**example.globs, **names}
    told: list[str] = []
    runner = doctest.DocTestRunner(AnyOutput(), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    outcome = runner.run(example, out=told.append)
    assert outcome.attempted > 0
    assert outcome.failed == 0, "".join(told)


def test_all_examples_are_found() -> None:
    there = sum(text.count(">>> ") for text in (path.read_text() for path in (ROOT / "src").rglob("*.py")))
    assert sum(len(example.examples) for example in examples()) == there


def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    site = tmp_path / "site"
    built = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)]
    done = subprocess.run(built, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path.relative_to(site).as_posix(): path.read_text("utf-8") for path in site.rglob("*.html")}
    assert {name.removesuffix(".md") for name in PAGES} - {"README"} <= {name.removesuffix(".html") for name in pages}
    for name, text in pages.items():
        loaded = re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?([^\"'> ]+)", text)
        linked = [tag for tag in re.findall(r"<link\b[^>]*>", text) if re.search(r"\bhref=[\"']?(?:https?:)?//", tag)]
        assert [source for source in loaded if re.match(r"(https?:)?//", source)] == [], name
        assert linked == [], name
        assert 'class="mermaid"' not in text, name  # whose script the theme would fetch
    styles = [path.read_text("utf-8") for path in site.rglob("*.css")]
    assert styles
    assert not any(re.search(r"(url\(|@import\s+)[\"']?(https?:)?//", style) for style in styles)
