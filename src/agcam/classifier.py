"""`ViTClassifier`: a timm ViT fine-tuned by Lightning, single-label and multi-label in one class."""

from __future__ import annotations

import difflib
import math
from pathlib import Path
from typing import Any, Self

import timm
import timm.optim
import torch
import torch.nn.functional as F
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MultilabelAveragePrecision

from agcam.data.batch import Batch, owned
from agcam.data.input_config import InputConfig, from_timm
from agcam.errors import ModelError
from agcam.weights import load_weights, read_checkpoint


class ViTClassifier(LightningModule):
    """Fine-tunes a timm ViT with AdamW, linear warm-up and cosine decay by step, and layer-wise learning rates.

    Logs `train/loss`, `val/loss`, `test/loss` and, for single-label data, `val/accuracy` and `val/top5`, for
    multi-label data `val/map` (macro average precision). What the data say of themselves (`class_names`,
    `multilabel`, `input`) is taken from the data module and travels in the checkpoint.

    Args:
        backbone: name of a timm model, such as "vit_small_patch16_224.augreg_in21k".
        pretrained: load timm's weights for `backbone`.
        weights: load a local file instead: safetensors, a state dict, or an agcam checkpoint.
        image_size: side of the input in pixels; None takes the backbone's.
        backbone_args: further arguments of `timm.create_model`, such as {embed_dim: 96}.
        lr: peak learning rate of the head and the last block.
        weight_decay: of AdamW; biases and norms are left out.
        layer_decay: factor of the learning rate from each block to the one below; 1 for none.
        warmup_epochs: epochs of linear warm-up; fractions are fine.
        drop_path: stochastic depth rate of the last block.
        label_smoothing: of the cross-entropy; not for multi-label data.
        class_names: set by the data.
        multilabel: set by the data.
        input: set by the data: size and normalisation of images, as a dictionary of `InputConfig`.
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
        class_names: list[str] | None = None,
        multilabel: bool | None = None,
        input: dict[str, Any] | None = None,  # noqa: A002  # its name in checkpoints and configs
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if pretrained and weights:
            raise ModelError("give model.pretrained or model.weights, not both")
        if not timm.is_model(backbone):
            close = ", ".join(difflib.get_close_matches(backbone, timm.list_models(), n=4, cutoff=0.5))
            raise ModelError(
                f"timm has no model {backbone!r}; see timm.list_models(){f' (close: {close})' if close else ''}"
            )
        cfg = timm.get_pretrained_cfg(backbone)
        self.input_config = (
            InputConfig.from_dict(input) if input else from_timm(cfg.to_dict() if cfg else {}, image_size)
        )
        self.class_names: list[str] = []
        self.multilabel = False
        if class_names is not None and multilabel is not None:
            self._build(class_names, multilabel)

    def setup(self, stage: str) -> None:
        """Take classes, task and input size from the data module; build the backbone if that was not done yet."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it at run time
        if data is None or not hasattr(data, "class_names"):
            if not self.class_names:
                raise ModelError("ViTClassifier needs class_names and multilabel, or a data module that knows them")
            return
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

    def _build(self, class_names: list[str], multilabel: bool) -> None:
        """Make backbone, metrics and loss for these classes."""
        h = self.hparams
        h["class_names"], h["multilabel"] = list(class_names), multilabel
        self.class_names, self.multilabel = list(class_names), multilabel
        size = {"img_size": h["image_size"]} if h["image_size"] else {}
        args = {"num_classes": len(class_names), "drop_path_rate": h["drop_path"], **size, **(h["backbone_args"] or {})}
        try:
            self.backbone = timm.create_model(h["backbone"], pretrained=h["pretrained"], **args)
        except Exception as error:  # timm raises whatever its model's constructor or the network raises
            raise ModelError(f"timm cannot make {h['backbone']!r} with {args}: {error}") from error
        if h["weights"]:
            load_weights(self.backbone, Path(h["weights"]))
        classes = len(class_names)
        metrics: dict[str, Any]
        if multilabel:
            metrics = {"map": MultilabelAveragePrecision(classes, validate_args=False)}
        else:
            metrics = {
                name: MulticlassAccuracy(classes, top_k=min(k, classes), average="micro", validate_args=False)
                for name, k in (("accuracy", 1), ("top5", 5))
            }
        scores = MetricCollection(metrics)
        self.val_loss, self.val_scores = MeanMetric(), scores.clone("val/")
        self.test_loss, self.test_scores = MeanMetric(), scores.clone("test/")

    @classmethod
    def from_checkpoint(cls, path: str | Path) -> Self:
        """A trained classifier, in evaluation mode on the CPU. Nothing but plain data is read from the file.

        Raises:
            ModelError: if `path` is no checkpoint of this class.
        """
        found = read_checkpoint(Path(path))
        hparams, state = found.get("hyper_parameters"), found.get("state_dict")
        if not isinstance(hparams, dict) or not isinstance(state, dict) or not hparams.get("class_names"):
            raise ModelError(f"{path}: not a checkpoint of agcam's train.py; it has no class names and backbone in it")
        known = {k: v for k, v in hparams.items() if not k.startswith("_")}
        model = cls(**(known | {"pretrained": False, "weights": None}))
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise ModelError(
                f"{path}: its weights do not fit its own backbone ({str(error).splitlines()[-1].strip()})"
            ) from error
        return model.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of normalised images (B, 3, H, W)."""
        logits: Tensor = self.backbone(images)
        return logits

    def probabilities(self, logits: Tensor) -> Tensor:
        """Softmax over classes, or a sigmoid for each class in multi-label data."""
        return logits.sigmoid() if self.multilabel else logits.softmax(-1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Cross-entropy, or binary cross-entropy in multi-label data."""
        loss = self._loss(self(batch.image), batch.label, self.hparams["label_smoothing"])
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Update loss and scores; returns the logits."""
        return self._evaluate(batch, "val", self.val_loss, self.val_scores)

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """As `validation_step`."""
        return self._evaluate(batch, "test", self.test_loss, self.test_scores)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with timm's layer-wise parameter groups, warm-up and cosine by step."""
        h = self.hparams
        groups = timm.optim.param_groups_layer_decay(
            self.backbone,
            weight_decay=h["weight_decay"],
            layer_decay=h["layer_decay"],
            no_weight_decay_list=getattr(self.backbone, "no_weight_decay", set)(),
        )
        for group in groups:  # torch's schedulers know no `lr_scale`
            group["lr"] = h["lr"] * group.pop("lr_scale", 1.0)
        optimizer = torch.optim.AdamW(groups, lr=h["lr"])
        total = max(1, int(self.trainer.estimated_stepping_batches))
        warmup = min(total - 1, round(total * h["warmup_epochs"] / max(1, self.trainer.max_epochs or 1)))
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _schedule(step, warmup, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _loss(self, logits: Tensor, label: Tensor, smoothing: float = 0.0, reduction: str = "mean") -> Tensor:
        if self.multilabel:
            losses = F.binary_cross_entropy_with_logits(logits, label, reduction="none").mean(1)
            return losses.mean() if reduction == "mean" else losses
        return F.cross_entropy(logits, label, label_smoothing=smoothing, reduction=reduction)

    def _evaluate(self, batch: Batch, stage: str, loss: MeanMetric, scores: MetricCollection) -> Tensor:
        logits: Tensor = self(batch.image)
        mine = owned(batch.index, self.global_rank, self.trainer.world_size)
        if mine.any():
            loss.update(self._loss(logits[mine], batch.label[mine], reduction="none"))
            scores.update(logits[mine], batch.label[mine].long())
        self.log(f"{stage}/loss", loss, batch_size=len(batch))
        self.log_dict(scores, batch_size=len(batch), prog_bar=True)
        return logits


def _schedule(step: int, warmup: int, total: int) -> float:
    """Learning-rate factor: linear to 1 over `warmup` steps, then a cosine to 0 at `total`."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))


def _kind(class_names: list[str], multilabel: bool) -> str:
    first = ", ".join(class_names[:3])
    more = ", …" if len(class_names) > 3 else ""
    return f"{len(class_names)} classes ({first}{more}; {'multi' if multilabel else 'single'}-label)"
