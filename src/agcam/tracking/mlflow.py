"""MLflow."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from lightning.pytorch.loggers import MLFlowLogger

from agcam.tracking.drawing import Drawing
from agcam.tracking.registry import Tracker, register_tracker

# MLflow asks a server that does not answer eight times, for four minutes, and waits two minutes for each answer; a
# training step would wait with it. Whoever wants that sets these.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
_KEY, _VALUE, _BATCH = 250, 500, 100
"""Characters of a parameter's name and of its value (6000 in newer servers), and parameters in a request."""


def begin(logger: MLFlowLogger) -> None:
    """Have MLflow give up in seconds where its server does not answer."""
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)


def log_config(logger: MLFlowLogger, config: dict[str, Any]) -> None:
    """Log all settings as parameters, flattened and cut to what MLflow takes, and in full as `config.yaml`."""
    from mlflow.entities import Param

    client, run = logger.experiment, logger.run_id
    client.log_dict(run, config, "config.yaml")
    known = client.get_run(run).data.params  # a parameter cannot change, not even in a resumed run
    parameters = {re.sub(r"[^\w\-. /]", "_", name)[-_KEY:]: str(value)[:_VALUE] for name, value in _flat(config)}
    new = [Param(name, value) for name, value in parameters.items() if name not in known]
    for start in range(0, len(new), _BATCH):
        client.log_batch(run, params=new[start : start + _BATCH])


def log_panel(logger: MLFlowLogger, drawings: Sequence[Drawing], info: dict[str, Any]) -> None:
    """Log a picture under a key of its own for each image, so that the slider runs through the epochs."""
    for drawing in drawings:
        key = re.sub(r"[^a-zA-Z0-9_\-./ ]", "_", f"{info['stage']}/explanations/{drawing.name}")
        logger.experiment.log_image(logger.run_id, drawing.captioned, key=key, step=info["step"])


def log_table(logger: MLFlowLogger, rows: Sequence[dict[str, Any]], drawings: Sequence[Drawing], step: int) -> None:
    """Log a table as an artifact that can be sorted."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    logger.experiment.log_table(logger.run_id, columns, "explanations.json")


def place(logger: MLFlowLogger) -> dict[str, str]:
    """Return the run's page, or the command that serves it."""
    uri = logger._tracking_uri
    page = f"/#/experiments/{logger.experiment_id}/runs/{logger.run_id}"
    return {"MLflow run": uri + page if uri.startswith("http") else f"mlflow ui --backend-store-uri {uri}, then {page}"}


def _flat(settings: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested dictionaries, with their paths; a list that holds dictionaries is one, too."""
    if isinstance(settings, list) and any(isinstance(entry, dict) for entry in settings):
        settings = dict(enumerate(settings))
    if isinstance(settings, dict) and settings:
        for key, value in settings.items():
            yield from _flat(value, f"{name}/{key}" if name else str(key))
    else:
        yield name, settings


register_tracker(
    Tracker(
        MLFlowLogger,
        begin=begin,
        log_config=log_config,
        log_panel=log_panel,
        log_table=log_table,
        place=place,
    )
)
