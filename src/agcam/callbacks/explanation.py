"""`ExplanationCallback`: explains and scores validation batches while the model trains."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from agcam.callbacks.batch_reader import BatchReader
from agcam.callbacks.chosen_pairs import ExplainedClasses, choose_pairs
from agcam.callbacks.class_records import ClassRecords
from agcam.callbacks.drift_memory import REMEMBERED, DriftMemory
from agcam.callbacks.gallery import evenly_spaced, explained_images, show
from agcam.callbacks.image_selection import GalleryBy, ImageSelection
from agcam.callbacks.other_class import explain_others
from agcam.callbacks.scoring import FIGURES, WITHOUT_OBJECTS, GroundTruth, Scoring, find_objects, has_objects
from agcam.callbacks.self_check import check_explainable, explained_module
from agcam.data.batch import Batch, join_batches, owned
from agcam.data.ground_truth import other_classes
from agcam.errors import InputError, ModelError
from agcam.explainers.explain import explain_recording
from agcam.explainers.explanation import Explanation
from agcam.explainers.joined import join_recordings, joinable
from agcam.explainers.recorder import Tape
from agcam.explainers.recording import Recording
from agcam.explainers.registry import find_method
from agcam.io.explained_images import ExplainedImage
from agcam.metrics.localization.localization import Localization, Protocol
from agcam.tracking import DiskWriter, count_from_one, log_panel, log_table, protect, run_dir

Stage = Literal["val", "test"]

# Explaining costs some milliseconds whatever the size of the batch, as much as a small model's whole forward. Forwards
# whose recordings fit into this many bytes together are explained together.
_JOINED_BYTES = 2**25


class ExplanationCallback(L.Callback):
    """Explains validation and test batches, scores the heatmaps, and shows the same few images every epoch.

    The heatmaps come from the evaluation step's own forward, so explaining costs little. Logged are, for the first
    method, `val/loc/{pixel_accuracy,iou,dice,precision,recall,pointing_game,count}`, `right_for_wrong_reason` and
    `wrong_but_looking_right` where the data know objects, and `entropy` and `drift` always; for the others
    `val/loc_METHOD/…`. `ModelCheckpoint(monitor="val/loc/iou", mode="max")` works.

    Any LightningModule around a ViT will do. Its batches are agcam's, (images, labels) or {"image": …, "label": …};
    labels are class indices (B,), or multi-hot (B, C), of which probabilities are a sigmoid for each class. Where the
    module has `class_names`, `multilabel` or `input_config`, they are used. Of several loaders the first is explained.

    Args:
        methods: names from `agcam.methods()`, or "my_package.module:function" for one that is not registered; the
            first is the one that is shown. By default AG-CAM and the controls, which know nothing of the image:
            random, center. One name needs no list.
        every_n_epochs: explain every n-th epoch of `fit` and its last; `validate` and `test` always explain.
        max_batches: explain only the first batches of each process; None explains all.
        targets: "labelled" explains the label (in multi-label data every present class), "predicted" the first
            choice of the model.
        only_correct: score only images whose first choice is right, as the paper does.
        ground_truth: score against "boxes" or "masks".
        threshold: where a heatmap, scaled to [0, 1], is cut.
        protocol: see `Localization`.
        gallery: number of images to show; 0 for none.
        gallery_by: which ones, chosen once: "index" spreads them evenly over the explained ones, "class" takes one of
            each class in turn, "hardest" those to whose label the model gives the lowest probability in the first
            explained epoch.
        batch: makes a batch of one of these forms of what the loaders give, where that has another.
    """

    def __init__(
        self,
        methods: Sequence[str] | str = ("agcam", "random", "center"),
        every_n_epochs: int = 1,
        max_batches: int | None = None,
        targets: ExplainedClasses = "labelled",
        only_correct: bool = False,
        ground_truth: GroundTruth = "boxes",
        threshold: float = 0.5,
        protocol: Protocol = "corrected",
        gallery: int = 16,
        gallery_by: GalleryBy = "index",
        batch: Callable[[Any], Any] | None = None,
    ) -> None:
        methods = [methods] if isinstance(methods, str) else methods
        if not methods:
            raise InputError("explanation.methods is empty; name at least one of agcam.methods()")
        for method in methods:
            find_method(method)
        if every_n_epochs < 1:
            raise InputError(f"explanation.every_n_epochs must be at least 1, found {every_n_epochs}")
        Localization(threshold, protocol)  # refuses what makes no sense
        self.every_n_epochs = every_n_epochs
        self.max_batches = float("inf") if max_batches is None else max_batches
        self.targets = targets
        self.only_correct = only_correct
        self.ground_truth: GroundTruth = ground_truth
        self.selection = ImageSelection(gallery, gallery_by)
        self.scoring = {method: Scoring(threshold, protocol) for method in methods}
        self._reader = BatchReader(batch)
        self._tape: Tape | None = None
        self._waiting: list[tuple[Recording, Batch]] = []
        self._batches = float("inf")
        self._remembered: set[int] = set()
        self._last: tuple[list[ExplainedImage], dict[str, Any]] | None = None
        self._writer = DiskWriter()
        self._classes = ClassRecords()

    def state_dict(self) -> dict[str, Any]:
        """Return which images are shown, so that a resumed run shows the same ones."""
        return {"shown": self.selection.chosen, "gallery": self._gallery()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Show the images of the run that is resumed, unless the gallery is to be another."""
        if state_dict.get("gallery", self._gallery()) == self._gallery():
            self.selection.chosen = dict(state_dict.get("shown", {}))

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """See to it that no tracker can stop the run."""
        protect(trainer)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Try whether the model can be explained; forget the heatmaps of another run."""
        if trainer.enable_validation and self.max_batches > 0:
            check_explainable(trainer, pl_module, self.scoring)
        for scoring in self.scoring.values():
            scoring.memory = DriftMemory()
        if trainer.is_global_zero:
            count_from_one(run_dir(trainer) / "explanations")

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Reset the metrics."""
        self._reset(trainer, pl_module)

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Start the tape."""
        self._listen(trainer, pl_module, batch_idx, dataloader_idx)

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
        self._take(trainer, pl_module, batch, batch_idx, dataloader_idx)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log metrics and pictures."""
        self._log(trainer, pl_module)

    # Lightning calls validation and test through hooks of their own; both do the same here
    on_test_epoch_start, on_test_epoch_end = on_validation_epoch_start, on_validation_epoch_end
    on_test_batch_start, on_test_batch_end = on_validation_batch_start, on_validation_batch_end

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave the model without hooks."""
        self._stop()
        self._waiting = []

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Have all pictures on disk before others look for them, and give the trackers the final table."""
        self._writer.wait()
        if self._last is not None:
            log_table(trainer.loggers, *self._last)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """As `on_train_end`, for validation and test."""
        self._writer.wait()

    def logged_names(self, dataset: Any) -> list[str]:
        """Return the names logged in an explained epoch of `fit`, as far as the validation set has what they need."""
        known = has_objects(dataset, self.ground_truth)
        figures = [*FIGURES, "count"] if known else [name for name in FIGURES if name in WITHOUT_OBJECTS]
        prefixes = [f"val/loc_{method}" if number else "val/loc" for number, method in enumerate(self.scoring)]
        return [f"{prefix}/{figure}" for prefix in prefixes for figure in figures]

    def _gallery(self) -> list[Any]:
        return [self.selection.size, self.selection.by]

    def _due(self, trainer: L.Trainer) -> bool:
        if trainer.sanity_checking:
            return False
        epoch = trainer.current_epoch + 1
        fitting = trainer.state.fn == TrainerFn.FITTING
        return not fitting or epoch % self.every_n_epochs == 0 or epoch == trainer.max_epochs

    def _reset(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not (trainer.sanity_checking or self._due(trainer)):
            return
        loaders: Any = trainer.test_dataloaders if trainer.testing else trainer.val_dataloaders
        num_batches = trainer.num_test_batches if trainer.testing else trainer.num_val_batches
        dataset, length = self._reader.begin(trainer, pl_module, loaders)
        if trainer.sanity_checking:
            return
        self._classes = ClassRecords()
        for scoring in self.scoring.values():
            scoring.to(pl_module.device).means.reset()
        self._batches = min(self.max_batches, num_batches[0])
        explained = explained_images(length, self._batches, self._reader.batch_size, trainer.world_size)
        explained = self.selection.size if math.isinf(explained) else explained
        self.selection.begin(_stage(trainer), dataset, int(explained))
        fitting = trainer.state.fn == TrainerFn.FITTING
        self._remembered = evenly_spaced(int(explained), REMEMBERED) if fitting else set()

    def _listen(self, trainer: L.Trainer, pl_module: L.LightningModule, batch_idx: int, dataloader_idx: int) -> None:
        due = trainer.sanity_checking or self._due(trainer)  # what cannot be explained is said before the first epoch
        if due and batch_idx < self.max_batches and dataloader_idx == 0:
            self._tape = Tape(explained_module(pl_module)).__enter__()

    def _stop(self) -> Tape | None:
        tape, self._tape = self._tape, None
        if tape is not None:
            tape.__exit__(None, None, None)
        return tape

    def _take(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int
    ) -> None:
        """Queue the recording; explain the queue once it is large enough."""
        tape = self._stop()
        if tape is None or dataloader_idx != 0:
            return
        if not tape.has_recording:
            name = type(pl_module).__name__
            raise ModelError(
                f"{name}: its {_stage(trainer)} step did not run {name}'s forward: nothing to explain; "
                "call self(images) in validation_step and test_step, not its backbone or a part of it. To train "
                "without explanations: --explain false"
            )
        recording = tape.recording
        batch = self._reader.read(batch, recording)
        if trainer.sanity_checking:
            return
        if not self._reader.in_order:
            self._remembered = set()
        if self._waiting and not joinable(self._waiting[0][0], recording):
            self._explain(trainer, pl_module)
        self._waiting.append((recording, batch))
        full = sum(waiting.nbytes for waiting, _ in self._waiting) + recording.nbytes > _JOINED_BYTES
        # not at the end of the epoch: a callback that averages weights may have put others in place by then
        if full or batch_idx + 1 >= self._batches:
            self._explain(trainer, pl_module)

    def _explain(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Explain and score what waits."""
        waiting, self._waiting = self._waiting, []
        recording = join_recordings([recording for recording, _ in waiting])
        batch = waiting[0][1] if len(waiting) == 1 else join_batches([batch for _, batch in waiting], recording.images)
        stage, mine = _stage(trainer), owned(batch.index, trainer.global_rank, trainer.world_size)
        chosen = choose_pairs(
            batch,
            recording.logits,
            self._reader.info.probabilities(recording.logits.float()),
            mine,
            partial(self.selection.wants, stage),
            self.targets,
            self.only_correct,
        )
        pairs, counted = chosen.pairs, chosen.counted
        objects = find_objects(batch, pairs, self.ground_truth)
        keys = list(zip(batch.index[pairs.image].tolist(), pairs.object.tolist(), strict=True))
        keep = torch.tensor([index in self._remembered for index, _ in keys], dtype=torch.bool)
        explanations: dict[str, Explanation] = {}
        figures: dict[str, list[dict[str, float]]] = {}
        overlap = torch.empty(0)
        for method, scoring in self.scoring.items():
            explanation = explain_recording(recording, chosen.targets, method)
            maps = explanation.heatmaps[pairs.image, pairs.slot]
            found = scoring.figures(maps, objects, chosen.correct, explanation.extent)
            scoring.remember(found, keys, keep, maps)
            scoring.means.update(found[counted.cpu()], pairs.image[counted])
            overlap = overlap if explanations else found[:, FIGURES.index("iou")]
            explanations[method] = explanation
            figures[method] = [dict(zip(FIGURES, row, strict=True)) for row in found[chosen.wanted.cpu()].tolist()]
        self._classes.add(batch.label[mine], recording.logits[mine], pairs.object[counted], overlap[counted.cpu()])
        if chosen.wanted.any():
            shown, first = chosen.shown, recording.logits.argmax(1)
            classes = other_classes(batch.label, first, self.targets == "predicted")
            others = explain_others(recording, classes, shown.image, self.scoring)
            self.selection.add(show(self._reader.info, batch, shown, explanations, figures, others))

    def _log(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self._due(trainer):
            return
        stage = _stage(trainer)
        for number, (method, scoring) in enumerate(self.scoring.items()):
            prefix = f"{stage}/loc" if number == 0 else f"{stage}/loc_{method}"
            figures = scoring.compute()
            if number == 0 and "count" not in figures and not self._reader.seen:  # plain batches have no objects
                rank_zero_warn(f"no {self.ground_truth} in the explained batches: {prefix}/iou … are not logged")
            # computed over all processes already: the same number on each
            pl_module.log_dict({f"{prefix}/{name}": value.float() for name, value in figures.items()}, sync_dist=True)
            scoring.memory.end_epoch()
        explained, classes = self.selection.end(stage), self._classes.end(self._reader.info)
        if trainer.is_global_zero and explained:
            # while it fits, Lightning's epoch is the one that is not over yet
            epoch = trainer.current_epoch + (trainer.state.fn == TrainerFn.FITTING)
            info: dict[str, Any] = {"stage": stage, "epoch": epoch, "step": trainer.global_step}
            if self._reader.info.mean is not None:  # what a pixel becomes where perturbations remove it
                info["fill"] = [round(255 * value) for value in self._reader.info.mean]
            log_panel(trainer.loggers, self._writer, run_dir(trainer) / "explanations", explained, info, classes)
            self._last = (explained, info)


def _stage(trainer: L.Trainer) -> Stage:
    return "test" if trainer.testing else "val"
