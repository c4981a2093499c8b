"""macOS and Windows, as far as Linux can show them: without what POSIX or Linux alone have."""

import os
import subprocess
import sys
from pathlib import Path, PureWindowsPath

import pytest

from agcam.console import interrupt
from agcam.data import cores
from agcam.errors import DataError
from agcam.io import text as listing
from agcam.io.text import inside

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src" / "agcam"


def test_every_module_imports_and_trains_and_explains_without_posix(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(SOURCE.parent), str(TESTS)])}
    done = subprocess.run(
        [sys.executable, str(TESTS / "without_posix.py"), str(tmp_path)],
        env=environment | {"CUDA_VISIBLE_DEVICES": "", "WANDB_MODE": "disabled"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    modules = len(list(SOURCE.rglob("*.py"))) - 2  # agcam itself is no submodule of its own; Ray asks for Linux here
    assert f"imported {modules} modules" in done.stdout
    assert (tmp_path / "explained" / "predictions.json").is_file()


def test_cores_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cores.usable_cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cores.usable_cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores.usable_cores() == 1


def test_processes_start_where_no_signal_can_be_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(interrupt.signal, "pthread_sigmask")
    with interrupt.undisturbed():
        assert subprocess.run([sys.executable, "-c", ""], check=True).returncode == 0


OUTSIDE = ["C:x.jpg", "C:\\x.jpg", "..\\x.jpg", "a\\..\\..\\x.jpg", "\\\\host\\share\\x", "/x.jpg"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_on_windows_index_files_name_no_file_outside(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "PurePath", PureWindowsPath)
    with pytest.raises(DataError, match="is no path to an image"):
        inside(name, "images.txt:1")
    assert inside("001.Albatross/x.jpg", "images.txt:1") == "001.Albatross/x.jpg"
