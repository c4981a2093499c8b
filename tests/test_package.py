"""What is installed and handed on: wheel and sdist hold what they must, and the wheel runs without a checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Sequence
from email import message_from_bytes
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
SHORT = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--data.train_size=64", "--data.val_size=16"]


def run(command: Sequence[str | Path], folder: Path, **environment: str) -> str:
    quiet = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    done = subprocess.run(command, cwd=folder, env=quiet, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT], folder)
    return folder


def test_the_wheel_holds_the_package_with_the_assets_of_the_report_and_nothing_else(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    source = ROOT / "src"
    there = [path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert names == {path.relative_to(source).as_posix() for path in there}
    assert "agcam/py.typed" in names
    assert {"agcam/report/assets/page.html.j2", "agcam/report/assets/style.css"} < names
    assert {"agcam/report/assets/web/page.html.j2", "agcam/report/assets/web/onnxruntime-web.txt"} < names
    assert {PurePosixPath(name).suffix for name in names} == {".py", ".j2", ".css", ".js", ".typed", ".txt"}


def test_what_the_image_copies_is_not_ignored_and_suffices_to_install(tmp_path: Path) -> None:
    copies = [line.split()[1:-1] for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("COPY")]
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert sent == {name for names in copies for name in names}
    for name in sent:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name)
        else:
            shutil.copy(ROOT / name, tmp_path / name)
    offline = ["--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    target = tmp_path / "installed"
    run([sys.executable, "-m", "pip", "install", *offline, "--target", target, "."], tmp_path)
    assert list(target.glob("agcam-*.dist-info"))
    assert "usage:" in run([sys.executable, "train.py", "--help"], tmp_path, PYTHONPATH=str(target))


def test_the_description_reads_right_where_neither_links_nor_pictures_of_ours_resolve(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = message_from_bytes(archive.read(name))
    text = str(metadata.get_payload())
    readme = (ROOT / "README.md").read_text()
    assert re.findall(r"\]\((?!https?://)", readme)  # there is something to replace
    assert re.findall(r"\]\((?!https?://)[^)]*\)", text) == []
    assert "![" not in text
    assert set(re.findall(r"\((https?://[^)]*)\)", text)) == set(re.findall(r"\((https?://[^)]*)\)", readme))
    assert "docs/benchmark.md has the methods" in text
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        line for line in readme.splitlines() if line.startswith("#")
    ]
    assert metadata["Description-Content-Type"] == "text/markdown"


def test_the_sdist_holds_the_commands_their_recipes_and_the_documentation_but_no_tests_and_no_data(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        paths = {name.partition("/")[2]: archive.getmember(name).size for name in archive.getnames()}
    for folder in ("configs", "docs", "src/agcam"):
        tracked = [path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        assert {path.relative_to(ROOT).as_posix() for path in tracked} <= paths.keys(), folder
    assert {"train.py", "explain.py", "README.md", "LICENSE", "Makefile", "pyproject.toml", "PKG-INFO"} < paths.keys()
    assert not [path for path in paths if path.startswith(("tests/", "runs/", "data/", ".venv", ".git/", ".ci/"))]
    assert max(paths.values()) < 10**6
    assert sdist.stat().st_size < 2 * 10**6


def quickstart(commands: Path, folder: Path, *more: str, **environment: str) -> str:
    """Train by the quickstart's recipe with an installed wheel, and report on the run; returns what was printed."""
    (folder / "quickstart.yaml").write_bytes((ROOT / "configs/quickstart.yaml").read_bytes())
    fit = [commands / "agcam", "fit", "--config", "quickstart.yaml", *more]
    printed = run(fit, folder, **environment)
    run([commands / "agcam", "report", "runs/quickstart/version_0", "-o", "report.html"], folder, **environment)
    page = (folder / "report.html").read_text()
    assert len(page) > 100_000
    assert "agcam" in page
    assert {path.name for path in (folder / "runs/quickstart/version_0").iterdir()} >= {"metrics.csv", "checkpoints"}
    return printed


def test_the_wheel_trains_and_reports_without_a_checkout(dist: Path, tmp_path: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    installed = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", installed, wheel]
    run(pip, tmp_path)
    path = {"PYTHONPATH": str(installed)}
    assert str(installed) in run([sys.executable, "-c", "import agcam; print(agcam.__file__)"], tmp_path, **path)
    assert "Where the model looks" in quickstart(installed / "bin", tmp_path, *SHORT, **path)
    assert "usage: agcam COMMAND" in run([installed / "bin/agcam", "--help"], tmp_path, **path)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_in_a_bare_environment_the_wheel_brings_what_it_needs_and_runs_the_whole_quickstart(
    dist: Path, tmp_path: Path
) -> None:
    (wheel,) = dist.glob("*.whl")
    venv.create(tmp_path / "bare", with_pip=True)
    commands = tmp_path / "bare/bin"
    run([commands / "python", "-m", "pip", "install", "--quiet", wheel], tmp_path)
    printed = quickstart(commands, tmp_path, PYTHONPATH="")
    (accuracy,) = re.findall(r"last epoch: val/accuracy ([\d.]+)", printed)
    assert float(accuracy) > 0.85
