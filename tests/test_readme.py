"""README's figures are those of a fresh run of the quickstart.

Where this fails because the program has changed, the message holds the table and the line to put into README.md and
into the head of configs/quickstart.yaml.
"""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "configs" / "quickstart.yaml"
COLUMNS = ("pixel_accuracy", "iou", "dice", "precision", "recall", "pointing_game")
METHODS = {"agcam": "val/loc", "random (control)": "val/loc_random", "center (control)": "val/loc_center"}
TRAINED = 0.05
"""How far figures of the trained model may lie apart: another CPU rounds otherwise, and training makes that grow.
With PyTorch's kernels for CPUs without AVX (ATEN_CPU_CAPABILITY=default, oneDNN's for SSE4.1) precision was 0.022 off,
the others at most 0.007; with another number of threads none was. Controls do not depend on the model, so they are
equal to the last digit that is shown."""


def readme_table() -> dict[str, list[str]]:
    """README's rows by method, as they are written."""
    text = (ROOT / "README.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \|((?: -?\d\.\d{3} \|){6})$", text, re.MULTILINE)
    return {name: cells.strip(" |").split(" | ") for name, cells in rows}


def readme_facts() -> tuple[str, ...]:
    """Seconds, torch's version, day and accuracy, as README has them."""
    text = " ".join((ROOT / "README.md").read_text().split())
    found = re.search(r"\(two Xeon cores, (\d+) seconds, torch ([\d.]+), ([\d-]+); accuracy ([\d.]+) over 8 ", text)
    assert found is not None
    return found.groups()


def test_the_recipes_head_says_what_readme_says() -> None:
    head = " ".join(line.lstrip("# ") for line in CONFIG.read_text().splitlines() if line.startswith("#"))
    seconds, torch, day, accuracy = readme_facts()
    table = readme_table()
    assert list(table) == list(METHODS)
    iou, center = table["agcam"][1], table["center (control)"][1]
    assert f"Cost: {seconds} seconds on two Xeon cores. Score: {accuracy} validation accuracy," in head
    assert f"AG-CAM mask IoU {iou} (center control {center}), measured on {day} with torch {torch}." in head


@pytest.mark.timeout(1800)  # a minute or two on two quiet cores
def test_readmes_table_is_what_the_quickstart_gives(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "train.py"), "fit", "--config", str(CONFIG), "--quiet"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "runs/quickstart/version_0/metrics.csv").open(newline="") as file:
        last = [row for row in csv.DictReader(file) if row["val/accuracy"]][-1]
    fresh = {name: [float(last[f"{prefix}/{column}"]) for column in COLUMNS] for name, prefix in METHODS.items()}
    accuracy = float(last["val/accuracy"])
    said = "\n".join(f"| {name} | {' | '.join(f'{v:.3f}' for v in row)} |" for name, row in fresh.items())
    said = f"a fresh run gives accuracy {accuracy:.3f} and\n{said}"
    table = readme_table()
    for name in METHODS:
        tolerance = TRAINED if name == "agcam" else 0.00051  # a figure of three digits, rounded
        assert [float(cell) for cell in table[name]] == pytest.approx(fresh[name], abs=tolerance), said
    assert float(readme_facts()[-1]) == pytest.approx(accuracy, abs=TRAINED / 2), said
