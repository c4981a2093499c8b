"""`agcam benchmark` and `agcam compare`: their options, progress, files and exit status."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from rich.text import Text

from agcam.benchmark import methods, results, tables
from agcam.benchmark.compare import Comparison, compare, open_results
from agcam.benchmark.illustrate import illustrate
from agcam.benchmark.measure import BenchmarkConfig
from agcam.benchmark.per_image import write_images_csv
from agcam.benchmark.run import Job, count_shards, run, shard_path
from agcam.benchmark.shard import Shard, read_all
from agcam.benchmark.summarize import summarize
from agcam.cli.data_config import find_config, open_split
from agcam.console.progress import open_console, progress
from agcam.data.module import Split
from agcam.errors import AgcamError, InputError
from agcam.explainers.find_vit import inspect_vit
from agcam.io.lock import locked_folder
from agcam.io.redact import without_home
from agcam.metrics.registry import default_metrics, metric_specs, parse_metrics, registered
from agcam.report.write import write_report
from agcam.training.loaded import LoadedModel


def add_benchmark(
    commands: Any, add_model: Callable[[argparse.ArgumentParser], None], load: Callable[..., Any]
) -> None:
    """Add the `benchmark` command; `add_model` adds the options that choose the model, `load` opens it."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "benchmark",
        help="compare explanation methods on a data set: localization, faithfulness, cost",
        description="Compare explanation methods on a data set. Writes results.json, results.md, results.tex, "
        "images.csv and figures/. If it was stopped, the same command resumes it.",
    )
    parser.set_defaults(run=partial(_benchmark, load=load))
    add_model(parser)
    parser.add_argument(
        "--config",
        type=Path,
        metavar="YAML",
        help="a configuration whose data: section names the data (the one beside the checkpoint); any --data.* option "
        "of agcam fit may follow",
    )
    parser.add_argument(
        "--split", choices=["train", "val", "test"], default="val", help="which split of the data (val)"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="where to write; made if missing")
    parser.add_argument(
        "--methods",
        nargs="+",
        default=list(methods.DEFAULT),
        metavar="NAME",
        help=f"methods, with options as NAME:option=value ({' '.join(methods.DEFAULT)}), or all; a function of your "
        "own as my_package.module:function; the controls are always added",
    )
    parser.add_argument(
        "--metrics",
        nargs="+",
        metavar="NAME",
        help=_metrics_help(),
    )
    parser.add_argument(
        "--ground-truth", choices=["boxes", "masks"], default="boxes", help="what overlaps are scored against (boxes)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only N images, spread evenly over the split")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="images in a batch (16)")
    parser.add_argument(
        "--devices",
        "--trainer.devices",
        type=int,
        default=1,
        metavar="N",
        help="processes, each on a GPU of its own (1)",
    )
    parser.add_argument("--save-heatmaps", action="store_true", help="keep all heatmaps, as heatmaps/*.safetensors")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the bootstrap (0)")
    parser.add_argument(
        "--quiet", "-q", action="store_true", help="print neither progress nor the table, only what went wrong"
    )
    parser.add_argument("--json", action="store_true", help="print results.json instead of a table")


def add_compare(commands: Any) -> None:
    """Add the `compare` command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "compare",
        help="compare two results, with significance; a gate for CI",
        description="Compare two results of agcam benchmark, or two methods of one, image by image (paired bootstrap). "
        "Exit status 1 if B is worse by more than --tolerance and the 95 % interval excludes zero.",
    )
    parser.set_defaults(run=_compare)
    parser.add_argument("a", type=Path, metavar="A", help="output folder of a benchmark")
    parser.add_argument(
        "b", type=Path, metavar="B", nargs="?", help="the output folder of another; A itself if left out"
    )
    parser.add_argument(
        "--methods", nargs="+", default=["agcam"], metavar="NAME", help="one method for both, or A's and B's (agcam)"
    )
    parser.add_argument(
        "--values", nargs="+", metavar="NAME", help="values to compare, such as abpc or localization/iou (all)"
    )
    parser.add_argument("--tolerance", type=float, default=0.0, metavar="X", help="how much worse B may be (0)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _benchmark(options: argparse.Namespace, load: Callable[..., Any]) -> int:
    config = BenchmarkConfig(
        methods=tuple(methods.parse_methods(options.methods)),
        metrics=tuple(parse_metrics(options.metrics or default_metrics())),
        against_masks=options.ground_truth == "masks",
        batch_size=_positive("--batch-size", options.batch_size),
        save_heatmaps=options.save_heatmaps,
    )
    devices = _devices(options.device, _positive("--devices", options.devices))
    if options.limit is not None:
        _positive("--limit", options.limit)
    opener = partial(_open, options, load)
    job = opener()
    with locked_folder(options.output):
        with progress("benchmark", len(job.positions), quiet=options.quiet) as done:
            run(job, opener, config, options.output, devices, done)
        shard = read_all([shard_path(options.output, number) for number in range(count_shards(job))])
        found = summarize(shard, config, job.about, options.seed)
        _write(found, shard, config, job, options.output)
    if options.json:
        print((options.output / "results.json").read_text(encoding="utf-8"))  # noqa: T201  # what was asked for
    console = open_console(options.quiet or options.json)
    console.print(_table(found))
    for note in [f"{metric}: not measured, {why}" for metric, why in found.absent.items()]:
        console.print(note, soft_wrap=True, highlight=False)
    for row in found.rows:  # also for those who want quiet
        wrong = [f"{row.method}: failed. {row.failed}"] if row.failed else []
        wrong += [f"{row.method}: {len(row.broken)} broken heatmaps, named in results.md"] if row.broken else []
        for line in wrong:
            open_console(stderr=options.json).print(line, soft_wrap=True, highlight=False, markup=False)
    console.print(f"see {options.output / 'results.md'}", soft_wrap=True, highlight=False, markup=False)
    return 1 if any(row.failed or row.broken for row in found.rows) else 0


def _open(options: argparse.Namespace, load: Callable[..., Any]) -> Job:
    subject: LoadedModel = load(options)
    inspect_vit(subject.model)
    config = options.config or find_config(options.checkpoint)
    split: Split = options.split
    data, source = open_split(
        config, options.data_options, split, subject.input_config, chosen=options.config is not None
    )
    if source.class_names != subject.class_names and len(source.class_names) != len(subject.class_names):
        raise InputError(
            f"the model has {len(subject.class_names)} classes, the data have {len(source.class_names)}; use the data "
            "that it was trained on"
        )
    if source.multilabel != subject.multilabel and options.checkpoint is not None:
        kinds = ("multi-label", "single-label") if subject.multilabel else ("single-label", "multi-label")
        raise InputError(
            f"the model was trained on {kinds[0]} data, and these are {kinds[1]}; use the data that it was trained on"
        )
    total = len(source)
    wanted = min(total, options.limit or total)
    return Job(
        subject=LoadedModel(subject.model, subject.class_names, data.input_config, source.multilabel),
        source=source,
        positions=[number * total // wanted for number in range(wanted)],
        num_workers=data.num_workers if options.device.startswith("cuda") else 0,
        about={
            "model": without_home(str(options.checkpoint or options.backbone)),
            "data": f"{type(data).__name__} {split}",
            "input": data.input_config.to_dict(),
            "ground_truth": options.ground_truth,
            "batch_size": options.batch_size,
        },
    )


def _write(found: results.Results, shard: Shard, config: BenchmarkConfig, job: Job, output: Path) -> None:
    tables.write(tables.markdown(found), output / "results.md")
    tables.write(tables.latex(found), output / "results.tex")
    write_images_csv(shard, config, output / "images.csv")
    illustrate(found, shard, job, config, output)
    results.write_json(found, output / "results.json")
    write_report(output)


def _compare(options: argparse.Namespace) -> int:
    if len(options.methods) > 2:
        raise InputError(f"--methods takes one name or two, found {len(options.methods)}")
    one, other = options.methods[0], options.methods[-1]
    if options.b is None and one == other:
        raise InputError("with one results folder, name two --methods to compare")
    a = open_results(options.a)
    b = open_results(options.b) if options.b is not None else a
    found = compare(a, one, b, other, options.values)
    worse = [c.value for c in found if c.worse(options.tolerance)]
    if options.json:
        rows = [vars(c) | {"difference": c.difference._asdict(), "worse": c.value in worse} for c in found]
        print(json.dumps(rows, indent=2))  # noqa: T201  # what was asked for
    else:
        open_console().print(_comparison(found, worse, f"{options.a} {one}", f"{options.b or options.a} {other}"))
    return 1 if worse else 0


def _table(found: results.Results) -> Table:
    """Make a table of the values that fit a terminal."""
    names = [name for name, info in found.values.items() if not info.minor]
    table = Table(title=f"{found.images:,} images · top-1 accuracy {found.top1_accuracy.value:.3f}")
    table.add_column("method", overflow="fold")
    for name in names:
        table.add_column(name.replace("/", " ").replace("_", " "), justify="right", overflow="fold")
    table.add_column("× forward", justify="right")
    for row in sorted(found.rows, key=lambda r: r.control):
        cells = [f"{row.values[n].value:.3f}" if n in row.values else "–" for n in names]
        cost = f"{row.cost.forwards:.2f}" if row.cost else "–"
        table.add_row(Text(f"{row.method} (control)" if row.control else row.method), *cells, cost)
    return table


def _comparison(found: Sequence[Comparison], worse: Sequence[str], a: str, b: str) -> Table:
    table = Table(title=Text(f"A: {a}\nB: {b}"))
    for name in ("value", "A", "B", "B − A", "95 % interval", "p", "images", ""):
        table.add_column(name, justify="left" if name == "value" else "right", overflow="fold")
    for c in found:
        d = c.difference
        arrow = {True: " ↑", False: " ↓", None: ""}[c.higher_is_better]
        cells = (
            f"{c.a:.4f}",
            f"{c.b:.4f}",
            f"{d.difference:+.4f}",
            f"{d.low:+.4f} … {d.high:+.4f}",
            f"{d.p_value:.3f}",
        )
        table.add_row(c.value + arrow, *cells, str(c.count), "worse" if c.value in worse else "")
    return table


def _metrics_help() -> str:
    """List the metrics that are measured by default and the others, with what each measures."""
    try:
        specs, broken = metric_specs(), ""
    except AgcamError as error:  # the command itself will report it; --help must work all the same
        specs, broken = registered(), f" ({error})"
    lists = [
        ", ".join(
            f"{spec.name}{f' ({spec.help})' if spec.help else ''}" for spec in specs.values() if spec.slow == slow
        )
        for slow in (False, True)
    ]
    text = f"what to measure: {lists[0]}; only if named: {lists[1]}; or all, or my_package.module:spec{broken}"
    return text.replace("%", "%%")


def _devices(device: str, count: int) -> list[str]:
    if count == 1:
        return [device]
    if device == "cpu":
        return ["cpu"] * count
    available = torch.cuda.device_count()
    if count > available:
        raise InputError(f"--devices {count}: this machine has {available} GPUs")
    return [f"cuda:{number}" for number in range(count)]


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise InputError(f"{name} must be at least 1, found {value}")
    return value
