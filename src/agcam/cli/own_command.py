"""How the program is called, for commands that users are to run next."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from agcam.io.names import relative

_DOORS = ("train.py", "explain.py")


def own_command() -> str:
    """Return how to call agcam from here: `agcam` where it is on the path, else as this process was called."""
    here = Path(sys.executable).parent
    if _same(shutil.which("agcam"), here / "agcam"):
        return "agcam"
    called = Path(sys.argv[0])
    if called.name in _DOORS and called.is_file():
        return f"{_python()} {shlex.quote(relative(called.absolute()))}"
    if (here / "agcam").is_file():
        return shlex.quote(relative(here / "agcam"))
    return f"{_python()} -m agcam"


def _python() -> str:
    named = next((name for name in ("python", "python3") if _same(shutil.which(name), Path(sys.executable))), None)
    return named or shlex.quote(relative(sys.executable))


def _same(found: str | None, expected: Path) -> bool:
    return found is not None and Path(found).absolute() == expected.absolute()
