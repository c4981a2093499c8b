"""Where both commands begin: Lightning looks at the environment when it is imported, and may end there."""

from __future__ import annotations

import importlib
import sys

from agcam.debug import debugging
from agcam.one_line import say


def train() -> int:
    """`train.py` and `agcam-train`."""
    return _run("agcam.cli")


def explain() -> int:
    """`explain.py` and `agcam-explain`."""
    return _run("agcam.explain_cli")


def _run(module: str) -> int:
    with debugging(sys.argv[1:]):
        try:
            main = importlib.import_module(module).main
        except Exception as error:
            return say(error)
        return int(main())
