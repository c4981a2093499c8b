"""Reading back what a run wrote: Lightning's CSV, W&B's own record of an offline run, the report's data."""

from __future__ import annotations

import csv
import json
import re
import subprocess
from pathlib import Path
from typing import Any

from wandb.util import get_core_path


def csv_rows(path: Path) -> list[dict[str, float]]:
    """The rows of a `metrics.csv`, empty cells left out."""
    with path.open() as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def column(rows: list[dict[str, Any]], name: str) -> list[float]:
    """All values of one metric, in order."""
    return [row[name] for row in rows if name in row]


def wandb_records(save_dir: Path) -> list[dict[str, Any]]:
    """The records of the only offline run below `save_dir`, by W&B's own reader of its run files."""
    (path,) = save_dir.glob("wandb/offline-run-*/run-*.wandb")
    command = [get_core_path(), "leet", "inspect", "-json", "-no-observability", "-run-file", str(path)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout
    return [json.loads(line) for line in printed.splitlines()]


def wandb_run(save_dir: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """History rows and config of the only offline run below `save_dir`."""
    records = wandb_records(save_dir)
    config: dict[str, Any] = {}
    for record in records:
        config |= record.get("config", {}).get("update", {})
    return [record["history"]["item"] for record in records if record["type"] == "history"], config


def page_data(report: Path) -> Any:
    """What the JavaScript of a report reads."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', report.read_text("utf-8"))
    assert found is not None
    return json.loads(found[1])
