"""Read the classes of a data set's images, without decoding the images where possible."""

from __future__ import annotations

import itertools
import logging

from agcam.data.samplers import Labels
from agcam.data.source import ExampleDataset

log = logging.getLogger(__name__)


def known_labels(source: ExampleDataset) -> Labels | None:
    """Return the classes of each image if the data set lists its files; None if every image must be read for them."""
    items = getattr(getattr(source, "source", source), "items", None)  # a cache holds the source that lists them
    return None if items is None else [item.labels for item in items]


def read_labels(source: ExampleDataset, count: int | None = None) -> Labels:
    """Return the classes of each image, or of the first `count`, if need be by reading every one."""
    known, count = known_labels(source), len(source) if count is None else count
    return [source[i].labels for i in range(count)] if known is None else known[:count]


def warn_of_missing_classes(source: ExampleDataset) -> None:
    """Warn of classes without training image; training on a part of the data is no error."""
    labels = known_labels(source)
    if labels is None:
        return
    present = set(itertools.chain.from_iterable(labels))
    missing = [name for number, name in enumerate(source.class_names) if number not in present]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        log.warning(
            "%d of %d classes have no training image: %s%s; the model cannot learn them",
            len(missing),
            len(source.class_names),
            ", ".join(missing[:5]),
            more,
        )
