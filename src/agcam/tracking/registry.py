"""Trackers by the kind of Lightning logger that they serve: one file each, which declares itself here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lightning.pytorch.loggers import Logger

from agcam.tracking.drawing import Drawing


@dataclass(frozen=True)
class Tracker:
    """What agcam gives a logger beside the metrics that Lightning gives it. Leave out what yours has no place for.

    Attributes:
        logger: the class of Lightning's logger; its subclasses are served as well.
        begin: open the run; what it raises stops the command before training. Called with the logger, as all below.
        log_config: record all settings of the run, nested dictionaries.
        log_panel: show an epoch's pictures, a sequence of `Drawing`; a dictionary names `stage`, `epoch` and `step`.
        log_table: show the last epoch's figures image by image: rows (dictionaries of one order), drawings, step.
        place: say where people find the run, by what it is called.
        in_thread: whether `log_panel` may run in another thread than the trainer's.
    """

    logger: type[Logger]
    begin: Callable[[Any], None] = lambda logger: None
    log_config: Callable[[Any, dict[str, Any]], None] = lambda logger, config: None
    log_panel: Callable[[Any, Sequence[Drawing], dict[str, Any]], None] = lambda logger, drawings, info: None
    log_table: Callable[[Any, Sequence[dict[str, Any]], Sequence[Drawing], int], None] = (
        lambda logger, rows, drawings, step: None
    )
    place: Callable[[Any], dict[str, str]] = lambda logger: {}
    in_thread: bool = True


_TRACKERS: list[Tracker] = []


def register_tracker(tracker: Tracker) -> None:
    """Serve a kind of logger by `tracker` from now on. Of several that fit a logger the latest is taken.

    Examples:
        >>> def log_panel(logger, drawings, info):
        ...     for drawing in drawings:
        ...         Image.fromarray(drawing.overlay).save(f"{logger.log_dir}/{drawing.name}.png")
        >>> register_tracker(Tracker(CSVLogger, log_panel=log_panel))

    Args:
        tracker: what to do for that kind.
    """
    _TRACKERS.append(tracker)


def tracker_of(logger: Logger) -> Tracker:
    """Return what serves `logger`; a tracker that does nothing where none is registered."""
    fitting = (tracker for tracker in reversed(_TRACKERS) if isinstance(logger, tracker.logger))
    return next(fitting, Tracker(type(logger)))
