"""Errors of classes that are made from options: Lightning's Trainer, callbacks, loggers, data, the model."""

from __future__ import annotations

import traceback

from agcam.cli.options.problem import read_problem
from agcam.console.foreign_errors import as_ours, root_cause
from agcam.console.raised_at import raised_at, raised_in, refused_in
from agcam.errors import AgcamError, InputError

_STUMBLED = (AttributeError, NameError, LookupError, AssertionError, ArithmeticError)


def refused(error: Exception) -> Exception:
    """Turn an error of making classes from options into one of ours; return a bug as it is.

    What a library raises while it reads its options is about these options, unless it is an error such as
    AttributeError. Our own code refuses options by our own errors; anything else that it raises is a bug.
    """
    root = root_cause(error)
    if isinstance(root, Exception) and isinstance(plain := as_ours(root), AgcamError):
        owner = read_problem(str(error)).owner.rpartition(".")[2] if isinstance(root, ImportError) else ""
        return InputError(f"{owner}: {plain}; or choose another") if owner else plain
    if isinstance(root, _STUMBLED) or raised_in(root, "agcam"):
        return error
    problem = read_problem(str(error))
    name = problem.owner.rpartition(".")[2] or f"--{problem.key}" * bool(problem.key)
    kind, said, where = raised_at(root)
    name = name or _maker(root)
    if raised_in(root, "jsonargparse"):
        said = problem.said or said
    elif not refused_in(root, where.partition("/")[0]):  # it stumbled over a value
        said = f"{said} ({kind} at {where})"
    return InputError(f"{name}: {said}" if name else said)


def _maker(error: BaseException) -> str:
    """Return the name of the class whose method raised; empty if none did."""
    frames = list(traceback.walk_tb(error.__traceback__))
    maker = frames[-1][0].f_locals.get("self") if frames else None
    return "" if maker is None else type(maker).__name__
