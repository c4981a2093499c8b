"""A package that is installed is simply there: its method, metric and data set, from training to the report.

The package is tests/plugin, built into a wheel and installed as its users would install it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agcam.benchmark.results import read_json
from command_lines import SMALL, TINY_MODEL
from reading import csv_rows, page_data

SOURCE = Path(__file__).parent / "plugin"
DATA = ["--data", "agcam_stripes.data.Stripes"]
UNREGISTERED = "agcam_stripes.left_edge:right_edge"


class Installed:
    """Runs Python where the wheel is installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.packages = folder / "packages"

    def python(self, *arguments: object) -> str:
        path = os.pathsep.join(filter(None, [str(self.packages), os.environ.get("PYTHONPATH")]))
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    found = Installed(tmp_path_factory.mktemp("installed"))
    found.python("-m", "build", "--wheel", "--no-isolation", "--outdir", found.folder / "dist", SOURCE)
    (wheel,) = (found.folder / "dist").glob("*.whl")
    found.python("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", found.packages, wheel)
    return found


@pytest.fixture(scope="module")
def run(installed: Installed) -> Path:
    """A run on the package's data set, explained by its methods."""
    data = ["--data.batch_size=4", "--data.num_workers=0"]
    methods = f"--explanation.methods=[agcam, left_edge, '{UNREGISTERED}']"
    logger = ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=runs"]
    installed.python(
        *["-m", "agcam", "fit", *SMALL, *TINY_MODEL, *logger, *DATA, *data, methods, "--trainer.max_epochs=2"]
    )
    (folder,) = installed.folder.glob("runs/*/version_0")
    return folder


@pytest.fixture(scope="module")
def benchmark(installed: Installed, run: Path) -> Path:
    (checkpoint, *_) = (run / "checkpoints").glob("*.ckpt")
    output = installed.folder / "benchmark"
    methods = ["--methods", "agcam", f"{UNREGISTERED}:width=1", "--metrics", "pointing_game", "edge_energy"]
    installed.python(
        *["-m", "agcam", "benchmark", "--checkpoint", checkpoint, "--device", "cpu", "--output", output, "--quiet"],
        *[*methods, "--config", run / "config.yaml"],  # which names code: a checkpoint alone may not
    )
    return output


def test_its_method_is_known_by_name(installed: Installed) -> None:
    assert "left_edge" in installed.python("-c", "import agcam; print(agcam.methods())")


def test_training_explains_its_data_by_its_methods(run: Path) -> None:
    (last,) = csv_rows(run / "metrics.csv")[-1:]
    names = {name for row in csv_rows(run / "metrics.csv") for name in row}
    assert last
    assert {"val/loc/iou", "val/loc_left_edge/iou", f"val/loc_{UNREGISTERED}/iou"} <= names
    methods = {entry["label"]: entry for entry in page_data(run / "report.html")["methods"]}
    assert list(methods) == ["agcam", "left_edge", UNREGISTERED]
    assert methods["left_edge"]["control"]
    assert methods["left_edge"]["help"] == "A control: always hot at the left edge."
    assert not methods[UNREGISTERED]["control"]


def test_its_control_is_in_every_benchmark_and_its_function_in_that_which_names_it(benchmark: Path) -> None:
    results = read_json(benchmark / "results.json")
    assert results.about["data"] == "Stripes val"
    labels = ["agcam", f"{UNREGISTERED}:width=1", "random", "center", "left_edge"]
    assert [row.method for row in results.rows] == labels
    assert [row.method for row in results.rows if row.control] == labels[2:]
    assert list(results.values) == ["pointing_game", "edge_energy"]
    # an edge is right for every second image
    edges = [row for row in results.rows if "_edge" in row.method]
    assert [row.values["pointing_game"].value for row in edges] == [0.5, 0.5]
    assert [row.values["edge_energy"].value for row in edges] == [1, 1]


@pytest.mark.parametrize("file", ["results.md", "results.tex"])
def test_tables_show_its_methods_and_its_metric(benchmark: Path, file: str) -> None:
    text = (benchmark / file).read_text().replace("\\", "")
    assert "left_edge (control)" in text
    assert f"{UNREGISTERED}:width=1" in text
    assert "edge energy ↑" in text or "edge energy $uparrow$" in text


def test_its_metric_is_known_by_name(installed: Installed) -> None:
    assert "of installed packages: edge_energy" in " ".join(
        installed.python("-m", "agcam", "benchmark", "--help").split()
    )


def test_the_report_of_the_benchmark_shows_its_methods_its_metric_and_its_data(benchmark: Path) -> None:
    page = (benchmark / "report.html").read_text()
    assert "Stripes val" in page
    assert "Energy at the edges" in page
    assert "How much of the heat lies in the outermost columns." in page
    methods = {entry["label"]: entry["control"] for entry in page_data(benchmark / "report.html")["methods"]}
    assert methods["left_edge"]
    assert not methods[f"{UNREGISTERED}:width=1"]
