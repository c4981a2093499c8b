"""`agcam benchmark` and `agcam compare`: their options, progress, files and exit status."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import torch
from rich.table import Table
from rich.text import Text

from agcam.benchmark import methods, results, tables
from agcam.benchmark.illustrate import illustrate
from agcam.benchmark.measure import BenchmarkConfig
from agcam.benchmark.per_image import write_images_csv
from agcam.benchmark.run import Job, count_shards, shard_path
from agcam.benchmark.run import run as run_job
from agcam.benchmark.shard import Shard, read_all
from agcam.benchmark.summarize import summarize
from agcam.callbacks.gallery import evenly_spaced
from agcam.cli.data_config import find_config, open_split
from agcam.cli.load_model import load_model
from agcam.console.progress import open_console, progress
from agcam.data.module import Split
from agcam.errors import InputError
from agcam.explainers.find_vit import inspect_vit
from agcam.io.lock import locked_folder
from agcam.io.redact import without_home
from agcam.metrics.registry import default_metrics, parse_metrics
from agcam.report.write import write_report
from agcam.training.loaded import LoadedModel, architecture_of, choose_device


def run(options: argparse.Namespace) -> int:
    """Run `agcam benchmark`; return its exit status."""
    config = BenchmarkConfig(
        methods=tuple(methods.parse_methods(options.methods)),
        metrics=tuple(parse_metrics(options.metrics or default_metrics())),
        against_masks=options.ground_truth == "masks",
        batch_size=_positive("--batch-size", options.batch_size),
        save_heatmaps=options.save_heatmaps,
        perturbed_precision=options.perturbed_precision,
    )
    devices = _devices(choose_device(options.device), _positive("--devices", options.devices))
    if options.limit is not None:
        _positive("--limit", options.limit)
    opener = partial(_open, options)
    job = opener()
    with locked_folder(options.output):
        with progress("benchmark", len(job.positions), quiet=options.quiet) as done:
            run_job(job, opener, config, options.output, devices, done)
        shard = read_all([shard_path(options.output, number) for number in range(count_shards(job))])
        names, several = job.subject.class_names, job.subject.multilabel
        found = summarize(shard, config, job.about, options.seed, names, several)
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
    for what, file in (("table", "results.md"), ("report", "report.html")):
        console.print(f"{what:<12} {options.output / file}", soft_wrap=True, highlight=False, markup=False)
    return 1 if any(row.failed or row.broken for row in found.rows) else 0


def _open(options: argparse.Namespace) -> Job:
    subject = load_model(options)
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
    return Job(
        subject=LoadedModel(subject.model, subject.class_names, data.input_config, source.multilabel),
        source=source,
        positions=sorted(evenly_spaced(len(source), options.limit or len(source))),
        num_workers=data.num_workers if choose_device(options.device).startswith("cuda") else 0,
        about={
            "model": without_home(str(options.checkpoint or options.backbone)),
            "architecture": architecture_of(subject.model),
            "data": data.describe(split),
            "input": data.input_config.to_dict(),
            "ground_truth": options.ground_truth,
            "batch_size": options.batch_size,
            "perturbed_precision": options.perturbed_precision,
        },
    )


def _write(found: results.Results, shard: Shard, config: BenchmarkConfig, job: Job, output: Path) -> None:
    tables.write(tables.markdown(found), output / "results.md")
    tables.write(tables.latex(found), output / "results.tex")
    write_images_csv(shard, config, output / "images.csv")
    illustrate(found, shard, job, config, output)
    results.write_json(found, output / "results.json")
    write_report(output)


def _table(found: results.Results) -> Table:
    """Make a table of the values that fit a terminal."""
    names = [name for name, info in found.values.items() if not info.minor]
    table = Table(
        title=f"{found.images:,} images · top-1 accuracy {_with_interval(found.top1_accuracy)}",
        caption="↑ higher is better, ↓ lower is better; [95 % interval over images]",
        show_lines=True,
    )
    table.add_column("method", overflow="fold")
    for name in names:
        head = f"{name.replace('/', ' ').replace('_', ' ')} {tables.arrow(found.values[name].higher_is_better)}"
        table.add_column(head.rstrip(), justify="right", overflow="fold")
    table.add_column("× forward", justify="right")
    for row in sorted(found.rows, key=lambda r: r.control):
        cells = [_with_interval(row.values[n], "\n") if n in row.values else "–" for n in names]
        cost = f"{row.cost.forwards:.2f}" if row.cost else "–"
        table.add_row(Text(f"{row.method} (control)" if row.control else row.method), *cells, cost)
    return table


def _with_interval(estimate: results.Estimate, between: str = " ") -> Text:
    return Text(f"{estimate.value:.3f}{between}[{estimate.low:.3f}, {estimate.high:.3f}]")


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
