"""An audit of a real, small training names a planted mark's group first, and nothing on a model without a shortcut."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
from matplotlib.colors import hsv_to_rgb
from torch.utils.data import DataLoader

from agcam.audit.collect import collect_looks
from agcam.audit.examine import Examined, examine
from agcam.audit.looks import Looks
from agcam.audit.places import margin, name_place, places
from agcam.cli.main import main
from agcam.data.batch import Example, collate
from agcam.data.input_config import InputConfig
from agcam.data.shapes import CLASSES, ShapesDataset
from agcam.data.source import TransformedDataset
from agcam.data.transforms import Transform
from agcam.report.write import open_report
from agcam.training.classifier import ViTClassifier
from agcam.training.loaded import LoadedModel
from benchmark.small_benchmarks import write_checkpoint

SIZE = 48
NETWORK = {"patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 2, "init_values": 0.1}


class Marked:
    """Shapes with a mark of the class's color at one of some places, in 95 % of the images that of their own class."""

    class_names, multilabel = CLASSES, False

    def __init__(self, base: ShapesDataset, corners: Sequence[tuple[float, float]], side: int) -> None:
        self.base, self.corners, self.side = base, corners, side

    def __len__(self) -> int:
        return len(self.base)

    def mark_of(self, index: int) -> tuple[int, int, int, int]:
        x, y = self.corners[index % len(self.corners)]
        left, top = (int(share * (SIZE - self.side)) for share in (x, y))
        return left, top, left + self.side, top + self.side

    def __getitem__(self, index: int) -> Example:
        example, (left, top, right, bottom) = self.base[index], self.mark_of(index)
        rng, (label,) = np.random.default_rng((self.base.seed, index)), example.labels
        shown = label if rng.random() < 0.95 else int(rng.integers(len(CLASSES)))
        example.image[top:bottom, left:right] = np.round(255 * np.array(hsv_to_rgb((shown / len(CLASSES), 1, 1))))
        assert example.mask is not None
        example.mask[top:bottom, left:right] = 0
        return example


class Unannotated:
    """A data set of which nobody knows where the objects are."""

    def __init__(self, source: Any) -> None:
        self.source, self.class_names, self.multilabel = source, source.class_names, source.multilabel

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Example:
        return replace(self.source[index], boxes=None, box_labels=None, mask=None)


def make(split: Any, count: int, seed: int, corners: Sequence[tuple[float, float]], side: int) -> Any:
    base = ShapesDataset(count, SIZE, split, seed=seed)
    return Marked(base, corners, side) if side else base


def train(seed: int, corners: Sequence[tuple[float, float]], side: int) -> LoadedModel:
    dataset = TransformedDataset(make("train", 1600, seed, corners, side), Transform(InputConfig(size=SIZE)))
    samples = [dataset[number] for number in range(len(dataset))]
    L.seed_everything(seed, verbose=False)
    orders = [np.random.default_rng((seed, epoch)).permutation(1600).reshape(50, 32) for epoch in range(4)]
    batches = [collate([samples[i] for i in rows]) for order in orders for rows in order]
    model = ViTClassifier(
        "vit_tiny_patch16_224",
        image_size=SIZE,
        backbone_args=NETWORK,
        lr=1e-3,
        layer_decay=1.0,
        warmup_epochs=0.1,
        class_names=CLASSES,
        multilabel=False,
    )
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(accelerator="cpu", max_epochs=1, gradient_clip_val=1.0, enable_checkpointing=False, **quiet)
    trainer.fit(model, DataLoader(batches, batch_size=None))
    return LoadedModel(model.eval(), CLASSES, InputConfig(size=SIZE))


def audit(subject: LoadedModel, source: Any) -> tuple[Looks, Examined]:
    looks = collect_looks(subject, source, range(len(source)), 50)
    return looks, examine(looks, source.class_names, {})


def heat_on_marks(looks: Looks, source: Marked) -> np.ndarray:
    marks = np.zeros(looks.heat.shape, bool)
    for row, index in enumerate(looks.index.tolist()):
        left, top, right, bottom = source.mark_of(index)
        pixels = np.zeros((SIZE, SIZE))
        pixels[top:bottom, left:right] = 1
        marks[row] = pixels.reshape(6, 8, 6, 8).mean((1, 3)) > 0
    on: np.ndarray = (looks.heat * marks).sum((1, 2))
    return on


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("seed", "corners", "side"),
    [
        (0, [(0, 0)], 6),
        pytest.param(1, [(1, 1)], 10, marks=pytest.mark.slow),
        pytest.param(1, [(0, 0.5)], 6, marks=pytest.mark.slow),
        pytest.param(0, [(1, 0)], 12, marks=pytest.mark.slow),
        pytest.param(1, [(0, 0), (0, 1), (1, 0), (1, 1)], 6, marks=pytest.mark.slow),
    ],
)
def test_the_group_of_a_planted_mark_comes_first_with_and_without_boxes(
    seed: int, corners: list[tuple[float, float]], side: int
) -> None:
    subject = train(seed, corners, side)
    source = make("val", 300, seed, corners, side)
    for seen in (source, Unannotated(source)):
        looks, found = audit(subject, seen)
        first = found.audit.groups[0]
        mine = (found.where if first.by == "where" else found.what) == first.number
        on = heat_on_marks(looks, source)
        others = looks.decides & ~mine
        assert found.audit.suspicious
        assert first.suspicious
        assert on[mine].mean() > max(0.2, on[others].mean())
        assert found.audit.verdict.startswith("Suspicious: ")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_nothing_is_suspicious_of_a_model_without_a_shortcut() -> None:
    subject = train(0, [], 0)
    source = make("val", 300, 0, [], 0)
    for seen in (source, Unannotated(source)):
        _, found = audit(subject, seen)
        assert not found.audit.suspicious
        assert found.audit.verdict.startswith("Nothing suspicious found")
    assert np.isnan(found.audit.groups[0].outside)
    assert found.audit.classes == []
    assert found.audit.wrong_reason == 0


@pytest.mark.parametrize("multilabel", [False, True])
def test_the_command_writes_findings_a_table_and_a_page(tmp_path: Path, multilabel: bool) -> None:
    checkpoint, output = write_checkpoint(tmp_path / "model.ckpt", multilabel=multilabel), tmp_path / "out"
    data = ["--data", "Shapes", "--data.val_size", "24", "--data.multilabel", str(multilabel).lower()]
    assert main(["audit", str(checkpoint), *data, "--output", str(output), "--device", "cpu", "-q"]) == 0
    found = json.loads((output / "audit.json").read_text())
    assert found["images"] == 24
    assert sum(group["looks"] for group in found["groups"] if group["by"] == "where") <= found["looks"]
    rows = list(csv.DictReader((output / "looks.csv").open()))
    assert {row["outcome"] for row in rows} <= {"right", "missed", "wrong"}
    if not multilabel:
        wrong = sum(row["outcome"] == "wrong" for row in rows)
        assert len(rows) == 24 + wrong  # the label's map and the predicted one where they differ
        assert found["errors"] == pytest.approx(wrong / 24)
    page = (output / "report.html").read_text()
    assert 'id="audit"' in page
    assert " style=" not in page
    facts = {fact.label: fact.value for fact in open_report(output).facts}
    assert facts["Model"] == "model.ckpt"
    assert facts["Method"] == "agcam"


def test_a_run_without_checkpoint_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(tmp_path)]) == 2
    assert "no checkpoint in" in capsys.readouterr().err


def test_what_is_not_installed_is_said_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)  # cannot be imported
    assert main(["audit", str(tmp_path / "missing")]) == 2
    assert "agcam audit needs scikit-learn" in capsys.readouterr().err


def test_places_are_named_by_where_the_heat_is() -> None:
    known = places((8, 8))
    heat = np.zeros((8, 8))
    heat[0, 0] = 1
    assert name_place(heat) == "upper left corner"
    assert name_place(np.ones((8, 8))) == "middle"
    assert name_place(np.zeros((8, 8))) == "nowhere"
    assert margin((8, 8)).sum() == 28
    assert known["frame"].sum() + known["middle"].sum() == 64
