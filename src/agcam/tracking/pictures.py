"""Pictures on disk, and the panel that the report reads, drawn and written in a thread of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from agcam.io.explained_images import write_panel
from agcam.io.json import write_json
from agcam.metrics.classification.by_class import CLASSES, ClassFigures
from agcam.tracking.drawing import Drawing
from agcam.tracking.tracker_guard import attempt
from agcam.visualization import overlay as render
from agcam.visualization.captions import with_color_bar


class DiskWriter:
    """Draws and writes pictures in a thread of its own, so that training need not wait for it."""

    def __init__(self) -> None:
        # made when first needed: a thread cannot be pickled, and launchers that spawn pickle callbacks
        self._thread: ThreadPoolExecutor | None = None
        self._unfinished: list[Future[None]] = []

    def submit(self, who: object, action: Callable[[], None]) -> None:
        """Queue an action for a tracker, after those submitted before; see `attempt`."""
        self._unfinished = [future for future in self._unfinished if not future.done()]
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pictures")
        self._unfinished.append(self._thread.submit(partial(attempt, who, action)))

    def wait(self) -> None:
        """Wait until everything is done."""
        while self._unfinished:
            self._unfinished.pop(0).result()


def write_epoch(
    folder: Path, drawings: Sequence[Drawing], info: dict[str, Any], classes: ClassFigures | None = None
) -> None:
    """Write a PNG for each drawing, all of them as `gallery.png`, the figures class by class, and the panel."""
    folder.mkdir(parents=True, exist_ok=True)
    for drawing in drawings:
        render.save_png(with_color_bar(drawing.picture, drawing.signed), folder / f"{drawing.name}.png")
    sheet = render.contact_sheet([drawing.picture for drawing in drawings])
    render.save_png(with_color_bar(sheet, any(drawing.signed for drawing in drawings)), folder / "gallery.png")
    if classes is not None:
        write_json(folder / CLASSES, classes)
    write_panel(folder, [drawing.shown for drawing in drawings], info)
