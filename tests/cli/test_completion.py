"""Shells complete the command, however it is called."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from agcam.cli.main import COMMANDS, main

ASK = (
    'source "$1"; function="$2"; shift 2; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); $function; echo "${COMPREPLY[@]}"'
)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["agcam", ""], set(COMMANDS)),
        (["explain.py", "benchmark", "--m"], {"--methods", "--metrics"}),
        (["explain.py", "benchmark", "--ground-truth", "m"], {"masks"}),
        (["agcam", "export", "--o"], {"--output", "--onnxruntime-web"}),
        (["explain.py", "report", "Make"], {"Makefile"}),
        (["train.py", "fit", "--explanation.gallery"], {"--explanation.gallery", "--explanation.gallery_by"}),
        (["train.py", "v"], {"validate"}),
    ],
)
def test_bash_completes(
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
