"""One real, small run through the command line, and everything that it must leave behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import wandb
from PIL import Image
from scipy.stats import spearmanr

from agcam.cli.train import main
from agcam.io.explained_images import read_panel
from agcam.metrics.localization.localization import NAMES, score
from agcam.training.classifier import ViTClassifier
from command_lines import SMALL, TINY_MODEL
from reading import column, csv_rows, page_data, wandb_run

FIGURES = ["pixel_accuracy", "iou", "dice", "precision", "recall", "pointing_game", "entropy"]


@dataclass(frozen=True)
class Run:
    folder: Path
    save_dir: Path
    printed: str


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    save_dir = tmp_path_factory.mktemp("fit")
    config = save_dir / "config.yaml"
    config.write_text(
        f"""
seed_everything: 3
trainer:
  max_epochs: 2
  log_every_n_steps: 1
  logger:
    - class_path: CSVLogger
      init_args: {{save_dir: {save_dir}, name: ""}}
    - class_path: WandbLogger
      init_args: {{save_dir: {save_dir}, project: agcam, offline: true}}
  callbacks:
    - class_path: ModelCheckpoint
      init_args: {{monitor: val/loc/iou, mode: max, save_last: true}}
data:
  class_path: Shapes
  init_args: {{train_size: 64, val_size: 37, batch_size: 8, num_workers: 0}}
explanation:
  methods: [agcam, random, center]
  ground_truth: masks
  gallery: 4
"""
    )
    with pytest.MonkeyPatch.context() as patch, (save_dir / "printed").open("w") as printed:
        patch.setattr("sys.stdout", printed)
        assert main(["fit", "--config", str(config), *SMALL, *TINY_MODEL]) == 0
    wandb.finish()
    return Run(save_dir / "version_0", save_dir, (save_dir / "printed").read_text())


def test_every_epoch_has_classification_and_localization_figures(run: Run) -> None:
    rows = csv_rows(run.folder / "metrics.csv")
    for name in ["val/accuracy", "val/top5", "val/loss", *(f"val/loc/{f}" for f in FIGURES)]:
        values = column(rows, name)
        assert len(values) == 2, name
        assert all(np.isfinite(values)), name
    assert column(rows, "val/loc/count") == [37, 37]
    assert len(column(rows, "train/loss")) == 16


def test_controls_stand_beside_and_do_not_change_with_the_model(run: Run) -> None:
    rows = csv_rows(run.folder / "metrics.csv")
    for control in ("random", "center"):
        first, second = column(rows, f"val/loc_{control}/iou")
        assert first == second > 0
    assert column(rows, "val/loc/iou")[0] != column(rows, "val/loc/iou")[1]


def test_the_checkpoint_follows_the_localization_metric(run: Run) -> None:
    best = int(np.argmax(column(csv_rows(run.folder / "metrics.csv"), "val/loc/iou")))
    names = {p.name for p in (run.folder / "checkpoints").iterdir()}
    assert names == {f"epoch={best}-step={(best + 1) * 8}.ckpt", "last.ckpt"}


def test_the_checkpoint_alone_restores_the_classifier(run: Run) -> None:
    model = ViTClassifier.from_checkpoint(run.folder / "checkpoints" / "last.ckpt")
    assert model.class_names[:3] == ["circle", "square", "triangle"]
    assert model.input_config.size == 32
    assert not model.training
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 8)


def test_the_same_pictures_are_on_disk_after_each_epoch(run: Run) -> None:
    folder = run.folder / "explanations"
    first, second = folder / "val_epoch_001", folder / "val_epoch_002"
    assert sorted(p.name for p in folder.iterdir()) == ["images", first.name, second.name]
    names = [sorted(p.name for p in epoch.glob("0*.png")) for epoch in (first, second)]
    assert names[0] == names[1]
    assert len(names[0]) == 4
    with Image.open(first / names[0][0]) as picture:
        assert picture.size[0] in (224 * 2 + 2, 224 * 3 + 4)  # of a mistaken image two heatmaps
        assert picture.size[1] > 224  # with words and colors beneath
    with Image.open(second / "gallery.png") as sheet:
        assert sheet.size[0] >= 2 * (224 * 2 + 2 + 8) + 8
    assert not list(folder.rglob("*.part"))


def test_the_panel_of_each_epoch_holds_the_heatmaps_and_figures_of_every_method(run: Run) -> None:
    panels = [read_panel(run.folder / "explanations" / f"val_epoch_00{epoch}") for epoch in (1, 2)]
    assert [(info["stage"], info["epoch"], info["step"]) for _, info in panels] == [("val", 1, 8), ("val", 2, 16)]
    (before, _), (after, _) = panels
    assert [shown.index for shown in before] == [shown.index for shown in after] == [0, 9, 18, 27]
    for shown in after:
        assert shown.heatmaps.keys() == shown.figures.keys() == {"agcam", "random", "center"}
        assert all(m.shape == (4, 4) and m.dtype == np.float32 for m in shown.heatmaps.values())
        assert shown.mask is not None
        assert shown.image.shape == (32, 32, 3)
        maps = torch.from_numpy(np.stack([shown.heatmaps["agcam"]]))
        truth = torch.from_numpy(shown.mask)[None]
        overlap, _ = score(maps, None, truth, None, None, 0.5, "corrected")
        assert [shown.figures["agcam"][name] for name in NAMES] == pytest.approx(overlap[0].tolist())
    drifts = [[shown.figures["agcam"]["drift"] for shown in panel] for panel in (before, after)]
    assert np.isnan(drifts[0]).all()
    pairs = zip(before, after, strict=True)
    expected = [1 - spearmanr(*(p.heatmaps["agcam"].ravel() for p in pair)).statistic for pair in pairs]
    assert drifts[1] == pytest.approx(expected, abs=0.02)  # float16 makes a tie here and there


def test_wandb_holds_the_metrics_of_each_epoch(run: Run) -> None:
    history, _ = wandb_run(run.save_dir)
    rows = csv_rows(run.folder / "metrics.csv")
    for name in ["val/accuracy", *(f"val/loc/{f}" for f in FIGURES), "val/loc_center/iou"]:
        assert column(history, name) == pytest.approx(column(rows, name)), name
    steps = [row["trainer/global_step"] for row in history if "val/loc/iou" in row]
    assert steps == [7, 15]


def test_wandb_holds_images_with_captions_and_boxes(run: Run) -> None:
    history, _ = wandb_run(run.save_dir)
    panels = [row for row in history if "val/explanations.count" in row]
    assert [panel["val/explanations.count"] for panel in panels] == [4, 4]
    for panel in panels:
        for caption in panel["val/explanations.captions"]:
            for part in ("label: ", "prediction: ", "%", "IoU 0."):
                assert part in caption
        assert len(panel["val/explanations.all_boxes"]) == 4
    assert [panel["trainer/global_step"] for panel in panels] == [8, 16]
    (folder,) = run.save_dir.glob("wandb/offline-run-*/files/media/images/val")
    images = sorted(folder.glob("explanations_*.jpg"))
    assert len(images) == 8
    with Image.open(images[0]) as picture:
        assert picture.size in ((224, 224), (450, 224))  # of a mistaken image two heatmaps


def test_wandb_holds_the_full_configuration(run: Run) -> None:
    _, config = wandb_run(run.save_dir)
    assert config["seed_everything"] == 3
    assert config["model"]["backbone"] == "vit_tiny_patch16_224"
    assert config["data"]["init_args"]["val_size"] == 37
    assert config["explanation"]["methods"] == ["agcam", "random", "center"]


def test_the_end_says_how_it_went_and_where_things_are(run: Run) -> None:
    assert "Where the model looks" in run.printed
    for word in (
        "agcam",
        "random (control)",
        "center (control)",
        "metrics.csv",
        "explanations",
        "report.html",
        "offline-run",
        ".ckpt",
    ):
        assert word in " ".join(run.printed.split()), word
    assert "agcam images --checkpoint" in run.printed


def test_a_run_ends_with_its_report(run: Run) -> None:
    (report,) = run.save_dir.glob("version_0/*.html")
    found = page_data(report)
    assert [len(image["frames"]) for image in found["images"]] == [2] * 4
    assert "val/accuracy" in (run.folder / "metrics.csv").read_text()
    assert "Top-1 accuracy (right class), validation" in report.read_text("utf-8")  # the last rows were on disk by then


def test_a_report_that_cannot_be_written_is_a_line_and_no_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "version_0" / "report.html").mkdir(parents=True)
    logger = f"{{class_path: CSVLogger, init_args: {{save_dir: {tmp_path}, name: '', version: 0}}}}"
    data = ["--data=Shapes", "--data.train_size=8", "--data.val_size=4", "--data.num_workers=0"]
    options = [f"--trainer.logger={logger}", "--trainer.max_epochs=1", "--explanation.gallery=2"]
    assert main(["fit", *SMALL, *TINY_MODEL, *data, *options]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("report ")]
    assert "not written (" in line
    assert "report.html: cannot be written (Is a directory)" in line
    assert f" report {tmp_path / 'version_0'}" in line


def test_a_run_without_explanations_has_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logger = f"{{class_path: CSVLogger, init_args: {{save_dir: {tmp_path}, name: ''}}}}"
    data = ["--data=Shapes", "--data.train_size=8", "--data.val_size=4", "--data.num_workers=0"]
    options = [f"--trainer.logger={logger}", "--trainer.max_epochs=1", "--explain=false"]
    assert main(["fit", *SMALL, *TINY_MODEL, *data, *options]) == 0
    assert not list(tmp_path.rglob("*.html"))
    assert "report" not in capsys.readouterr().out


def test_the_saved_configuration_starts_the_same_run_again(run: Run, tmp_path: Path) -> None:
    # its loggers write into the first run's folder, as they would for a user: version_1
    assert main(["fit", "--config", str(run.folder / "config.yaml")]) == 0
    again = csv_rows(run.save_dir / "version_1" / "metrics.csv")
    first = csv_rows(run.folder / "metrics.csv")
    assert again == first


def test_validate_and_test_explain_a_checkpoint(run: Run, tmp_path: Path) -> None:
    checkpoint = str(run.folder / "checkpoints" / "last.ckpt")
    expected = csv_rows(run.folder / "metrics.csv")
    for command in ("validate", "test"):
        logger = f"--trainer.logger={{class_path: CSVLogger, init_args: {{save_dir: {tmp_path}, name: {command}}}}}"
        args = [command, "--config", str(run.folder / "config.yaml"), "--ckpt_path", checkpoint, logger]
        assert main(args) == 0
        (row,) = csv_rows(tmp_path / command / "version_0" / "metrics.csv")
        stage = {"validate": "val", "test": "test"}[command]
        assert row[f"{stage}/loc/count"] > 30
        if command == "validate":
            assert row["val/loc/iou"] == pytest.approx(column(expected, "val/loc/iou")[-1], abs=1e-6)
            assert row["val/accuracy"] == column(expected, "val/accuracy")[-1]
        assert list((tmp_path / command / "version_0" / "explanations").glob(f"{stage}_*/*.png"))
