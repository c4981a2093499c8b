"""Warnings of options that have no effect beside the others."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from lightning.pytorch.utilities import rank_zero_only

warn = rank_zero_only(logging.getLogger(__name__).warning)

_OF_TRAINING = ("--data.augmentation", "--data.balanced", "--on_nan", "--on-nan")


def warn_of_idle(args: Sequence[str], command: str, explaining: bool) -> None:
    """Warn of options on the command line without effect; configurations serve several commands and are exempt.

    Args:
        args: the command line.
        command: "fit", "validate", …
        explaining: whether there are explanations, that is, not `--explain false`.
    """
    names = list(dict.fromkeys(arg.partition("=")[0] for arg in args if arg.startswith("--")))
    if not explaining and (idle := [name for name in names if name.startswith("--explanation.")]):
        warn("%s: no effect with --explain false", ", ".join(idle))
    if command in ("validate", "test") and (
        idle := [name for name in names if any(name == o or name.startswith(f"{o}.") for o in _OF_TRAINING)]
    ):
        warn("%s: no effect in %s, which does not train", ", ".join(idle), command)
