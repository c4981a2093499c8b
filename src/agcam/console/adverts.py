"""Drop Lightning's advertisements, which would stand between a command and its error message."""

from __future__ import annotations

import logging

_LOGGERS = ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero", "lightning.pytorch")


def drop_adverts() -> None:
    """Keep Lightning from recommending its products. Calling it twice does no harm."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return "Tip: For seamless cloud" not in record.getMessage()
