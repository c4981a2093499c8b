"""The table of a benchmark as Markdown and LaTeX: best in bold, intervals, counts, what failed and what is absent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agcam.benchmark.results import Results, Row, Value
from agcam.io.atomic import write_whole

_PARTS = (
    ("Localization, corrected protocol", ("localization/",)),
    ("Localization, protocol of Leem & Seo 2024", ("leem2024/",)),
    ("Boxes and pointing", ("max_box_acc", "gt_known_loc", "top1_loc", "pointing_game", "energy_pointing_game")),
    ("Masks", ("pxap", "segmentation/")),
    ("Faithfulness", ("abpc", "lerf_auc", "morf_auc", "insertion", "deletion", "positive", "negative", "road")),
    ("Sanity: similarity to the maps of a randomised model", ("sanity/",)),
)
_ON_ONE_LINE = str.maketrans({"\n": " ", "\r": " "})
_ESCAPED_MARKDOWN = _ON_ONE_LINE | str.maketrans({c: f"\\{c}" for c in "\\`*_|<>[]#$&~"})
_ESCAPED_LATEX = _ON_ONE_LINE | str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
)


def markdown(results: Results) -> str:
    """All figures by part, methods down, figures across; ↑ and ↓ say which way is better, bold which method is best.

    Controls stand at the end of each part and are never the best in bold.
    """
    lines = ["# Explanation methods side by side", "", _headline(results, _ESCAPED_MARKDOWN), ""]
    for title, names in parts_of(results):
        arrows = {True: " ↑", False: " ↓", None: ""}
        heads = [f"{_short(name)}{arrows[results.higher[name]]}" for name in names]
        lines += [f"## {title}", "", f"| method | {' | '.join(heads)} |", "|---|" + "--:|" * len(names)]
        for row in _in_order(results.rows):
            cells = [_cell(row, name, _best(results, name), "**{}**") for name in names]
            lines.append(f"| {_label(row).translate(_ESCAPED_MARKDOWN)} | {' | '.join(cells)} |")
        lines.append("")
    lines += ["## Cost", "", "| method | ms an image | × forward |", "|---|--:|--:|"]
    for row in _in_order(results.rows):
        cost = f"{row.cost.ms_per_image:.1f} | {row.cost.forwards:.2f}" if row.cost else "– | –"
        lines.append(f"| {_label(row).translate(_ESCAPED_MARKDOWN)} | {cost} |")
    lines += ["", *_notes(results)]
    return "\n".join(lines).rstrip() + "\n"


def latex(results: Results) -> str:
    r"""The same as `tabular`s for `\usepackage{booktabs}`, one a part."""
    blocks = [f"% {_headline(results, _ON_ONE_LINE)}", "% needs \\usepackage{booktabs}"]
    for title, names in parts_of(results):
        arrows = {True: r" $\uparrow$", False: r" $\downarrow$", None: ""}
        heads = [f"{_short(name).translate(_ESCAPED_LATEX)}{arrows[results.higher[name]]}" for name in names]
        rows = [
            " & ".join(
                [
                    _label(row).translate(_ESCAPED_LATEX),
                    *(_cell(row, name, _best(results, name), r"\textbf{{{}}}", interval=False) for name in names),
                ]
            )
            + r" \\"
            for row in _in_order(results.rows)
        ]
        blocks += [
            f"% {title}",
            rf"\begin{{tabular}}{{l{'r' * len(names)}}}",
            r"\toprule",
            " & ".join(["method", *heads]) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    return "\n".join(blocks)


def write(text: str, path: Path) -> None:
    """Write a text file; it appears under its name only when whole."""
    write_whole(path, text.encode("utf-8", errors="backslashreplace"))  # names of files may be any bytes


def _headline(results: Results, escape: dict[int, str]) -> str:
    pairs = f" ({results.pairs:,} image and class pairs)" if results.pairs != results.images else ""
    about = " · ".join(str(results.about[key]).translate(escape) for key in ("model", "data") if key in results.about)
    accuracy = f"first choice right {_with_interval(results.accuracy)}"
    return f"{about} · {results.images:,} images{pairs} · {accuracy} · {results.about.get('date', '')}"


def parts_of(results: Results) -> list[tuple[str, list[str]]]:
    """Headings, and the figures under each, in the order of the table."""
    parts = [
        (title, [name for name in results.higher if any(name.startswith(s) for s in starts)])
        for title, starts in _PARTS
    ]
    return [(title, names) for title, names in parts if names]


def _in_order(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.control)


def _label(row: Row) -> str:
    return f"{row.method} (control)" if row.control else row.method


def _short(name: str) -> str:
    return name.split("/")[-1].replace("_", " ")


def _best(results: Results, name: str) -> float | None:
    values = [row.figures[name].value for row in results.rows if name in row.figures and not row.control]
    if not values or results.higher[name] is None:
        return None
    return max(values) if results.higher[name] else min(values)


def _cell(row: Row, name: str, best: float | None, bold: str, interval: bool = True) -> str:
    if name not in row.figures:
        return "–"
    value = row.figures[name]
    shown = bold.format(f"{value.value:.3f}") if value.value == best and not row.control else f"{value.value:.3f}"
    mark = "†" if row.broken and interval else ""
    return f"{shown}{mark} [{value.low:.3f}, {value.high:.3f}]" if interval else shown


def _with_interval(value: Value) -> str:
    return f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]"


def _notes(results: Results) -> list[str]:
    counts: dict[int, list[str]] = {}
    for name in results.higher:
        for count in {row.figures[name].count for row in results.rows if name in row.figures and not row.broken}:
            counts.setdefault(count, []).append(_short(name) if name.startswith("segm") else name.split("/")[0])
    spread = "; ".join(f"{', '.join(dict.fromkeys(names))}: {count:,}" for count, names in counts.items())
    notes = [f"Intervals: bootstrap over images, 95 %. Rows counted: {spread or 'none'}."]
    notes += [f"{metric}: not measured, {why}." for metric, why in results.absent.items()]
    for row in results.rows:
        label = row.method.translate(_ESCAPED_MARKDOWN)
        if row.failed:
            notes.append(f"{label}: failed. {row.failed.translate(_ESCAPED_MARKDOWN)}")
        if row.broken:
            names = ", ".join(name.translate(_ESCAPED_MARKDOWN) for name in row.broken[:10])
            more = f", … ({len(row.broken)} in all)" if len(row.broken) > 10 else ""
            notes.append(f"† {label}: {len(row.broken)} heatmaps hold NaN or infinity, in no figure: {names}{more}.")
    return [f"- {note}" for note in notes]
