"""`agcam audit`: what it does and prints."""

from __future__ import annotations

import argparse
import datetime
import shlex
from dataclasses import replace
from pathlib import Path

from rich.table import Table

from agcam import __version__
from agcam.audit.collect import collect_looks
from agcam.audit.examine import examine
from agcam.audit.findings import AUDIT, Audit
from agcam.audit.groups import scikit_learn
from agcam.audit.write import write_examples, write_looks
from agcam.callbacks.gallery import evenly_spaced
from agcam.cli.data_config import find_config, open_split
from agcam.cli.load_model import load_model
from agcam.cli.own_command import own_command
from agcam.console.progress import open_console, progress
from agcam.data.module import Split
from agcam.errors import InputError, ModelError
from agcam.explainers.find_vit import inspect_vit
from agcam.io.json import write_json
from agcam.io.lock import locked_folder
from agcam.io.names import relative
from agcam.io.redact import without_home
from agcam.report.write import write_report
from agcam.training.loaded import LoadedModel, choose_device
from agcam.training.remote import is_remote

_SHOWN = 6
_LOOKED_AT = 32  # images, to see whether the data have boxes


def run(options: argparse.Namespace) -> int:
    """Run `agcam audit`; return its exit status, 0 whatever was found."""
    for name in ("batch_size", "limit"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} must be at least 1, found {value}")
    scikit_learn()  # refuses before the work what it would refuse after
    checkpoint = find_checkpoint(options.subject)
    if is_remote(checkpoint) and options.output is None:
        raise InputError(f"{checkpoint} lies elsewhere: --output says where to write")
    options.checkpoint, options.pretrained = checkpoint, False
    subject = load_model(options)
    inspect_vit(subject.model)
    config = options.config or find_config(checkpoint)
    split: Split = options.split
    chosen = options.config is not None
    data, source = open_split(config, options.data_options, split, subject.input_config, chosen=chosen)
    if len(source.class_names) != len(subject.class_names) or source.multilabel != subject.multilabel:
        raise InputError(
            f"the model has {len(subject.class_names)} classes, the data have {len(source.class_names)}, or only one "
            "of both is multi-label; use the data that it was trained on"
        )
    positions = sorted(evenly_spaced(len(source), options.limit or len(source)))
    subject = LoadedModel(subject.model, subject.class_names, data.input_config, source.multilabel)
    workers = data.num_workers if choose_device(options.device).startswith("cuda") else 0
    output = options.output or _default_output(checkpoint)
    with locked_folder(output):
        with progress("audit", len(positions), quiet=options.quiet) as done:
            looks = collect_looks(subject, source, positions, options.batch_size, workers, done)
        about = {
            "model": without_home(str(checkpoint)),
            "data": data.describe(split),
            "method": "agcam",
            "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "agcam": __version__,
            "fill": [round(255 * channel) for channel in data.input_config.mean],
        }
        examined = examine(looks, subject.class_names, about)
        commands: list[str] = []
        if examined.audit.suspicious and examined.audit.known:
            boxed = any(source[position].boxes is not None for position in positions[:_LOOKED_AT])
            commands = _commands("boxes" if boxed else "masks", options, config, checkpoint)
        audit = replace(examined.audit, commands=commands)
        write_looks(looks, examined, subject.class_names, output / "looks.csv")
        write_examples(looks, audit, subject, source, output / "panel")
        write_json(output / AUDIT, audit, indent=2)
        report = write_report(output)
    if options.json:
        print((output / AUDIT).read_text(encoding="utf-8"))  # noqa: T201  # what was asked for
        return 0
    console = open_console(options.quiet)
    console.print(_table(audit))
    for line in (audit.verdict, *(f"    {command}" for command in audit.commands), f"report       {report}"):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    return 0


def find_checkpoint(path: Path) -> Path:
    """Return the best checkpoint of a run's folder, or else its last; anything else is returned as it is.

    Raises:
        ModelError: if there is no such file, or the run has no checkpoint.
    """
    if is_remote(path):
        return path
    if not path.exists():
        raise ModelError(f"{path}: no such file or folder; expected a run (runs/NAME/version_N) or a checkpoint")
    if not path.is_dir() or (path / "config.json").is_file():  # a folder that agcam export wrote
        return path
    for pattern in ("best*.ckpt", "last*.ckpt", "*.ckpt"):
        if found := sorted((path / "checkpoints").glob(pattern), key=lambda file: file.stat().st_mtime_ns):
            return found[-1]
    raise ModelError(f"{path}: no checkpoint in {path / 'checkpoints'}; name a checkpoint, or a run that has one")


def _default_output(checkpoint: Path) -> Path:
    beside = checkpoint.parent if checkpoint.is_file() else checkpoint
    return (beside.parent if beside.name == "checkpoints" else beside) / "audit"


def _commands(target: str, options: argparse.Namespace, config: Path | None, checkpoint: Path) -> list[str]:
    """Return the commands that would guide the model by boxes or masks away from what was found, and compare."""
    given = [*(["--config", relative(config)] if config else []), *options.data_options]
    call, data = own_command(), shlex.join(given)
    guidance = f"--model.guidance '{{weight: 2, target: {target}}}'"
    return [
        # without a configuration it is not known how the model was trained
        f"{call} fit {'' if config else '… '}{data} {guidance}",
        f"{call} benchmark --checkpoint {shlex.quote(relative(checkpoint))} {data} --output before",
        f"{call} benchmark --checkpoint GUIDED.ckpt {data} --output after",
        f"{call} compare before after --methods agcam",
    ]


def _table(audit: Audit) -> Table:
    """Make a table of the groups that fit a terminal."""
    table = Table(
        title=f"{audit.images:,} images · {100 * audit.errors:.1f} % errors",
        caption="rests on: probability of the class lost with the hottest patches outside hidden [95 % interval]",
    )
    for name, justify in (
        ("group", "left"),
        ("hot outside in", "left"),
        ("heatmaps", "right"),
        ("errors", "right"),
        ("rests on", "right"),
    ):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]  # one of rich's words
    for number, group in enumerate(audit.groups[:_SHOWN], 1):
        found = group.reliance
        mark = " suspicious" if group.suspicious else ""
        rests = f"{100 * found.value:.0f} % \\[{100 * found.low:.0f}, {100 * found.high:.0f}]"
        table.add_row(f"{number}{mark}", group.place, f"{group.looks:,}", f"{100 * group.errors:.0f} %", rests)
    return table
