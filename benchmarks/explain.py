"""Measure what an explanation costs, beside a plain forward pass of the same model, batch and precision.

python benchmarks/explain.py [--device cuda] [--model vit_base_patch16_224] [--batch 8] [--output DIR]

Times are medians of interleaved rounds; ratios are medians of the ratios within a round. Memory is measured in a
fresh process for each variant: its peak above what it held before the model was made (CUDA: allocated by torch).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from baselines import eager, one_image_at_a_time
from timing import interleave, machine, resident_bytes
from torch import Tensor, nn

import agcam

_TOGETHER = ["agcam", "contrast_cam", "raw_attention", "attention_gradcam"]
_SLOW = {"eager", "one image at a time", "Captum IG, 20 steps", "agcam, all classes"}


def main() -> None:
    """Measure and print; with --output also write NAME.md and NAME.json there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="vit_small_patch16_224")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="bf16 is autocast")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--slow-rounds", type=int, default=2, help="rounds of the variants that take minutes")
    parser.add_argument("--no-memory", action="store_true", help="skip the memory measurement")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--only", help=argparse.SUPPRESS)  # measures the memory of one variant, in a fresh process
    options = parser.parse_args()
    if options.only:
        print(json.dumps(_peak(options)))
        return
    model, images = _subject(options)
    variants = _variants(model, images, options)
    fast = {name: run for name, run in variants.items() if name not in _SLOW}
    slow = {name: run for name, run in variants.items() if name in _SLOW or name == "forward"}
    timings = interleave(fast, options.rounds, options.device)
    timings |= {n: t for n, t in interleave(slow, options.slow_rounds, options.device).items() if n != "forward"}
    rows = []
    for name in variants:
        row = {"variant": name, "ms_per_image": 1000 * timings[name].median / options.batch}
        row |= {"images_per_second": options.batch / timings[name].median, "ratio": timings[name].ratio}
        if not options.no_memory:
            row["peak_bytes"] = _peak_of(name)
        rows.append(row)
    where = machine(options.device) | {k: str(getattr(options, k)) for k in ("model", "batch", "precision", "rounds")}
    table = _markdown(rows, where)
    print(table)
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        stem = f"explain_{options.model}_b{options.batch}_{options.device.split(':')[0]}_{options.precision}"
        (options.output / f"{stem}.md").write_text(table)
        (options.output / f"{stem}.json").write_text(json.dumps({"where": where, "rows": rows}, indent=2) + "\n")


def _subject(options: argparse.Namespace) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model = timm.create_model(options.model).eval().to(options.device)
    size = model.patch_embed.img_size
    return model, torch.randn(options.batch, 3, *size, device=options.device)


def _variants(model: nn.Module, images: Tensor, options: argparse.Namespace) -> dict[str, Callable[[], object]]:
    def precision() -> Any:
        return torch.autocast(images.device.type, torch.bfloat16) if options.precision == "bf16" else nullcontext()

    def plain() -> Tensor:
        with torch.inference_mode(), precision():
            return model(images)

    def ours(targets: Any, method: str = "agcam", **chosen: Any) -> agcam.Explanation:
        with precision():
            return agcam.explain(model, images, targets, method, **chosen)

    def together() -> dict[str, agcam.Explanation]:
        with precision():
            return agcam.explain(model, images, methods=_TOGETHER)

    def other(method: Callable[[nn.Module, Tensor], Tensor]) -> Tensor:
        with precision():
            return method(model, images)

    def halves() -> list[agcam.Explanation]:
        with precision():
            return [agcam.explain(model, half) for half in images.chunk(2)]

    twenty = torch.arange(20, device=images.device).expand(len(images), -1)
    variants: dict[str, Callable[[], object]] = {
        "forward": plain,
        "agcam, 1 class": partial(ours, None),
        "agcam, 1 class, half the batch at a time": halves,
        "agcam, 20 classes": partial(ours, twenty),
        "agcam, all classes": partial(ours, "all"),
        "contrast_cam, 1 class": partial(ours, None, "contrast_cam"),
        "LeGrad, class token's readout": partial(ours, None, "legrad", readout="class"),
        "raw attention": partial(ours, None, "raw_attention"),
        "attention Grad-CAM": partial(ours, None, "attention_gradcam"),
        "agcam, contrast_cam, raw attention, attention Grad-CAM at once": together,
        "eager": partial(other, eager),
        "one image at a time": partial(other, one_image_at_a_time),
    }
    if importlib.util.find_spec("pytorch_grad_cam"):
        variants["pytorch-grad-cam"] = partial(other, _grad_cam)
    if importlib.util.find_spec("captum"):
        variants["Captum IG, 20 steps"] = partial(other, _integrated_gradients)
    return variants


def _grad_cam(model: nn.Module, images: Tensor) -> Any:
    from pytorch_grad_cam import GradCAM

    h, w = model.patch_embed.grid_size

    def to_grid(tokens: Tensor) -> Tensor:
        return tokens[:, 1:].reshape(len(tokens), h, w, -1).permute(0, 3, 1, 2)

    with GradCAM(model, [model.blocks[-1].norm1], reshape_transform=to_grid) as cam:
        return cam(images, targets=None)


def _integrated_gradients(model: nn.Module, images: Tensor) -> Any:
    from captum.attr import IntegratedGradients

    target = model(images).argmax(1)
    return IntegratedGradients(model).attribute(images, target=target, n_steps=20, internal_batch_size=len(images))


def _peak(options: argparse.Namespace) -> int:
    """Return the peak of two runs of one variant, in bytes above what was used before the model was made."""
    # a first run, of a tiny model, loads libraries, thread pools and lazy imports
    small = timm.create_model("vit_tiny_patch16_224", embed_dim=24, depth=1, num_heads=2).eval().to(options.device)
    _variants(small, torch.zeros(1, 3, 224, 224, device=options.device), options)[options.only]()
    before = resident_bytes(peak=False)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    model, images = _subject(options)
    run = _variants(model, images, options)[options.only]
    run()
    run()
    return torch.cuda.max_memory_allocated() if options.device.startswith("cuda") else resident_bytes(True) - before


def _peak_of(name: str) -> int:
    """Return the median peak of several processes: fragmentation of the heap changes it by up to a fifth."""
    command = [sys.executable, *sys.argv, "--only", name]
    runs = range(1 if name in _SLOW else 5)
    printed = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in runs]
    return int(statistics.median(json.loads(lines.splitlines()[-1]) for lines in printed))


def _markdown(rows: list[dict[str, Any]], where: dict[str, str]) -> str:
    lines = [" · ".join(f"{k} {v}" for k, v in where.items()), ""]
    lines += [
        "| variant | ms per image | images/s | × forward | peak memory | × forward |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        memory = "– | –"
        if "peak_bytes" in row:
            memory = f"{row['peak_bytes'] / 2**20:,.0f} MiB | {row['peak_bytes'] / rows[0]['peak_bytes']:.2f}"
        cells = f"{row['ms_per_image']:.2f} | {row['images_per_second']:.1f} | {row['ratio']:.3f} | {memory}"
        lines.append(f"| {row['variant']} | {cells} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
