"""From epoch to epoch: what the figures say about the whole explained set, and which images are shown."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import pytest
import torch
from scipy.stats import spearmanr

import agcam
from agcam import InputError
from agcam.callbacks.explanation import ExplanationCallback
from agcam.data import Shapes
from agcam.io.explained_images import read_panel
from agcam.metrics.localization.pointing_game import pointing_hits
from agcam.training.classifier import ViTClassifier
from command_lines import SMALL, TINY_MODEL
from processes import start, start_together
from reading import column, csv_rows

NEW = ["right_for_wrong_reason", "wrong_but_looking_right", "drift", "entropy"]
EPOCHS = 3


class Stir(L.Callback):
    """Moves the weights between epochs by the same noise in any number of processes."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        generator = torch.Generator().manual_seed(trainer.current_epoch)
        for parameter in pl_module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data += 0.3 * noise * parameter.data.std().nan_to_num(0.0)


class Slowly(L.Callback):
    """The same figures by plain loops over the whole validation set."""

    def __init__(self) -> None:
        self.figures: list[dict[str, float]] = []
        self.hardness: list[dict[int, float]] = []
        self.maps: list[dict[int, torch.Tensor]] = []

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        wrong_reason, looking_right, entropies, maps, hardness = [], [], [], {}, {}
        for batch in trainer.val_dataloaders:
            explanation = agcam.explain(pl_module, batch.image, batch.label)
            hits = pointing_hits(explanation.heatmaps[:, 0], batch.mask == batch.label[:, None, None] + 1)
            for row, index in enumerate(batch.index.tolist()):
                right = int(explanation.logits[row].argmax()) == int(batch.label[row])
                wrong_reason.append(right and not hits[row])
                looking_right.append(not right and bool(hits[row]))
                heatmap = explanation.heatmaps[row, 0].double()
                shares = heatmap.flatten() / heatmap.sum()
                entropies.append(-float(torch.xlogy(shares, shares).sum() / torch.tensor(float(len(shares))).log()))
                maps[index] = heatmap
                hardness[index] = float(explanation.logits[row].softmax(0)[batch.label[row]])
        found = {
            "right_for_wrong_reason": sum(wrong_reason) / len(wrong_reason),
            "wrong_but_looking_right": sum(looking_right) / len(looking_right),
            "entropy": sum(entropies) / len(entropies),
        }
        if self.maps:
            drifts = [1 - spearmanr(maps[i].flatten(), self.maps[-1][i].flatten()).statistic for i in maps]
            found["drift"] = sum(drifts) / len(drifts)
        self.figures.append(found)
        self.maps.append(maps)
        self.hardness.append(hardness)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Slowly]:
    folder, slowly = tmp_path_factory.mktemp("timeline"), Slowly()
    L.seed_everything(5)
    model_args = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    model = ViTClassifier("vit_tiny_patch16_224", image_size=32, backbone_args=model_args, lr=3e-3, layer_decay=1.0)
    explanation = ExplanationCallback(ground_truth="masks", gallery=5, gallery_by="hardest")
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        logger=L.pytorch.loggers.CSVLogger(folder, ""),
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[explanation, slowly, Stir()],
    )
    trainer.fit(model, datamodule=Shapes(train_size=64, val_size=37, batch_size=8, num_workers=0))
    return folder / "version_0", slowly


def test_the_figures_of_each_epoch_are_those_of_plain_loops(run: tuple[Path, Slowly]) -> None:
    folder, slowly = run
    rows = csv_rows(folder / "metrics.csv")
    for name in NEW:
        expected = [figures[name] for figures in slowly.figures if name in figures]
        tolerance = 0.01 if name == "drift" else 1e-5  # kept in float16, a pair of cells may tie
        assert column(rows, f"val/loc/{name}") == pytest.approx(expected, abs=tolerance), name
    assert len(column(rows, "val/loc/drift")) == EPOCHS - 1
    assert min(column(rows, "val/loc/drift")) > 0.02


def test_the_hardest_images_of_the_first_epoch_are_shown_in_every_epoch(run: tuple[Path, Slowly]) -> None:
    folder, slowly = run
    first = slowly.hardness[0]
    expected = sorted(sorted(first, key=lambda index: first[index])[:5])
    for epoch in range(EPOCHS):
        shown, _ = read_panel(folder / "explanations" / f"val_epoch_{epoch + 1:03d}")
        assert [entry.index for entry in shown] == expected
        assert all(entry.probability == pytest.approx(slowly.hardness[epoch][entry.index]) for entry in shown)


def test_a_run_that_goes_on_shows_the_same_images(run: tuple[Path, Slowly]) -> None:
    (path,) = (run[0] / "checkpoints").iterdir()
    state = torch.load(path, weights_only=True)["callbacks"]["ExplanationCallback"]
    callback = ExplanationCallback(gallery=5, gallery_by="hardest")
    callback.load_state_dict(state)
    shown, _ = read_panel(run[0] / "explanations" / "val_epoch_001")
    assert callback.selection.chosen["val"] == [entry.index for entry in shown]
    callback.selection.begin("val", None, 37)
    assert callback.selection.wants("val", range(37), [0.0] * 37).count(True) == 5


def test_two_processes_find_what_one_finds(cub_root: Path, tmp_path: Path) -> None:
    arguments = [
        *(f"--trainer.{o}" for o in ("max_epochs=2", "log_every_n_steps=1", "callbacks+=test_explained_epochs.Stir")),
        "--model.lr=0",
        "--model.weight_decay=0",
        "--seed_everything=1",
        "--data=CUB200",
        f"--data.root={cub_root}",
        *("--data.batch_size=4", "--data.num_workers=0"),
        *("--explanation.methods=[agcam, center]", "--explanation.ground_truth=masks"),
        *("--explanation.gallery=3", "--explanation.gallery_by=hardest"),
    ]

    def command(name: str) -> list[str]:
        logger = f"--trainer.logger={{class_path: CSVLogger, init_args: {{save_dir: {tmp_path / name}, name: ''}}}}"
        return ["fit", *SMALL, *TINY_MODEL, *arguments, logger]

    processes = [
        start(command("one"), tmp_path / "printed"),
        *start_together(command("two"), tmp_path / "two_printed", 2),
    ]
    assert [process.wait() for process in processes] == [0, 0, 0], "".join(p.printed for p in processes)
    one, two = (csv_rows(tmp_path / name / "version_0" / "metrics.csv") for name in ("one", "two"))
    for name in [f"val/loc{method}/{figure}" for method in ("", "_center") for figure in [*NEW, "iou", "count"]]:
        assert column(two, name) == pytest.approx(column(one, name), abs=1e-6), name
    assert column(one, "val/loc/drift")[0] > 0.01
    assert column(one, "val/loc_center/drift") == pytest.approx([0], abs=1e-9)  # it never moves
    panels = [read_panel(tmp_path / n / "version_0/explanations/val_epoch_002")[0] for n in ("one", "two")]
    assert [entry.index for entry in panels[0]] == [entry.index for entry in panels[1]]
    assert len(panels[0]) == 3


def test_a_threshold_beyond_one_is_refused() -> None:
    with pytest.raises(InputError, match="threshold"):
        ExplanationCallback(threshold=1.5)
