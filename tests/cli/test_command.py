"""`agcam`: one command for everything, quick to say what there is."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from agcam import __version__
from agcam.cli.main import COMMANDS, main
from agcam.console.one_line import print_error


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
def test_every_command_has_a_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f" {command} " in capsys.readouterr().out


def test_python_m_agcam_is_the_command_and_help_loads_no_torch() -> None:
    code = "import runpy, sys; sys.argv[1:] = ['--version']; runpy.run_module('agcam', run_name='__main__')"
    loaded = f"import atexit, sys; atexit.register(lambda: print('torch' in sys.modules)); {code}"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [__version__, "False"]


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
