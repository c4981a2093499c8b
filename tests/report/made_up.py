"""Made-up panels, runs and benchmarks to report on: quick, and as strange as a test needs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from agcam.benchmark.results import Cost, Estimate, Results, Row, describe_curves, describe_values, write_json
from agcam.io.explained_images import ExplainedImage, write_panel
from agcam.metrics.registry import metric_specs

METHODS = ("agcam", "rollout", "random")


def shown(
    index: int = 0,
    name: str | None = None,
    truth: tuple[str, ...] = ("cat",),
    explained: str = "cat",
    predicted: str = "cat",
    hit: bool = True,
    methods: tuple[str, ...] = METHODS,
    side: int = 64,
    objects: bool = True,
    curves: bool = True,
    seed: int | None = None,
    noise: bool = False,
) -> ExplainedImage:
    """An image with a square object at the lower right; the first method's peak lies on it if `hit`."""
    rng = np.random.default_rng(index if seed is None else seed)
    image = rng.integers(0, 255, (side, side, 3)).astype(np.uint8)
    if not noise:
        image = cv2.GaussianBlur(image, (0, 0), side / 12)
    mask = np.zeros((side, side), bool)
    mask[side // 2 :, side // 2 :] = True
    peak = np.zeros((8, 8), np.float32)
    peak[(6, 6) if hit else (1, 1)] = 1
    heatmaps = {m: rng.random((8, 8)).astype(np.float32) for m in methods}
    heatmaps[methods[0]] = cv2.GaussianBlur(peak, (0, 0), 1) + 0.03 * heatmaps[methods[0]]
    falling = np.linspace(0.9, 0.1, 11)
    return ExplainedImage(
        index=index,
        name=f"images/{index:05d}.jpg" if name is None else name,
        image=image,
        explained=explained,
        truth=truth,
        predicted=predicted,
        probability=round(0.99 - 0.001 * (index % 900), 4),
        boxes=np.array([[side / 2, side / 2, side, side]]) if objects else np.zeros((0, 4)),
        mask=mask if objects else None,
        heatmaps=heatmaps,
        figures={m: {"localization/iou": float(rng.random()), "abpc": float(rng.random())} for m in methods}
        if objects
        else {},
        curves={m: {"morf": (falling**2).tolist(), "lerf": np.sqrt(falling).tolist()} for m in methods}
        if curves
        else {},
    )


def benchmark(
    folder: Path, images: list[ExplainedImage], methods: tuple[str, ...] = METHODS, data: str = "Shapes val"
) -> Path:
    """A benchmark's folder around a panel of these images."""
    steps = [step / 10 for step in range(11)]
    rows = [
        Row(
            method,
            method == "random",
            values={
                "localization/iou": Estimate(0.5 - 0.1 * n, 0.4 - 0.1 * n, 0.6 - 0.1 * n, 40),
                "abpc": Estimate(0.3 - 0.1 * n, 0.2, 0.4, 40),
            },
            curves={"morf": [1 - s for s in steps], "lerf": [1 - s * s for s in steps]},
            cost=Cost(12.5, 1.2),
        )
        for n, method in enumerate(methods)
    ]
    specs = list(metric_specs().values())
    values, curves = describe_values(specs), describe_curves(specs)
    results = Results(
        rows=[*rows, Row("lrp", False, failed="no such layer")],
        values={name: values[name] for name in ("localization/iou", "abpc")},
        curves={name: curves[name] for name in ("morf", "lerf")},
        absent={"pxap": "the data have no masks"},
        images=40,
        pairs=40,
        top1_accuracy=Estimate(0.9, 0.8, 0.95, 40),
        about={"model": "tiny.ckpt", "data": data, "input": {"size": 64}, "device": "CPU", "date": "2026-01-02T03:04"},
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(results, folder / "results.json")
    (folder / "results.md").write_text("# results")
    write_panel(folder / "panel", images, {"stage": "benchmark", "fill": [255, 0, 0]})
    return folder


def run(folder: Path, epochs: list[list[ExplainedImage]], methods: tuple[str, ...] = METHODS) -> Path:
    """A run's folder with a panel for each epoch, metrics and settings."""
    folder.mkdir(parents=True, exist_ok=True)
    for epoch, images in enumerate(epochs):
        info = {"stage": "val", "epoch": epoch + 1, "counted_from": 1, "step": 10 * (epoch + 1)}
        write_panel(folder / "explanations" / f"val_epoch_{epoch + 1:03d}", images, info)
    lines = ["epoch,step,train/loss,val/accuracy,val/loc/iou,val/loc/count,val/loc_random/iou,val/loc_random/count"]
    for epoch in range(len(epochs)):
        lines += [
            f"{epoch},{10 * epoch + 5},{1.5 - 0.1 * epoch},,,,,",
            f"{epoch},{10 * epoch + 9},,{0.5 + 0.1 * epoch},{0.2 + 0.05 * epoch},40,0.1,40",
        ]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    (folder / "config.yaml").write_text(
        "model: {backbone: vit_tiny_patch16_224, pretrained: false}\ndata: {class_path: agcam.data.Shapes}\n"
        f"explanation: {{methods: [{', '.join(methods)}]}}\n"
    )
    return folder
