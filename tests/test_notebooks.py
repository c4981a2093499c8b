"""The notebooks run from the first cell to the last, and say what they should."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def run(name: str, folder: Path) -> list[NotebookNode]:
    """The code cells of a notebook after it ran in a kernel of its own."""
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    client = NotebookClient(notebook, timeout=280, resources={"metadata": {"path": str(folder)}})
    client.execute(
        env=os.environ | {"OMP_NUM_THREADS": "1"}
    )  # threads that wait for each other crawl on a busy machine
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text_of(cell: NotebookNode) -> str:
    return "".join(o.get("text", "") or o.get("data", {}).get("text/plain", "") for o in cell.outputs)


def pictures(cells: list[NotebookNode]) -> int:
    return sum("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs)


def test_explain_your_own_model(tmp_path: Path) -> None:
    cells = run("explain_your_own_model.ipynb", tmp_path)
    assert pictures(cells) == 2
    scores = ast.literal_eval(text_of(cells[-1]))
    assert scores["agcam"]["pointing game"] > scores["random"]["pointing game"]
    assert all(0 <= value <= 1 for row in scores.values() for value in row.values())


def test_compare_methods(tmp_path: Path) -> None:
    cells = run("compare_methods.ipynb", tmp_path)
    assert pictures(cells) == 1
    rows = [line.split() for line in text_of(cells[-1]).splitlines()]
    assert len(rows) == 10
    figures = {row[0]: [float(value) for value in row[1:]] for row in rows[1:]}
    assert figures["agcam"][1] > figures["random"][1]
