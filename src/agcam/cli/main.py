"""The command `agcam`, also `python -m agcam`, and train.py and explain.py in a checkout; imports no torch."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from agcam.cli.train_help import train_help
from agcam.console.debug import debugging
from agcam.console.one_line import print_error
from agcam.console.unread import quiet_when_unread

# Idle OpenMP threads sleep after some 50 µs: spinning longer takes the cores that loader workers need; sleeping at once
# makes small models wait until they wake. Torch reads these when the commands below load it.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

TRAIN, EXPLAIN = "agcam.cli.train", "agcam.cli.explain"
GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "train": {
        "fit": (TRAIN, "train a classifier and show every epoch where it looks"),
        "validate": (TRAIN, "score a checkpoint on the validation split"),
        "test": (TRAIN, "score a checkpoint on the test split"),
        "lr_find": (TRAIN, "suggest a learning rate"),
        "scale_batch_size": (TRAIN, "find the largest batch that fits into memory"),
        "export": (TRAIN, "write a checkpoint for timm, as one graph with heatmaps (ONNX, torch), or as a web page"),
    },
    "explain": {
        "images": (EXPLAIN, "explain photographs: overlays, raw heatmaps, predictions"),
        "benchmark": (EXPLAIN, "compare explanation methods on a data set: localization, faithfulness, cost"),
        "compare": (EXPLAIN, "compare two results, with significance; a gate for CI"),
        "audit": (EXPLAIN, "find what a classifier's decisions rest on beside the objects"),
        "report": (EXPLAIN, "write one HTML file to look at a run, a benchmark, an audit or explained photographs"),
        "demo": (EXPLAIN, "serve a page that classifies a photograph and shows where the model looks"),
    },
}
COMMANDS = {name: module for group in GROUPS.values() for name, (module, _) in group.items()}
NO_COMMANDS = {
    "train": "`agcam fit` trains",
    "predict": "`agcam images` predicts and explains photographs; `agcam test` scores a checkpoint on a data set",
    "explain": "`agcam images` explains photographs, `agcam benchmark` compares methods",
    "evaluate": "`agcam test` and `agcam validate` score a checkpoint on a data set",
    "resume": "`agcam fit … --ckpt_path last` resumes a run",
}
"""What people try, and which command does it."""
_OF_LIGHTNING_CLI = [name for name in GROUPS["train"] if name != "export"]
_PRINT_COMPLETION = "--print-completion"


def main(args: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status.

    0, 1 if an image or comparison failed, 2 for bad input, 130 for Ctrl-C, 141 if the reader of its output is gone.
    """
    with quiet_when_unread():
        return _run(args)


def _run(args: Sequence[str] | None) -> int:
    given = list(sys.argv[1:] if args is None else args)
    name = os.path.basename(sys.argv[0])  # noqa: PTH119  # importing pathlib costs more than this line
    if name == "__main__.py":
        name = sys.argv[0] = "agcam"
    if not given or given[0] in ("-h", "--help"):
        print(usage(name))  # noqa: T201  # what was asked for
        return 0 if given else 2
    if given[0] == "--version":
        from agcam import __version__

        print(__version__)  # noqa: T201  # what was asked for
        return 0
    if given[0] in COMMANDS:
        module = COMMANDS[given[0]]
    elif given[0].startswith("-"):  # LightningCLI takes `--config FILE` before the command, too
        module = TRAIN
    else:
        return _no_command(given[0])
    if module == TRAIN and given[0].startswith("-") and given[0].partition("=")[0] != _PRINT_COMPLETION:
        named = [arg for arg in given if arg in COMMANDS or arg in NO_COMMANDS]
        if not any(name in _OF_LIGHTNING_CLI for name in named):
            if any(arg in ("-h", "--help") for arg in given):
                print(usage(name))  # noqa: T201  # what was asked for
                return 0
            return _no_command(named[0] if named else "")
    with debugging(given):
        try:
            if module == TRAIN and given[0] in _OF_LIGHTNING_CLI:
                if any(argument in ("-h", "--help") for argument in given):
                    print(train_help(name, given[0], GROUPS["train"][given[0]][1]))  # noqa: T201  # what was asked for
                    return 0
                import_module("agcam.cli.option_names").check_option_names(given[1:])  # loads YAML
            run = import_module(module).main
        except Exception as error:  # importing Lightning reads the environment, which may fail
            return print_error(error)
        return int(run(None if args is None else given))


def _no_command(given: str) -> int:
    """Say that there is no such command, or none in its place, and what there is; return the exit status."""
    if given in COMMANDS:
        said = f"put the command first: agcam {given} …"
    elif not given:
        said = f"no command is named; put one first: {', '.join(COMMANDS)}"
    else:
        near = difflib.get_close_matches(given, COMMANDS, n=1)
        hint = NO_COMMANDS.get(given) or (f"Did you mean {near[0]}?" if near else "")
        said = f"no command {given!r}. {hint}{'. ' if given in NO_COMMANDS else ' ' * bool(hint)}"
        said += f"There are {', '.join(COMMANDS)}"
    print(f"error: {said}", file=sys.stderr)  # noqa: T201  # the command's own voice
    return 2


def usage(name: str) -> str:
    """Describe all commands, as `--help` shows them."""
    width = max(map(len, COMMANDS))
    lines = [f"usage: {name} COMMAND [OPTIONS]", "", "Train a Vision Transformer and see where it looks.", ""]
    for group, commands in GROUPS.items():
        lines += [f"{group}:", *(f"  {command:<{width}}  {what}" for command, (_, what) in commands.items()), ""]
    lines += [
        f"`{name} COMMAND --help` describes the options of each.",
        f"`{name} --version` prints the version, `{name} {_PRINT_COMPLETION} SHELL` a script that completes options.",
    ]
    return "\n".join(lines)
