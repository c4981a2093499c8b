"""`ExplanationCallback`: explains and scores validation batches while the model trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from agcam.callbacks.gallery import explained_images, gather, pictures, spread
from agcam.callbacks.ground_truth import labelled_targets, predicted_targets
from agcam.callbacks.scoring import GroundTruth, Scoring
from agcam.classifier import ViTClassifier
from agcam.data.batch import Batch, owned
from agcam.errors import InputError
from agcam.explainers.explain import check_method, explain_recording
from agcam.explainers.tape import Tape
from agcam.metrics.localization import Protocol
from agcam.tracking import Picture, log_pictures


class ExplanationCallback(L.Callback):
    """Explains validation and test batches, scores the heatmaps, and shows the same few images every epoch.

    The heatmaps come from the evaluation step's own forward, so explaining costs little. Logged are
    `val/loc/{pixel_accuracy,iou,dice,precision,recall,pointing_game,count}` for the first method and
    `val/loc_METHOD/…` for the others; `ModelCheckpoint(monitor="val/loc/iou", mode="max")` works. Nothing is
    logged where the data know no objects.

    Args:
        methods: names from `agcam.methods()`; the first is the one that is shown. Controls: random, center.
        every_n_epochs: explain every n-th epoch of `fit` and its last; `validate` and `test` always explain.
        max_batches: explain only the first batches of each process; None explains all.
        targets: "labelled" explains the label (in multi-label data every present class), "predicted" the first
            choice of the model.
        only_correct: score only images whose first choice is right, as the paper does.
        ground_truth: score against "boxes" or "masks".
        threshold: where a heatmap, scaled to [0, 1], is cut.
        protocol: see `Localization`.
        gallery: number of images to show, spread evenly over the explained ones; 0 for none.
    """

    def __init__(
        self,
        methods: Sequence[str] = ("agcam",),
        every_n_epochs: int = 1,
        max_batches: int | None = None,
        targets: Literal["labelled", "predicted"] = "labelled",
        only_correct: bool = False,
        ground_truth: GroundTruth = "boxes",
        threshold: float = 0.5,
        protocol: Protocol = "corrected",
        gallery: int = 16,
    ) -> None:
        if not methods:
            raise InputError("explanation.methods is empty; name at least one of agcam.methods()")
        for method in methods:
            check_method(method)
        if every_n_epochs < 1:
            raise InputError(f"explanation.every_n_epochs must be at least 1, found {every_n_epochs}")
        self.every_n_epochs = every_n_epochs
        self.max_batches = float("inf") if max_batches is None else max_batches
        self.targets = targets
        self.only_correct = only_correct
        self.gallery = gallery
        self.scoring = {method: Scoring(ground_truth, threshold, protocol) for method in methods}
        self._tape: Tape | None = None
        self._shown: set[int] = set()
        self._pictures: list[Picture] = []

    # Lightning calls validation and test through hooks of their own; both do the same here.

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Reset the metrics."""
        self._reset(trainer, pl_module, trainer.val_dataloaders, trainer.num_val_batches)

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Start the tape."""
        self._listen(trainer, pl_module, batch_idx)

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Explain and score what the tape holds."""
        self._explain(trainer, pl_module, batch)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log metrics and pictures."""
        self._log(trainer, pl_module, "val")

    def on_test_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """As for validation."""
        self._reset(trainer, pl_module, trainer.test_dataloaders, trainer.num_test_batches)

    def on_test_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """As for validation."""
        self._listen(trainer, pl_module, batch_idx)

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """As for validation."""
        self._explain(trainer, pl_module, batch)

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """As for validation."""
        self._log(trainer, pl_module, "test")

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave the model without hooks."""
        self._stop()

    def _due(self, trainer: L.Trainer) -> bool:
        if trainer.sanity_checking:
            return False
        epoch = trainer.current_epoch + 1
        fitting = trainer.state.fn == TrainerFn.FITTING
        return not fitting or epoch % self.every_n_epochs == 0 or epoch == trainer.max_epochs

    def _reset(
        self, trainer: L.Trainer, pl_module: L.LightningModule, loader: Any, num_batches: Sequence[int | float]
    ) -> None:
        for scoring in self.scoring.values():
            scoring.to(pl_module.device).reset()
        batches = min(self.max_batches, *num_batches)
        self._pictures = []
        length, batch_size = len(loader.dataset), loader.batch_size or 1
        self._shown = spread(explained_images(length, batches, batch_size, trainer.world_size), self.gallery)

    def _listen(self, trainer: L.Trainer, pl_module: L.LightningModule, batch_idx: int) -> None:
        if self._due(trainer) and batch_idx < self.max_batches:
            self._tape = Tape(pl_module).__enter__()

    def _stop(self) -> Tape | None:
        tape, self._tape = self._tape, None
        if tape is not None:
            tape.__exit__(None, None, None)
        return tape

    def _explain(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch) -> None:
        tape = self._stop()
        if tape is None:
            return
        recording = tape.recording
        first = recording.logits.argmax(1, keepdim=True)
        if self.targets == "labelled":
            targets, pairs = labelled_targets(batch)
        else:
            targets, pairs = predicted_targets(batch, first)
        pairs = pairs.keep(owned(batch.index, trainer.global_rank, trainer.world_size)[pairs.image])
        scored = pairs
        if self.only_correct:
            right = batch.label.eq(first[:, 0]) if batch.label.dim() == 1 else batch.label.gather(1, first)[:, 0] > 0
            scored = pairs.keep(right[pairs.image])
        for number, (method, scoring) in enumerate(self.scoring.items()):
            explanation = explain_recording(recording, targets, method)
            scoring.update(batch, scored, explanation.heatmaps)
            if number == 0:
                shown = [int(batch.index[row]) in self._shown for row in pairs.image.tolist()]
                chosen = pairs.keep(torch.tensor(shown, dtype=torch.bool, device=pairs.image.device))
                iou = scoring.iou(batch, chosen, explanation.heatmaps)
                model = cast(ViTClassifier, pl_module)
                self._pictures += pictures(model, batch, chosen, explanation, iou)

    def _log(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if not self._due(trainer):
            return
        for number, (method, scoring) in enumerate(self.scoring.items()):
            prefix = f"{stage}/loc" if number == 0 else f"{stage}/loc_{method}"
            figures = scoring.compute()
            if not figures:
                rank_zero_warn(f"no {scoring.ground_truth} in the explained batches: {prefix}/… is not logged")
                break
            # computed over all processes already: the same number on each
            pl_module.log_dict({f"{prefix}/{name}": value.float() for name, value in figures.items()}, sync_dist=True)
        run_dir = Path(trainer.log_dir or trainer.default_root_dir)
        everyone = gather(self._pictures)
        if trainer.is_global_zero:
            log_pictures(trainer.loggers, run_dir, everyone, stage, trainer.current_epoch, trainer.global_step)
