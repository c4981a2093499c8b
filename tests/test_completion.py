"""Shells complete both commands."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from agcam.cli import explain as explain_cli
from agcam.cli import train as cli

ASK = (
    'source "$1"; function="$2"; shift 2; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); $function; echo "${COMPREPLY[@]}"'
)


@pytest.mark.parametrize(
    ("main", "words", "expected"),
    [
        (explain_cli.main, ["explain.py", ""], {"images", "benchmark", "compare", "report"}),
        (explain_cli.main, ["explain.py", "benchmark", "--m"], {"--methods", "--metrics"}),
        (explain_cli.main, ["explain.py", "benchmark", "--ground-truth", "m"], {"masks"}),
        (explain_cli.main, ["explain.py", "report", "Make"], {"Makefile"}),
        (cli.main, ["train.py", "fit", "--explanation.gallery"], {"--explanation.gallery", "--explanation.gallery_by"}),
        (cli.main, ["train.py", "v"], {"validate"}),
    ],
)
def test_bash_completes(
    main: Callable[[list[str]], int],
    words: list[str],
    expected: set[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.argv", words[:1])  # its name is what is completed
    with pytest.raises(SystemExit) as ended:
        main(["--print-completion", "bash"])
    assert ended.value.code == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    (tmp_path / "Makefile").touch()
    command = ["bash", "-c", ASK, "bash", str(script), f"_shtab_{words[0].replace('.', '_')}", *words]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert set(answer.stdout.split()) == expected, answer.stderr
