"""Read the output of `agcam benchmark` into a report."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from agcam.benchmark.results import Results, Row, read_json
from agcam.benchmark.tables import arrow, best_of, groups_of
from agcam.io.explained_images import PANEL, read_panel
from agcam.report import glossary as words
from agcam.report.facts import About, facts_of
from agcam.report.model import Cell, Chart, Fact, Frame, Line, Link, Part, Report, Series, Table, percent

_FILES = {
    "results.md": "the tables as Markdown",
    "results.tex": "the tables as LaTeX",
    "results.json": "everything, for programs",
    "images.csv": "every value of every image",
    "figures": "curves and pictures, PNG and PDF",
    "heatmaps": "raw heatmaps",
    "panel": "what the gallery is made of",
}


def benchmark_report(folder: Path) -> Report:
    """Read a results folder.

    Raises:
        DataError: if a file is missing or broken, with its name.
    """
    results = read_json(folder / "results.json")
    frames: list[Frame] = []
    empty, info = "", dict[str, Any]()
    if (folder / "panel" / PANEL).is_file():
        shown, info = read_panel(folder / "panel")
        frames = [Frame("benchmark", None, shown)]
    else:
        empty = "This benchmark was made by a version that kept no pictures. Run the same command again to add them."
    return Report(
        kind="benchmark",
        title=f"Explanation methods side by side: {results.about.get('data', folder.name)}",
        facts=_facts(folder, results),
        classes=results.classes,
        frames=frames,
        empty=empty,
        table=_table(results),
        charts=_charts(results),
        links=[Link(folder / name, what) for name, what in _FILES.items() if (folder / name).exists()],
        fill=read_fill(info),
        words={name: words.Word(v.label, v.help, v.higher_is_better) for name, v in results.values.items()},
        notes=_gallery_notes(results, frames),
    )


def read_fill(info: dict[str, Any]) -> tuple[int, int, int]:
    """Return the color of removed pixels that a panel names, or that of most pretrained models."""
    found = info.get("fill")
    if isinstance(found, list) and len(found) == 3 and all(isinstance(v, int) and 0 <= v <= 255 for v in found):
        return found[0], found[1], found[2]
    return Report.fill


def _facts(folder: Path, results: Results) -> list[Fact]:
    about, accuracy = results.about, results.top1_accuracy
    size, versions = (about.get("input") or {}).get("size"), about.get("versions")
    truth, batch = about.get("ground_truth"), about.get("batch_size")
    chosen = [
        f"{size} × {size} pixels" if size else "",
        f"scored against {truth}" if truth else "",
        f"batches of {batch}" if batch else "",
        "perturbed images in bf16" if about.get("perturbed_precision") == "bf16" else "",
        f"seed {about['seed']}" if "seed" in about else "",
    ]
    costs = [row.cost for row in results.rows if row.cost and not row.control]
    facts = facts_of(
        About(
            run=folder.resolve().name,
            model=str(about.get("architecture") or about.get("model", "")),
            weights=str(about.get("weights") or (about.get("model", "") if about.get("architecture") else "")),
            data=str(about.get("data", "")),
            methods=tuple(row.method for row in results.rows),
            settings=", ".join(filter(None, chosen)),
            date=str(about.get("date", ""))[:10],
            versions=versions if isinstance(versions, dict) else None,
            device=str(about.get("device", "")),
            cost=_cost([cost.ms_per_image for cost in costs]),
        )
    )
    facts.append(Fact("Images", f"{results.images:,}"))
    if results.pairs != results.images:
        facts.append(Fact("Explained classes", f"{results.pairs:,}", "Every class that an image shows is explained."))
    facts.append(
        Fact(
            "Top-1 accuracy",
            f"{percent(accuracy.value)} ({percent(accuracy.low)} – {percent(accuracy.high)})",
            "Share of images whose most probable class is right. In brackets the 95 % interval: where the share of "
            "other images of the same kind would probably lie.",
        )
    )
    return facts


def _cost(milliseconds: list[float]) -> str:
    if not milliseconds:
        return ""
    low, high = min(milliseconds), max(milliseconds)
    span = f"{low:.1f}" if f"{low:.1f}" == f"{high:.1f}" else f"{low:.1f} – {high:.1f}"
    return f"{span} ms an image and method"


def _table(results: Results) -> Table:
    rows = sorted(results.rows, key=lambda row: row.control)
    parts = [Part(title, [_line(results, rows, name) for name in names]) for title, names in groups_of(results).items()]
    cost = [
        Line(
            "Milliseconds an image",
            "How long an explanation takes on this device.",
            "",
            [Cell(f"{row.cost.ms_per_image:.1f}" if row.cost else "–") for row in rows],
        ),
        Line(
            "Times a plain prediction",
            "How many times as long explaining takes as predicting.",
            "",
            [Cell(f"{row.cost.forwards:.2f}" if row.cost else "–") for row in rows],
        ),
    ]
    return Table(
        methods=[(row.method + (" (control)" if row.control else ""), words.method(row.method)) for row in rows],
        parts=[*parts, Part("Cost", cost)],
        notes=_notes(results),
    )


def _line(results: Results, rows: list[Row], name: str) -> Line:
    info, best = results.values[name], best_of(results, name)
    return Line(info.label, info.help, arrow(info.higher_is_better), [_cell(row, name, best) for row in rows])


def _cell(row: Row, name: str, best: float | None) -> Cell:
    value = row.values.get(name)
    if value is None or math.isnan(value.value):
        return Cell("–")
    return Cell(f"{value.value:.3f}", f"{value.low:.3f} – {value.high:.3f}", value.value == best and not row.control)


def _notes(results: Results) -> list[str]:
    notes = [
        "Bold: no method and no control is better; a control is never bold. The small range under a value is its 95 % "
        "interval: where the value would lie, 95 times out of 100, had other images of the same kind been drawn. Two "
        "values whose ranges overlap widely may differ by chance alone."
    ]
    notes += [f"{metric.replace('_', ' ')}: not measured, {why}." for metric, why in results.absent.items()]
    for row in results.rows:
        if row.failed:
            notes.append(f"{row.method}: could not explain this model. {row.failed}")
        if row.broken:
            names = ", ".join(row.broken[:5]) + (", …" if len(row.broken) > 5 else "")
            notes.append(f"{row.method}: {len(row.broken)} heatmaps are broken (NaN or infinity), in no value: {names}")
    return notes


def _charts(results: Results) -> list[Chart]:
    charts = []
    for name, info in results.curves.items():
        lines = [
            Series(row.method, info.x, row.curves[name], row.control)
            for row in sorted(results.rows, key=lambda row: row.control)
            if len(row.curves.get(name, [])) == len(info.x)
        ]
        if lines:
            unit = all(0 <= y <= 1 for line in lines for y in line.y if not math.isnan(y))
            charts.append(Chart(info.label, info.help, info.x_label, lines, unit=unit))
    return charts


def _gallery_notes(results: Results, frames: list[Frame]) -> list[str]:
    if not frames:
        return []
    count = len({shown.index for shown in frames[0].shown})
    return [f"{count} of the {results.images:,} measured images, spread evenly."] if count < results.images else []
