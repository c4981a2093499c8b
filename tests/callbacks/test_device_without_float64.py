"""All that is logged and measured on a device that has no float64, as Apple's GPUs, is what the CPU gives."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import pytest
import torch

from agcam import explain
from agcam.benchmark.measure import BenchmarkConfig, measure
from agcam.benchmark.methods import parse_methods
from agcam.callbacks.explanation import ExplanationCallback
from agcam.data.shapes import ShapesDataset
from agcam.explainers.registry import methods
from agcam.metrics import map_drift, map_entropy
from agcam.metrics.registry import default_metrics, parse_metrics
from agcam.metrics.sanity import similarity
from benchmark.small_benchmarks import shapes_model, whole_batch
from metric_cases import random_heatmaps
from pretend_device import DEVICE, DeviceStrategy, pretend_device
from small_runs import classifier, shapes


def test_the_device_has_no_float64_and_mixes_with_nothing() -> None:
    with pretend_device():
        one = torch.tensor([1.0, 2.0], device="meta")
        assert (one * 2).sum().item() == 6
        for wide in (lambda: one.double(), lambda: torch.zeros(2, dtype=torch.float64).to("meta")):
            with pytest.raises(TypeError, match="no float64"):
                wide()
        with pytest.raises(RuntimeError, match="same device"):
            one + torch.ones(2)


class Places(L.Callback):
    """Notes where the model and its metrics are while it is validated."""

    def __init__(self) -> None:
        self.found: set[torch.device] = set()

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        self.found |= {p.device for p in pl_module.parameters()} | {pl_module.val_loss.total.device}


@pytest.mark.parametrize(("ground_truth", "multilabel"), [("boxes", False), ("masks", True)])
def test_a_fit_logs_what_it_logs_on_the_cpu(
    ground_truth: Literal["boxes", "masks"], multilabel: bool, tmp_path: Path
) -> None:
    found = []
    for device in (False, True):
        options: dict[str, Any] = {"strategy": DeviceStrategy()} if device else {"accelerator": "cpu"}
        places = Places()
        L.seed_everything(0, verbose=False)
        trainer = L.Trainer(
            max_epochs=2,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            default_root_dir=tmp_path,
            callbacks=[ExplanationCallback(["agcam", "random"], ground_truth=ground_truth, gallery=2), places],
            **options,
        )
        with pretend_device() if device else nullcontext():
            model, data = classifier(), shapes(multilabel=multilabel)
            trainer.fit(model, datamodule=data)
            figures = trainer.callback_metrics | trainer.test(model, datamodule=data, verbose=False)[0]
            found.append({name: float(value) for name, value in figures.items()})
        assert places.found == {DEVICE if device else torch.device("cpu")}
    assert {"val/loss", "test/loss", "val/loc/iou", "val/loc/drift", "val/loc_random/entropy"} < found[0].keys()
    assert found[1] == pytest.approx(found[0], abs=1e-6)


def test_a_benchmark_measures_what_it_measures_on_the_cpu() -> None:
    source = ShapesDataset(3, 32, "val", multilabel=True)
    config = BenchmarkConfig(tuple(parse_methods(["center"])), tuple(parse_metrics(default_metrics())), False, 4)
    alone = measure(shapes_model(), True, whole_batch(source), config)
    with pretend_device() as device:
        there = measure(shapes_model().to(device), True, whole_batch(source).to(device), config)
    assert not alone.failed | there.failed
    for label, columns in alone.rows.items():
        assert {"localization", "max_box_acc", "pxap", "segmentation", "abpc"} < columns.keys()
        for name, rows in columns.items():
            np.testing.assert_allclose(there.rows[label][name], rows, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("method", methods())
def test_every_method_explains_there_as_on_the_cpu(method: str) -> None:
    images = whole_batch(ShapesDataset(2, 32, "val")).image
    options = {"steps": 2} if method == "integrated_gradients" else {}
    expected = explain(shapes_model(), images, "all", method, **options).heatmaps
    with pretend_device() as device:
        found = explain(shapes_model().to(device), images.to(device), "all", method, **options).heatmaps.cpu()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_figures_of_maps_come_from_any_device() -> None:
    def figures(maps: torch.Tensor) -> list[torch.Tensor]:
        alike = similarity(maps, maps.flip(1), (32, 32))
        return [map_entropy(maps), map_drift(maps, maps.flip(1)), alike.spearman.cpu(), alike.ssim.cpu()]

    maps = random_heatmaps(3)
    with pretend_device() as device:
        there = figures(maps.to(device))
    torch.testing.assert_close(there, figures(maps))
