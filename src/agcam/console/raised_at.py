"""Find where an exception was raised: enough for a bug report without the traceback."""

from __future__ import annotations

import linecache
import re
import traceback
from pathlib import Path

from agcam.errors import brief

_IN_WORKER = re.compile(r"^Caught \w+ in |^\s*-- Process \d+ terminated", re.MULTILINE)
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_LAST = re.compile(r"^([\w.]+)(?:: (.*))?$")
_OURS = str(Path(__file__).parents[1])


def raised_at(error: BaseException) -> tuple[str, str, str]:
    """Return type, message and place of an exception, also of one that another process sent as text."""
    said = str(error)
    frames = [(frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(error.__traceback__)]
    kind = type(error).__name__
    if _IN_WORKER.search(said):
        frames = [(name, int(line)) for name, line in _FRAME.findall(said)]
        if found := _LAST.match(said.strip().splitlines()[-1]):
            kind, said = found[1].rpartition(".")[2], found[2] or ""
        return kind, brief(said) if said else "no message", _place(frames)
    return kind, brief(said) if said.strip() else "no message", _place(frames)


def raised_in(error: BaseException, *packages: str) -> bool:
    """Return whether the innermost frame belongs to one of `packages`."""
    frame = innermost(error)
    return frame is not None and _short(frame.filename).partition("/")[0] in packages


def refused_in(error: BaseException, *packages: str) -> bool:
    """Return whether a `raise` statement in one of `packages` raised: it checked a value and refused it."""
    frame = innermost(error)
    if frame is None or not raised_in(error, *packages):
        return False
    return linecache.getline(frame.filename, frame.lineno or 0).lstrip().startswith("raise")


def innermost(error: BaseException) -> traceback.FrameSummary | None:
    """Return the frame that raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return frames[-1] if frames else None


def _place(frames: list[tuple[str, int]]) -> str:
    """Name the innermost frame, and agcam's innermost frame if that is another."""
    if not frames:
        return "an unknown place"
    ours = [frame for frame in frames if frame[0].startswith(_OURS)]
    last = f"{_short(frames[-1][0])}:{frames[-1][1]}"
    return last if not ours or ours[-1] == frames[-1] else f"{last}, from {_short(ours[-1][0])}:{ours[-1][1]}"


def _short(path: str) -> str:
    """Cut a file's path to the part from its package on."""
    if path.startswith(_OURS):
        return str(Path(path).relative_to(Path(_OURS).parent))
    return re.sub(r"^.*/(?:site-packages|dist-packages|lib/python3\.\d+)/", "", path)
