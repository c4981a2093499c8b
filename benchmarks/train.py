"""Measure what training costs beside a hand-written loop and transforms, and what the image cache saves.

python benchmarks/train.py [--only a b c d e] [--device cuda --precision bf16] [--images DIR] [--output DIR]

All variants of a part run in turn within one process. Speeds are medians over rounds; the last column is the median
of the ratios to the part's first variant within a round.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import warnings
from pathlib import Path
from typing import Any

# as `agcam fit` does
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

import guided_step
import input_pipeline
import train_step
from timing import machine

PARTS = {
    "a": ("Training step: Lightning's Trainer against a bare loop", [train_step.steps]),
    "b": ("Training transforms on one core, boxes and masks included", [input_pipeline.transforms]),
    "c": ("Cache of decoded images, loading on one core (building on all)", [input_pipeline.cache]),
    "d": ("Training, validation and CSV log: Lightning's Trainer against a bare loop", [train_step.fits]),
    "f": ("Training step: with guidance against without", [guided_step.guided]),
    "e": ("Switches on CUDA", [train_step.variants, input_pipeline.switches]),
}


def main() -> None:
    """Measure and print; with --output also write train.md and train.json there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(PARTS), help="parts; e is left out without CUDA")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="bf16 is autocast")
    parser.add_argument("--model", default="vit_small_patch16_224", help="for a, d, e and f, beside a small one")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=2, help="steps of a turn; take some 20 on a GPU")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=Path, help="photographs for b, c and e; drawn ones otherwise")
    parser.add_argument("--count", type=int, default=64, help="how many of them")
    parser.add_argument("--pixels", type=int, nargs=2, default=[1500, 1000], metavar=("W", "H"), help="of drawn ones")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")

    wanted = options.only or [part for part in PARTS if part != "e" or options.device.startswith("cuda")]
    where = machine(options.device) | {k: str(getattr(options, k)) for k in ("precision", "steps", "rounds", "count")}
    lines, rows = [" · ".join(f"{k} {v}" for k, v in where.items())], []
    for part in wanted:
        title, measures = PARTS[part]
        found = [row for measure in measures for measured in measure(options) for row in _rows(part, *measured)]
        lines += ["", title, "", "| case | variant | images/s | × first |", "|---|---|--:|--:|"]
        lines += [f"| {r['case']} | {r['variant']} | {r['images_per_second']:.1f} | {r['speed']:.3f} |" for r in found]
        rows += found
    table = "\n".join(lines) + "\n"
    print(table)
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        stem = f"train_{options.device.split(':')[0]}_{options.precision}"
        (options.output / f"{stem}.md").write_text(table)
        (options.output / f"{stem}.json").write_text(json.dumps({"where": where, "rows": rows}, indent=2) + "\n")


def _rows(part: str, case: str, images: int, timings: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "part": part,
            "case": case,
            "variant": name,
            "images_per_second": images / timing.median,
            "speed": statistics.median(1 / ratio for ratio in timing.ratios),
        }
        for name, timing in timings.items()
    ]


if __name__ == "__main__":
    main()
