"""Write the tables of a benchmark as Markdown and LaTeX: best in bold, intervals, counts, what failed or is absent."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from agcam.benchmark.results import Estimate, Results, Row
from agcam.io.atomic import write_whole
from agcam.metrics.spec import OTHER

_ON_ONE_LINE = str.maketrans({"\n": " ", "\r": " "})
_ESCAPED_MARKDOWN = _ON_ONE_LINE | str.maketrans({c: f"\\{c}" for c in "\\`*_|<>[]#$&~"})
_ESCAPED_LATEX = _ON_ONE_LINE | str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
)


def markdown(results: Results) -> str:
    """Write a table for each group, methods down, values across.

    ↑ and ↓ say which way is better, bold which method is best. Controls stand at the end of each
    group and are never bold.
    """
    lines = ["# Explanation methods side by side", "", _headline(results, _ESCAPED_MARKDOWN), ""]
    for title, names in groups_of(results).items():
        heads = [
            f"{head} {arrow(results.values[name].higher_is_better)}".rstrip().translate(_ESCAPED_MARKDOWN)
            for name, head in names.items()
        ]
        lines += [
            f"## {title.translate(_ESCAPED_MARKDOWN)}",
            "",
            f"| method | {' | '.join(heads)} |",
            "|---|" + "--:|" * len(names),
        ]
        for row in _in_order(results.rows):
            cells = [_cell(row, name, best_of(results, name), "**{}**") for name in names]
            lines.append(f"| {_label(row).translate(_ESCAPED_MARKDOWN)} | {' | '.join(cells)} |")
        lines.append("")
    lines += ["## Cost", "", "| method | ms an image | × forward |", "|---|--:|--:|"]
    for row in _in_order(results.rows):
        cost = f"{row.cost.ms_per_image:.1f} | {row.cost.forwards:.2f}" if row.cost else "– | –"
        lines.append(f"| {_label(row).translate(_ESCAPED_MARKDOWN)} | {cost} |")
    lines += ["", *_notes(results)]
    return "\n".join(lines).rstrip() + "\n"


def latex(results: Results) -> str:
    r"""Write the same as `tabular`s for `\usepackage{booktabs}`, one for each group."""
    blocks = [f"% {_headline(results, _ON_ONE_LINE)}", "% needs \\usepackage{booktabs}"]
    arrows = {True: r" $\uparrow$", False: r" $\downarrow$", None: ""}
    for title, names in groups_of(results).items():
        heads = [
            f"{head.translate(_ESCAPED_LATEX)}{arrows[results.values[name].higher_is_better]}"
            for name, head in names.items()
        ]
        rows = [
            " & ".join(
                [
                    _label(row).translate(_ESCAPED_LATEX),
                    *(_cell(row, name, best_of(results, name), r"\textbf{{{}}}", interval=False) for name in names),
                ]
            )
            + r" \\"
            for row in _in_order(results.rows)
        ]
        blocks += [
            f"% {title.translate(_ON_ONE_LINE)}",
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
    accuracy = f"top-1 accuracy {_with_interval(results.top1_accuracy)}"
    return f"{about} · {results.images:,} images{pairs} · {accuracy} · {results.about.get('date', '')}"


def groups_of(results: Results) -> dict[str, dict[str, str]]:
    """Return the values under each heading, in the order of the table, each with the head of its column."""
    groups: dict[str, list[str]] = {}
    for name, info in results.values.items():
        groups.setdefault(info.group or OTHER, []).append(name)
    if OTHER in groups:
        groups[OTHER] = groups.pop(OTHER)  # at the end
    heads = {}
    for title, names in groups.items():
        times = Counter(_short(name) for name in names)
        heads[title] = {name: _short(name) if times[_short(name)] == 1 else _plain(name) for name in names}
    return heads


def arrow(higher_is_better: bool | None) -> str:
    """Return which way is better: ↑, ↓ or nothing."""
    return {True: "↑", False: "↓", None: ""}[higher_is_better]


def best_of(results: Results, name: str) -> float | None:
    """Return the best value of a method that is not a control; None where `best_beside_controls` names none."""
    known = [(row.values[name].value, row.control) for row in results.rows if name in row.values]
    return best_beside_controls(known, results.values[name].higher_is_better)


def best_beside_controls(values: Sequence[tuple[float, bool]], higher_is_better: bool | None) -> float | None:
    """Return the best of the values whose flag does not say control.

    None where neither way is better, where there is no value (NaN), and where a control does better: what loses to a
    map that ignores the image is no winner.
    """
    known = [(value, control) for value, control in values if not math.isnan(value)]
    honest = [value for value, control in known if not control]
    if higher_is_better is None or not honest:
        return None
    choose = max if higher_is_better else min
    best = choose(honest)
    return best if choose(value for value, _ in known) == best else None


def _in_order(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.control)


def _label(row: Row) -> str:
    return f"{row.method} (control)" if row.control else row.method


def _short(name: str) -> str:
    return _plain(name.rpartition("/")[2])


def _plain(name: str) -> str:
    return name.replace("/", " ").replace("_", " ")


def _cell(row: Row, name: str, best: float | None, bold: str, interval: bool = True) -> str:
    if name not in row.values:
        return "–"
    value = row.values[name]
    text = bold.format(f"{value.value:.3f}") if value.value == best and not row.control else f"{value.value:.3f}"
    mark = "†" if row.broken and interval else ""
    return f"{text}{mark} [{value.low:.3f}, {value.high:.3f}]" if interval else text


def _with_interval(value: Estimate) -> str:
    return f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]"


def _notes(results: Results) -> list[str]:
    counts: dict[int, list[str]] = {}
    for name in results.values:
        for count in {row.values[name].count for row in results.rows if name in row.values and not row.broken}:
            counts.setdefault(count, []).append(name.split("/")[0])
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
            notes.append(f"† {label}: {len(row.broken)} heatmaps hold NaN or infinity, in no value: {names}{more}.")
    return [f"- {note}" for note in notes]
