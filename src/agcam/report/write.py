"""Write the report of whatever a folder holds: a run, a benchmark, an audit or explained photographs."""

from __future__ import annotations

from pathlib import Path

from agcam.audit.findings import AUDIT
from agcam.errors import DataError
from agcam.io.explained_folder import PREDICTIONS
from agcam.report.audit import audit_report
from agcam.report.benchmark import benchmark_report
from agcam.report.images import images_report
from agcam.report.model import Report
from agcam.report.page import render, write
from agcam.report.run import run_report


def write_report(folder: Path, output: Path | None = None) -> Path:
    """Write the report of a run, a benchmark, an audit or explained photographs.

    Args:
        folder: where they lie.
        output: the file to write; `report.html` in the folder if None.

    Returns:
        The file.

    Raises:
        DataError: if the folder holds none of these, or a file in it is broken.
    """
    output = output or folder / "report.html"
    write(render(open_report(folder), output), output)
    return output


def open_report(folder: Path) -> Report:
    """Read whatever the folder holds.

    Raises:
        DataError: as `write_report`.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder; expected a run, or the output folder of agcam benchmark or agcam images"
        )
    if (folder / AUDIT).is_file():
        return audit_report(folder)
    if (folder / "results.json").is_file():
        return benchmark_report(folder)
    if (folder / PREDICTIONS).is_file():
        return images_report(folder)
    versions = [path for path in folder.glob("version_*") if path.name[8:].isdigit()]
    run = max(versions, key=lambda path: int(path.name[8:]), default=folder)
    if (run / "metrics.csv").is_file() or (run / "explanations").is_dir():
        return run_report(run)
    raise DataError(
        f"{folder}: nothing to report; expected metrics.csv or explanations/ (a run), results.json (a finished "
        f"benchmark) or {PREDICTIONS} (explained photographs)"
    )
