"""`ViTClassifier`: a timm ViT fine-tuned by Lightning, single-label and multi-label in one class."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import timm
import torch
from lightning import Callback, LightningModule
from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging, WeightAveraging
from lightning.pytorch.plugins import DoublePrecision
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torchmetrics import MetricCollection

from agcam.data.batch import Batch, owned
from agcam.data.input_config import InputConfig, from_timm
from agcam.errors import ModelError, brief
from agcam.metrics.means import ImageMean
from agcam.training.backbone import make_backbone
from agcam.training.evaluation import class_scores, warn_of_absent
from agcam.training.freezing import GradualUnfreezing, parameters_below
from agcam.training.guidance import Guidance, guided_forward, guided_objects, log_guidance, read_guidance, warmed_up
from agcam.training.losses import LossName, choose_loss, image_losses
from agcam.training.mixing import Mixing, make_mixing
from agcam.training.model_options import check_options
from agcam.training.optim import optimizer_and_schedule, warn_of_unreached
from agcam.training.plain_state import plain
from agcam.training.precision import at_least_single, check_trainable, in_precision_of, keep_batches
from agcam.training.weights import MODEL_CLASS, class_path, read_settings


class ViTClassifier(LightningModule):
    """Fine-tunes a timm ViT with AdamW, linear warm-up and cosine decay by step, and layer-wise learning rates.

    Gradients are clipped and accumulated by `--trainer.gradient_clip_val` and `--trainer.accumulate_grad_batches`.

    Logs `train/loss`, `val/loss`, `test/loss` and, for single-label data, `val/accuracy` and `val/top5`, for
    multi-label data `val/mAP`: the mean of the classes' average precisions, over the classes that some image shows
    (a warning names the others). Batches and processes make no difference to the figures of validation and test,
    and NaN in any image's logits makes them NaN. The data set's own `class_names`, `multilabel` and
    `input` are taken from the data module and saved in the checkpoint.

    Args:
        backbone: name of a timm model, such as "vit_small_patch16_224.augreg_in21k".
        pretrained: load timm's weights for `backbone`.
        weights: load a local file instead: safetensors, a state dict, or an agcam checkpoint. Weights for another
            image or patch size are resampled as timm would.
        image_size: side of the input in pixels; None takes the backbone's. Position embeddings are resampled to it.
        backbone_args: further arguments of `timm.create_model`, such as {embed_dim: 96}. With a `depth`, `weights` may
            be those of a deeper model: its first blocks are taken.
        lr: peak learning rate of the head and the last block.
        weight_decay: of AdamW; biases and norms are left out.
        layer_decay: factor of the learning rate from each block to the one below; 1 for none.
        warmup_epochs: epochs of linear warm-up; fractions are fine.
        drop_path: stochastic depth rate of the last block.
        label_smoothing: how far labels move towards 1/C, in multi-label data towards 1/2.
        loss: "cross_entropy" or "bce" for single-label data, "bce" or "asymmetric" (Ridnik et al., ICCV 2021) for
            multi-label data; "auto" takes the first of them.
        mixup: alpha of mixup, 0 for none; 0.2 is mild, 0.8 strong.
        cutmix: alpha of CutMix, 0 for none; usually 1. With both, each batch gets one or the other.
        ema: decay of a moving average of the weights, such as 0.999; 0 for none. The average is what is validated,
            explained and loaded from a checkpoint.
        freeze_epochs: epochs in which the classifier trains alone, on a frozen backbone; -1 for all (linear probe).
        unfreeze_blocks_per_epoch: blocks that each epoch after those frees, from the top down; 0 frees all at once.
        guidance: teaches the model to look at the objects, in images that have boxes or masks: a loss on AG-CAM's
            heatmap (docs/guidance.md), logged as `train/guidance`; None for none.
        test_time_flip: validation and test take the mean of the logits of image and mirror image; the explanation
            is that of the image.
        class_names: set by the data.
        multilabel: set by the data.
        input: set by the data: size and normalization of images, as a dictionary of `InputConfig`.
    """

    def __init__(
        self,
        backbone: str = "vit_small_patch16_224",
        pretrained: bool = False,
        weights: str | None = None,
        image_size: int | None = None,
        backbone_args: dict[str, Any] | None = None,
        lr: float = 5e-4,
        weight_decay: float = 0.05,
        layer_decay: float = 0.75,
        warmup_epochs: float = 1.0,
        drop_path: float = 0.0,
        label_smoothing: float = 0.0,
        loss: LossName = "auto",
        mixup: float = 0.0,
        cutmix: float = 0.0,
        ema: float = 0.0,
        freeze_epochs: int = 0,
        unfreeze_blocks_per_epoch: int = 0,
        guidance: Guidance | None = None,
        test_time_flip: bool = False,
        class_names: list[str] | None = None,
        multilabel: bool | None = None,
        input: dict[str, Any] | None = None,  # noqa: A002  # its name in checkpoints and configs
    ) -> None:
        super().__init__()
        self._guidance = read_guidance(guidance)
        guidance = asdict(self._guidance) if self._guidance else None  # type: ignore[assignment]  # as checkpoints hold it
        self.save_hyperparameters()
        check_options(self.hparams)
        cfg = timm.get_pretrained_cfg(backbone)
        self.input_config = (
            InputConfig.from_dict(input) if input else from_timm(cfg.to_dict() if cfg else {}, image_size)
        )
        self.class_names: list[str] = []
        self.multilabel = False
        self._mixing: Mixing | None = None
        self.step_losses = torch.empty(0)
        """(B,) of the latest training batch."""
        self._absent: dict[str, object] = {}
        self._guided = 0
        if class_names is not None and multilabel is not None:
            self._build(class_names, multilabel)

    def setup(self, stage: str) -> None:
        """Fit the model to the data module, and freeze and average what is asked for."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it at run time
        if data is None or not hasattr(data, "class_names"):
            if not self.class_names:
                raise ModelError("ViTClassifier needs class_names and multilabel, or a data module that knows them")
        else:
            self.fit_data(data, stage)
        keep_batches(self.trainer)
        if stage == "fit":
            check_trainable(self.trainer.precision)
            self.hparams.update(plain({"hyper_parameters": dict(self.hparams)})["hyper_parameters"])
            warn_of_unreached(self.trainer, self.hparams)
            self._mixing = make_mixing(self.hparams["mixup"], self.hparams["cutmix"], len(self.class_names))
            if self.hparams["freeze_epochs"] < 0:
                for parameter in parameters_below(self.backbone):
                    parameter.requires_grad_(False)
            for callback in self.trainer.callbacks:  # type: ignore[attr-defined]  # Lightning's list of callbacks
                if isinstance(callback, (WeightAveraging, StochasticWeightAveraging)):
                    callback.setup(self.trainer, self, stage)  # which it was before there was a backbone to be copied
                    if isinstance(self.trainer.precision_plugin, DoublePrecision):  # converts the model alone
                        self.trainer.precision_plugin.convert_module(callback._average_model)  # type: ignore[arg-type]  # just made

    def fit_data(self, data: Any, stage: str) -> None:
        """Take classes, task and input size from a data module; build the backbone if that was not done yet.

        Raises:
            ModelError: if the backbone cannot be built, its weights do not fit, or the model knows other classes.
        """
        if not self.class_names:
            self._build(data.class_names, data.multilabel)
        elif self.class_names != data.class_names or self.multilabel != data.multilabel:
            raise ModelError(
                f"the model knows {_kind(self.class_names, self.multilabel)}, the data have "
                f"{_kind(data.class_names, data.multilabel)}; use the data that it was trained on, or start from its "
                "weights (--model.weights) instead of its checkpoint"
            )
        if stage == "fit" or not self.hparams["input"]:
            self.input_config = data.input_config
            self.hparams["input"] = self.input_config.to_dict()

    def configure_callbacks(self) -> list[Callback]:
        """Return the callbacks that average and freeze weights."""
        h = self.hparams
        callbacks: list[Callback] = []
        if h["ema"]:
            # buffers are copied: an average of BEiT's integer ones would be wrong; Lightning would average on the CPU
            device = self.trainer.strategy.root_device
            callbacks.append(EMAWeightAveraging(device, use_buffers=False, decay=h["ema"]))
        if h["freeze_epochs"] > 0 or h["unfreeze_blocks_per_epoch"]:
            callbacks.append(GradualUnfreezing(h["freeze_epochs"], h["unfreeze_blocks_per_epoch"]))
        return callbacks

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Name the class of a subclass, and have averaged weights in a weights-only checkpoint, too.

        Lightning asks no callback about that one.
        """
        if type(self) is not ViTClassifier:
            checkpoint[MODEL_CLASS] = class_path(type(self))
        for averaging in self._averaging():
            if averaging._average_model is not None and "averaging_state" not in checkpoint:
                averaging.on_save_checkpoint(self.trainer, self, checkpoint)
                del checkpoint["averaging_state"], checkpoint["current_model_state"]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Resume from the trained weights, not from their average, if averaging is now switched off."""
        fitting = self._trainer is not None and self._trainer.state.fn == TrainerFn.FITTING
        if fitting and not self._averaging() and "current_model_state" in checkpoint:
            checkpoint["state_dict"] = checkpoint["current_model_state"]

    def logged_names(self) -> list[str]:
        """Return the names logged in an epoch of `fit` with a validation; known after `setup`."""
        return ["train/loss", "val/loss", *map(str, self.val_scores)]

    def _averaging(self) -> list[WeightAveraging]:
        if self._trainer is None:  # a model that is saved by a trainer that it was never fitted by
            return []
        return [c for c in self._trainer.callbacks if isinstance(c, WeightAveraging)]  # type: ignore[attr-defined]  # Lightning's list of callbacks

    def _build(self, class_names: list[str], multilabel: bool) -> None:
        """Make backbone, metrics and loss for these classes."""
        h = self.hparams
        self._loss_name = choose_loss(h["loss"], multilabel)
        h["class_names"], h["multilabel"] = list(class_names), multilabel
        self.class_names, self.multilabel = list(class_names), multilabel
        self.backbone = make_backbone(h, len(class_names))
        scores = class_scores(multilabel)
        self.val_loss, self.val_scores = ImageMean(), scores.clone("val/")
        self.test_loss, self.test_scores = ImageMean(), scores.clone("test/")

    @classmethod
    def from_checkpoint(cls, path: str | Path) -> Self:
        """Load a trained classifier, in evaluation mode on the CPU. Only plain data is read from the file.

        Raises:
            ModelError: if `path` is no checkpoint of this class.
        """
        return cls.restored(*read_settings(Path(path), class_path(cls)), Path(path))

    @classmethod
    def restored(cls, settings: dict[str, Any], state: dict[str, Tensor], path: Path) -> Self:
        """Build a classifier from the settings and weights in a file, in evaluation mode on the CPU.

        Args:
            settings: arguments of `ViTClassifier`; nothing is downloaded, whatever they say.
            state: its whole state dict.
            path: the file, for messages.

        Raises:
            ModelError: if settings and weights do not fit each other.
        """
        settings = settings | {"pretrained": False, "weights": None}
        try:
            with torch.device("meta"):  # takes no memory, whatever the settings say; raises as the next line would
                cls(**settings).load_state_dict(state, assign=True)
            model = cls(**settings)
            model.load_state_dict(state)
        except Exception as error:  # whatever a foreign file's settings make of our constructor and timm's
            raise ModelError(f"{path}: its settings and weights make no classifier ({brief(error)})") from error
        return model.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits (B, C) of normalized images (B, 3, H, W)."""
        logits: Tensor = self.backbone(in_precision_of(self.backbone, images))
        return logits

    def probabilities(self, logits: Tensor) -> Tensor:
        """Apply softmax over classes, or in multi-label data a sigmoid to each class."""
        return logits.sigmoid() if self.multilabel else logits.softmax(-1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Compute the mean loss of the batch, after mixup or CutMix or with guidance if asked for."""
        images, label, guidance = batch.image, batch.label, self._guidance
        if self._mixing is not None:
            images, label = self._mixing(images, label)
        smoothing = self.hparams["label_smoothing"]
        objects = guided_objects(batch, guidance.target) if guidance else None
        logits, outside = guided_forward(self, images, objects)
        losses = image_losses(self._loss_name, logits, label, self.multilabel, smoothing)
        self.log("train/loss", losses.mean(), prog_bar=True, batch_size=len(batch), sync_dist=True)
        if guidance:
            losses = losses + warmed_up(guidance, self.trainer, batch_idx) * outside
            self._guided += log_guidance(self, outside, objects)
        self.step_losses = losses.detach()
        return losses.mean()

    def on_train_epoch_end(self) -> None:
        """Warn if no image could be guided."""
        if self._guidance and not self._guided:
            rank_zero_warn(f"model.guidance had no effect: no training image had {self._guidance.target}")
        self._guided = 0

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Update loss and scores; return the logits."""
        return self._evaluate(batch, "val", self.val_loss, self.val_scores)

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """As `validation_step`."""
        return self._evaluate(batch, "test", self.test_loss, self.test_scores)

    def on_validation_epoch_end(self) -> None:
        """Name the classes that `val/mAP` leaves out."""
        if not self.trainer.sanity_checking:
            warn_of_absent(self.val_scores, "val", self.class_names, self._absent)

    def on_test_epoch_end(self) -> None:
        """As `on_validation_epoch_end`."""
        warn_of_absent(self.test_scores, "test", self.class_names, self._absent)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make AdamW with layer-wise learning rates, warm-up and cosine by step."""
        names = ("lr", "weight_decay", "layer_decay", "warmup_epochs")
        return optimizer_and_schedule(self.backbone, self.trainer, **{name: self.hparams[name] for name in names})

    def _evaluate(self, batch: Batch, stage: str, loss: ImageMean, scores: MetricCollection) -> Tensor:
        mirrored: Tensor | None = self(batch.image.flip(-1)) if self.hparams["test_time_flip"] else None
        logits: Tensor = self(batch.image)  # last, because the explanation's tape keeps the latest forward
        logits = at_least_single(logits)
        if mirrored is not None:
            logits = (logits + at_least_single(mirrored)) / 2
        mine = owned(batch.index, self.global_rank, self.trainer.world_size)
        own, label = logits[mine], batch.label[mine]
        loss.update(image_losses(self._loss_name, own, label, self.multilabel))
        scores.update(own, label)
        self.log(f"{stage}/loss", loss, batch_size=len(batch))
        self.log_dict(scores, batch_size=len(batch), prog_bar=True)
        return logits


def _kind(class_names: list[str], multilabel: bool) -> str:
    first = ", ".join(class_names[:3])
    more = ", …" if len(class_names) > 3 else ""
    return f"{len(class_names)} classes ({first}{more}; {'multi' if multilabel else 'single'}-label)"
