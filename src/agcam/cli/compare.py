"""`agcam compare`: what it does and prints."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from agcam.benchmark.compare import Comparison, compare, open_results
from agcam.console.progress import open_console
from agcam.errors import InputError


def run(options: argparse.Namespace) -> int:
    """Run `agcam compare`; return its exit status."""
    if len(options.methods) > 2:
        raise InputError(f"--methods takes one name or two, found {len(options.methods)}")
    one, other = options.methods[0], options.methods[-1]
    if options.b is None and one == other:
        raise InputError("with one results folder, name two --methods to compare")
    a = open_results(options.a)
    b = open_results(options.b) if options.b is not None else a
    found = compare(a, one, b, other, options.values)
    verdicts = [_verdict(c, options.tolerance) for c in found]
    if options.json:
        rows = [
            vars(c) | {"difference": c.difference._asdict()} | {name: v == name for name in ("better", "worse")}
            for c, v in zip(found, verdicts, strict=True)
        ]
        print(json.dumps(rows, indent=2))  # noqa: T201  # what was asked for
    else:
        open_console().print(_comparison(found, verdicts, f"{options.a} {one}", f"{options.b or options.a} {other}"))
    return 1 if "worse" in verdicts else 0


def _verdict(c: Comparison, tolerance: float) -> str:
    return "worse" if c.worse(tolerance) else "better" if c.better else ""


def _comparison(found: Sequence[Comparison], verdicts: Sequence[str], a: str, b: str) -> Table:
    table = Table(
        title=Text(f"A: {a}\nB: {b}"),
        caption="better, worse: B than A, with 95 % confidence; ↑ higher is better, ↓ lower is better",
    )
    for name in ("value", "A", "B", "B − A", "95 % interval", "p", "images", ""):
        table.add_column(name, justify="left" if name == "value" else "right", overflow="fold")
    for c, verdict in zip(found, verdicts, strict=True):
        d = c.difference
        arrow = {True: " ↑", False: " ↓", None: ""}[c.higher_is_better]
        cells = (
            f"{c.a:.4f}",
            f"{c.b:.4f}",
            f"{d.difference:+.4f}",
            f"{d.low:+.4f} … {d.high:+.4f}",
            f"{d.p_value:.3f}",
        )
        table.add_row(c.value + arrow, *cells, str(c.count), verdict)
    return table
