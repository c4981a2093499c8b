"""One run that W&B, TensorBoard, MLflow and the disk record together, read back by each one's own reader."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import wandb
import yaml
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger
from mlflow import MlflowClient
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agcam.callbacks.explanation import ExplanationCallback
from agcam.cli.train import main
from agcam.data import Shapes
from agcam.io.explained_images import ExplainedImage, read_panel
from agcam.training.classifier import ViTClassifier
from command_lines import SMALL, TINY_MODEL
from mlflow_server import Server, start_server
from reading import column, csv_rows, wandb_records, wandb_run

NAMES = ["val/accuracy", "val/loss", "val/loc/iou", "val/loc/drift", "val/loc_center/iou", "train/loss"]
_TABLE = "explanations"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = start_server(tmp_path_factory.mktemp("mlflow"))
    yield found
    found.kill()


@dataclass(frozen=True)
class Run:
    """What the run left behind; what MLflow has of it was asked for while its server lived."""

    folder: Path
    save_dir: Path
    printed: str
    shown: list[ExplainedImage]
    mlflow_metrics: dict[str, list[tuple[int, float]]]
    mlflow_params: dict[str, str]
    mlflow_status: str
    mlflow_files: dict[str, bytes]


@pytest.fixture(scope="module")
def run(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Run:
    save_dir = tmp_path_factory.mktemp("trackers")
    config = save_dir / "config.yaml"
    config.write_text(
        f"""
seed_everything: 3
trainer:
  max_epochs: 2
  log_every_n_steps: 3
  logger:
    - class_path: TensorBoardLogger
      init_args: {{save_dir: {save_dir}, name: ""}}
    - class_path: WandbLogger
      init_args: {{save_dir: {save_dir}, project: agcam, log_model: true}}
    - class_path: MLFlowLogger
      init_args: {{tracking_uri: "{server.uri}", experiment_name: several, log_model: true}}
data:
  class_path: Shapes
  init_args: {{train_size: 64, val_size: 37, batch_size: 8, num_workers: 0}}
explanation:
  methods: [agcam, center]
  ground_truth: masks
  gallery: 4
"""
    )
    with pytest.MonkeyPatch.context() as patch, (save_dir / "printed").open("w") as printed:
        patch.setattr("sys.stdout", printed)
        patch.setenv("WANDB_DATA_DIR", str(save_dir / "staged"))  # until they are synchronised, artifacts lie there
        patch.chdir(save_dir)
        assert main(["fit", "--config", str(config), *SMALL, *TINY_MODEL]) == 0
    wandb.finish()
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("several")
    (found,) = client.search_runs([experiment.experiment_id])
    metrics = {name: [(m.step, m.value) for m in client.get_metric_history(found.info.run_id, name)] for name in NAMES}
    files = Path(client.download_artifacts(found.info.run_id, ".", str(tmp_path_factory.mktemp("downloaded"))))
    shown, _ = read_panel(save_dir / "version_0" / "explanations" / "val_epoch_002")
    return Run(
        folder=save_dir / "version_0",
        save_dir=save_dir,
        printed=(save_dir / "printed").read_text(),
        shown=shown,
        mlflow_metrics=metrics,
        mlflow_params=found.data.params,
        mlflow_status=found.info.status,
        mlflow_files={p.relative_to(files).as_posix(): p.read_bytes() for p in files.rglob("*") if p.is_file()},
    )


@pytest.fixture(scope="module")
def board(run: Run) -> EventAccumulator:
    found = EventAccumulator(str(run.folder), size_guidance={"images": 0, "scalars": 0, "tensors": 0})
    return found.Reload()


def test_all_have_the_same_metrics_at_the_same_steps(run: Run, board: EventAccumulator) -> None:
    rows = csv_rows(run.folder / "metrics.csv")  # no CSVLogger was asked for: the disk has them all the same
    history, _ = wandb_run(run.save_dir)
    for name in NAMES:
        expected = [(int(row["step"]), row[name]) for row in rows if name in row]
        assert len(expected) == {"train/loss": 5, "val/loc/drift": 1}.get(name, 2)
        found = {
            "W&B": [(row["trainer/global_step"], row[name]) for row in history if name in row],
            "TensorBoard": [(event.step, event.value) for event in board.Scalars(name)],
            "MLflow": run.mlflow_metrics[name],
        }
        for tracker, values in found.items():
            assert [step for step, _ in values] == [step for step, _ in expected], (tracker, name)
            assert [v for _, v in values] == pytest.approx([v for _, v in expected], rel=1e-6), (tracker, name)


def wandb_file(run: Run, path: str) -> Path:
    (found,) = run.save_dir.glob(f"wandb/offline-run-*/files/{path}")
    return found


def wandb_artifacts(run: Run) -> list[dict[str, Any]]:
    return [record["artifact"] for record in wandb_records(run.save_dir) if record["type"] == "artifact"]


def names_of(shown: list[ExplainedImage]) -> list[str]:
    return [f"{entry.index:06d}_{entry.explained}" for entry in shown]


def test_all_have_the_same_pictures_at_the_same_steps(run: Run, board: EventAccumulator) -> None:
    names = names_of(run.shown)
    assert len(names) == 4
    tags = [f"val/explanations/{name}" for name in names]
    assert board.Tags()["images"] == tags
    for tag in tags:
        events = board.Images(tag)
        assert [event.step for event in events] == [8, 16]
        width, height = Image.open(io.BytesIO(events[1].encoded_image_string)).size
        assert width in (224, 450)  # of a mistaken image two heatmaps
        assert height > 224  # with words beneath
        keyed = [f for f in run.mlflow_files if f.startswith(f"images/{tag.replace('/', '~')}+step+")]
        pictures = {int(f.split("+")[2]): f for f in keyed if f.endswith(".png")}
        assert sorted(pictures) == [8, 16]
        assert Image.open(io.BytesIO(run.mlflow_files[pictures[16]])).size == (width, height)
    history, _ = wandb_run(run.save_dir)
    panels = [row for row in history if "val/explanations.count" in row]
    assert [(p["trainer/global_step"], p["val/explanations.count"]) for p in panels] == [(8, 4), (16, 4)]
    on_disk = [sorted(p.stem for p in (run.folder / "explanations").glob(f"val_epoch_00{e}/0*.png")) for e in (1, 2)]
    assert on_disk == [names, names]


def test_wandb_lays_boxes_and_pixels_over_its_pictures(run: Run) -> None:
    history, _ = wandb_run(run.save_dir)
    panel = next(row for row in reversed(history) if "val/explanations.count" in row)
    layers = zip(panel["val/explanations.all_boxes"], panel["val/explanations.all_masks"], strict=True)
    for entry, (boxes, masks) in zip(run.shown, layers, strict=True):
        data = json.loads(wandb_file(run, boxes["ground_truth"]["path"]).read_text())["box_data"]
        found = [[box["position"][side] for side in ("minX", "minY", "maxX", "maxY")] for box in data]
        assert found == (entry.boxes * 7).tolist()
        assert {box["box_caption"] for box in data} == {entry.explained}
        pixels = np.asarray(Image.open(wandb_file(run, masks["object"]["path"])))
        assert entry.mask is not None
        assert (pixels > 0).sum() == entry.mask.sum() * 49

        assert pixels.shape == (224, 450)
        assert len(np.unique(pixels)) == 2


def test_wandb_gets_the_pictures_of_a_panel_in_one_size(run: Run) -> None:
    history, _ = wandb_run(run.save_dir)
    panel = next(row for row in reversed(history) if "val/explanations.count" in row)
    sizes = {Image.open(wandb_file(run, path)).size for path in panel["val/explanations.filenames"]}
    assert sizes == {(450, 224)}  # some are mistaken and have two heatmaps; white stands beside the others


def test_the_final_table_has_a_row_for_each_picture(run: Run, board: EventAccumulator) -> None:
    (artifact,) = [a for a in wandb_artifacts(run) if a["type"] == "run_table"]
    files = {entry["path"]: Path(entry["local_path"]) for entry in artifact["manifest"]["contents"]}
    table = json.loads(files[f"{_TABLE}.table.json"].read_text())
    columns = table["columns"]
    assert columns[:8] == ["image", "heatmap", "name", "truth", "explained", "predicted", "correct", "probability"]
    assert {"iou", "pointing_game", "entropy", "drift"} < set(columns)
    for row, entry in zip(table["data"], run.shown, strict=True):
        cells = dict(zip(columns, row, strict=True))
        assert (cells["explained"], cells["predicted"]) == (entry.explained, entry.predicted)
        assert cells["probability"] == pytest.approx(entry.probability)
        assert cells["iou"] == pytest.approx(entry.figures["agcam"]["iou"])
        assert (cells["image"]["boxes"].keys(), cells["image"]["masks"].keys()) == ({"ground_truth"}, {"object"})
        assert cells["predicted_probability"] == pytest.approx(entry.predicted_probability)
        wide = 224 if entry.other is None else 450
        for picture, width in (("image", 224), ("heatmap", wide)):
            assert Image.open(files[cells[picture]["path"]]).size == (width, 224)
    text = board.Tensors(f"{_TABLE}/text_summary")[0].tensor_proto.string_val[0].decode()
    assert text.count("\n") == 1 + len(run.shown)
    assert all(entry.name in text for entry in run.shown)
    ours = json.loads(run.mlflow_files[f"{_TABLE}.json"])
    assert ours["columns"] == columns[2:]
    assert [row[0] for row in ours["data"]] == [entry.name for entry in run.shown]


def test_all_have_the_full_configuration(run: Run, board: EventAccumulator) -> None:
    on_disk = yaml.safe_load((run.folder / "config.yaml").read_text())
    _, config = wandb_run(run.save_dir)
    in_mlflow = yaml.safe_load(run.mlflow_files["config.yaml"])
    text = board.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    for found in (on_disk, config, in_mlflow, yaml.safe_load(text)):
        assert found["seed_everything"] == 3
        assert found["data"]["init_args"]["val_size"] == 37
        assert found["explanation"]["methods"] == ["agcam", "center"]
    assert run.mlflow_params["data/init_args/val_size"] == "37"
    assert run.mlflow_params["trainer/logger/2/init_args/experiment_name"] == "several"
    assert run.mlflow_params["backbone"] == "vit_tiny_patch16_224"  # Lightning's own: the model's hyperparameters
    assert run.mlflow_status == "FINISHED"


def test_wandb_keeps_the_model_where_log_model_asks_for_it(run: Run) -> None:
    (model,) = [artifact for artifact in wandb_artifacts(run) if artifact["type"] == "model"]
    (checkpoint,) = (run.folder / "checkpoints").iterdir()
    (entry,) = model["manifest"]["contents"]
    assert (entry["path"], int(entry["size"])) == ("model.ckpt", checkpoint.stat().st_size)


def test_mlflow_keeps_the_model_where_log_model_asks_for_it(run: Run) -> None:
    (checkpoint,) = (run.folder / "checkpoints").iterdir()
    (kept,) = [content for name, content in run.mlflow_files.items() if name.endswith(".ckpt")]
    assert kept == checkpoint.read_bytes()


def test_the_end_says_where_each_tracker_has_the_run(run: Run, server: Server) -> None:
    printed = " ".join(run.printed.split())
    assert "tensorboard --logdir version_0" in printed
    assert "wandb sync wandb/offline-run-" in printed
    assert f"MLflow run {server.uri}/#/experiments/" in printed


class _Kill(L.Callback):
    """Kills the server at the end of the first epoch's training, before its validation is logged."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            self.server.kill()


def test_a_server_that_is_killed_is_reported_once_and_training_goes_on(
    run: Run, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    model_args: dict[str, Any] = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=3,
        log_every_n_steps=1,
        logger=[MLFlowLogger("killed", tracking_uri=server.uri), CSVLogger(tmp_path, "")],
        default_root_dir=tmp_path,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ExplanationCallback(ground_truth="masks", gallery=3), _Kill(server)],
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(
            ViTClassifier("vit_tiny_patch16_224", image_size=32, backbone_args=model_args),
            datamodule=Shapes(train_size=24, val_size=9, batch_size=8, num_workers=0),
        )
    assert trainer.state.finished
    reported = [str(w.message) for w in caught if "MLFlowLogger" in str(w.message)]
    assert len(reported) == 1
    assert reported[0].startswith("MLFlowLogger failed (MlflowException: API request")
    rows = csv_rows(tmp_path / "version_0" / "metrics.csv")
    assert len(column(rows, "train/loss")) == 9
    assert len(column(rows, "val/loc/iou")) == 3
    for epoch in range(3):
        assert len(read_panel(tmp_path / "version_0" / "explanations" / f"val_epoch_{epoch + 1:03d}")[0]) == 3
