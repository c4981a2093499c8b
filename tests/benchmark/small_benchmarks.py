"""Small benchmarks of generated shapes by a small ViT: checkpoints, data with gaps, runs without the command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from agcam.benchmark.measure import BenchmarkConfig
from agcam.benchmark.methods import parse_methods
from agcam.benchmark.results import Results
from agcam.benchmark.run import Job, count_shards, run, shard_path
from agcam.benchmark.shard import Shard, join_shards, read
from agcam.benchmark.summarize import summarize
from agcam.data.batch import IGNORE, Batch, Example, collate
from agcam.data.input_config import InputConfig
from agcam.data.shapes import CLASSES, ShapesDataset
from agcam.data.source import ExampleDataset, TransformedDataset
from agcam.data.transforms import Transform
from agcam.metrics.registry import parse_metrics
from agcam.training.classifier import ViTClassifier
from agcam.training.loaded import LoadedModel
from explainers.small_models import small_model, spread

INPUT = InputConfig(size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop_pct=0.9)


class Gaps(ShapesDataset):
    """Shapes whose upper rows are nobody's, and whose third image nobody has annotated."""

    def __getitem__(self, index: int) -> Example:
        example = super().__getitem__(index)
        if index == 2:
            return replace(example, boxes=None, box_labels=None, mask=None)
        example.mask[:4] = IGNORE
        return example


def write_checkpoint(
    path: Path, multilabel: bool = False, seed: int = 1, entering: dict[str, Any] | None = None, **changes: Any
) -> Path:
    """A checkpoint as Lightning writes it, of a small classifier of shapes with random weights."""
    args = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, **changes}
    model = ViTClassifier(
        "vit_tiny_patch16_224",
        image_size=32,
        backbone_args=args,
        class_names=CLASSES,
        multilabel=multilabel,
        input=entering,
    )
    spread(model.backbone, seed)
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    model.trainer = trainer
    trainer.strategy.connect(model)
    trainer.save_checkpoint(path)
    return path


def shapes_model() -> nn.Module:
    """The model in `write_checkpoint`, bare: right for a quarter of the images."""
    return small_model(seed=1, num_classes=len(CLASSES), embed_dim=32, num_heads=2)


def make_job(source: ExampleDataset) -> Job:
    """All of a source, explained by the small model."""
    subject = LoadedModel(shapes_model(), source.class_names, INPUT, source.multilabel)
    return Job(subject, source, range(len(source)), about={"model": "small", "data": "Shapes"})


def measure(
    output: Path, source: ExampleDataset, methods: Sequence[str], metrics: Sequence[str], against_masks: bool = False
) -> tuple[Results, Shard]:
    """What the command does, without figures and tables."""
    job = make_job(source)
    config = BenchmarkConfig(tuple(parse_methods([*methods])), tuple(parse_metrics([*metrics])), against_masks, 7, True)
    run(job, _never, config, output, ["cpu"], lambda count: None)
    shard = join_shards([read(shard_path(output, number)) for number in range(count_shards(job))])
    return summarize(shard, config, job.about), shard


def whole_batch(source: ExampleDataset) -> Batch:
    """All images of a source as the benchmark shows them to the model."""
    dataset = TransformedDataset(source, Transform(INPUT))
    return collate([dataset[index] for index in range(len(source))])


def read_heatmaps(output: Path, method: str) -> Tensor:
    """All heatmaps (P, h, w) that a run kept."""
    return torch.cat([load_file(path)[method] for path in sorted((output / "heatmaps").iterdir())])


def _never() -> NoReturn:
    raise AssertionError("one process opens nothing twice")
