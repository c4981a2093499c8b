"""Names of files and places."""

from __future__ import annotations

import re
from pathlib import Path


def safe_name(name: str) -> str:
    """Turn `name` into a file name that every file system takes."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._")[:80] or "image"


def relative(path: str | Path) -> str:
    """Shorten a path below the working directory to one relative to it."""
    path, here = Path(path), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
