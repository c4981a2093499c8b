"""`agcam`: one command for everything, quick to say what there is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agcam import __version__
from agcam.cli.explain_options import METRICS, SLOW_METRICS
from agcam.cli.main import COMMANDS, main
from agcam.cli.option_names import check_option_names
from agcam.cli.train_help import DATA_OPTIONS, DEFAULTS, GROUP_TITLES
from agcam.cli.train_help import GROUPS as GROUPS_OF_HELP
from agcam.console.one_line import print_error
from agcam.metrics.registry import registered

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"


def test_help_shows_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"\n  {name} " in printed for name in COMMANDS)


def test_without_a_command_it_says_which_there_are_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage:" in capsys.readouterr().out


def test_a_mistyped_command_is_one_line_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bencmark"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: no command 'bencmark'. Did you mean benchmark?")


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_a_help(command: str) -> None:
    done = _run(command, "--help")
    assert done.returncode == 0
    assert f" {command} " in done.stdout
    assert all(len(line) <= 100 for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["fit", "--modle.lr=1"], "--modle.lr: no such option; did you mean --model.lr?"),
        (["fit", "--model.learning_rate", "1"], "--model.learning_rate: no such option; agcam fit --help lists them"),
        (["test", "--lr=1"], "--lr: no such option; did you mean --model.lr?"),
        (["validate", "--explanation.galery=1"], "did you mean --explanation.gallery?"),
        (["fit", "--trainer.max_epoch=1"], "did you mean --trainer.max_epochs?"),
        (["fit", f"--config={QUICKSTART}", "--model.lrr=1"], "did you mean --model.lr?"),
        (["fit", f"--config={QUICKSTART}", "--data.train_sise=1"], "did you mean --data.train_size?"),
        (["fit", "--data=CUB200", "--data.batchsize", "1"], "did you mean --data.batch_size?"),
        (["images", "--imput=1"], "did you mean --input?"),
        (["benchmark", "--metrcs=1"], "did you mean --metrics?"),
        (["compare", "--tolerence=1", "a"], "did you mean --tolerance?"),
    ],
)
def test_a_mistyped_option_is_one_line_before_torch_is_loaded(given: list[str], said: str) -> None:
    done = _run(*given)
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert done.returncode == 2
    assert done.stdout.split() == ["False"]


def test_help_and_version_load_no_torch() -> None:
    assert _run("--version").stdout.split() == [__version__, "False"]
    for command in ("fit", "images", "benchmark", "report"):
        assert _run(command, "--help").stdout.split()[-1] == "False"


def _run(*given: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m agcam`, which prints at its end whether torch was loaded."""
    code = f"import runpy, sys; sys.argv = ['agcam', *{list(given)}]; runpy.run_module('agcam', run_name='__main__')"
    loaded = f"import atexit, sys; atexit.register(lambda: print('torch' in sys.modules)); {code}"
    return subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=False)


def test_the_short_help_says_what_the_full_one_says(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--help-all"])
    full = " ".join(capsys.readouterr().out.split())
    options = set(re.findall(r" --([\w.+-]+)", full))
    shown = {option for group in GROUPS_OF_HELP.values() for option in group}
    of_data = {option for option in DATA_OPTIONS if "." in option and not option.endswith("help")}  # of each data set
    assert shown - of_data <= options
    for option, default in DEFAULTS.items():
        described = full.partition(f" --{option} ")[2] if "." in option else full.rpartition(f" --{option} ")[2]
        found = re.search(r"default: (.*?)\)", described)
        assert found is not None
        assert re.sub("[(',]", "", found[1]).split() == default.replace(",", "").split(), option


def test_every_option_of_agcam_s_own_is_known_before_anything_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--help-all"])
    own = re.findall(r" (--(?:(?:model|explanation|trainer)\.[\w.]+|[a-z_-]+))", capsys.readouterr().out)
    check_option_names([option for option in own if not option.endswith(("-", "_"))])


def test_the_metrics_of_the_help_are_those_that_are_declared() -> None:
    declared = {name: spec.help for name, spec in registered().items() if spec.rows.__module__.startswith("agcam.")}
    assert declared == {**METRICS, **SLOW_METRICS}
    assert [spec.slow for spec in registered().values() if spec.name in SLOW_METRICS] == [True] * len(SLOW_METRICS)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_nobody_reads_ends_the_command_quietly(unbuffered: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "agcam", "--help"],
        stdout=writer,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        text=True,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_another_broken_pipe_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_error(BrokenPipeError(32, "Broken pipe")) == 1
    assert "BrokenPipeError" in capsys.readouterr().err


def test_the_full_list_heads_its_groups_in_plain_words(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--help-all"])
    heads = re.findall(r"^(\S.*):$", capsys.readouterr().out, re.MULTILINE)
    assert heads == ["options", *GROUP_TITLES.values(), "this command"]
