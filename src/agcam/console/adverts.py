"""Keep what other packages say about themselves from standing between a command and what it has to say."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGERS = (
    "lightning.pytorch.utilities.rank_zero",
    "lightning.fabric.utilities.rank_zero",
    "lightning.fabric.utilities.seed",
    "lightning.pytorch",
)
_IDLE = (
    "💡 Tip: ",  # its products
    "Seed set to",
    "GPU available: False",
    "TPU available: False",
    "Loading `train_dataloader`",
    "Using bfloat16 Automatic Mixed Precision",  # as the configuration says
    "Using 16bit Automatic Mixed Precision",
    "`Trainer.fit` stopped: `max_epochs=",
)
"""How messages of Lightning begin that nobody can do anything about."""


def drop_adverts() -> None:
    """Silence advertisements and idle messages of Lightning and W&B. Calling it twice does no harm.

    Warnings and errors of both stay; the summary says where the run is.
    """
    for name, value in (("WANDB_SHOW_INFO", "false"), ("WANDB_QUIET", "true")):
        os.environ.setdefault(name, value)
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_is_news)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Print warnings within the block as one line without a place in the code; drop deprecations inside libraries."""
    with warnings.catch_warnings():
        format_before = warnings.formatwarning
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", category=category, module=r"(?!agcam\b)")
        warnings.formatwarning = _one_line
        try:
            yield
        finally:
            warnings.formatwarning = format_before


def _is_news(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_IDLE)


def _one_line(message: Warning | str, *_: object, **__: object) -> str:
    return f"warning: {' '.join(str(message).split())}\n"
