"""Find the photographs that `agcam images` is given; what it wrote itself is none."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from agcam.errors import DataError, InputError
from agcam.io.explained_folder import holds_own_pictures
from agcam.io.image_files import find_image_files, say_left_out
from agcam.io.images import SUFFIXES

log = logging.getLogger(__name__)


def find_images(inputs: Sequence[Path], output: Path | None = None) -> list[Path]:
    """Return the given files, and the images in the given folders, sorted; log which files of folders were ignored.

    Files in a folder that `agcam images` wrote are left out.

    Args:
        inputs: files and folders.
        output: where explanations are going to be written.

    Raises:
        DataError: if an input does not exist or there is no image at all.
        InputError: if a photograph lies in the output folder itself, where it could not be told from overlays.
    """
    found: list[Path] = []
    left_out = Counter[str]()
    for path in inputs:
        if path.is_dir():
            files = find_image_files(path)
            found += files.paths
            left_out += files.left_out
        elif path.is_file():
            found.append(path)
        else:
            raise DataError(f"{path}: no such file or folder")
    where = ", ".join(map(str, inputs))
    written = {folder for folder in {path.parent for path in found} if holds_own_pictures(folder)}
    photographs = [path for path in found if path.parent not in written]
    ours = len(found) - len(photographs)
    if ours:
        log.warning("%s: left out %d pictures that agcam images wrote", where, ours)
    if not photographs:
        but = f" but {ours} that agcam images wrote" if ours else ""
        more = f" ({say_left_out(left_out)})" if left_out else ""
        raise DataError(f"no image in {where}{but}; expected files ending in {', '.join(sorted(SUFFIXES))}{more}")
    for path in photographs:
        if output is not None and path.parent.resolve() == output.resolve():
            raise InputError(
                f"--output {output} holds photographs of --input, such as {path.name}; name a folder of its own, "
                f"such as {output / 'explained'}"
            )
    if left_out:
        log.warning("%s: %s", where, say_left_out(left_out))
    return list(dict.fromkeys(photographs))
