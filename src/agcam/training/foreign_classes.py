"""Name the classes in a checkpoint that holds more than tensors and plain values, and say how to convert it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import torch

from agcam.io.text import quoted

_ATTACKS = (
    *("os.", "posix.", "nt.", "subprocess.", "sys.", "shutil.", "socket.", "importlib.", "runpy.", "ctypes.", "pty."),
    *("builtins.eval", "builtins.exec", "builtins.compile", "builtins.open", "builtins.__import__"),
)
_CONVERT = (
    "import torch; c = torch.load({source!r}, 'cpu', weights_only=False); "
    "s = c.state_dict() if hasattr(c, 'state_dict') else c.get('state_dict') or c.get('model') or c; "
    "torch.save({{k: v for k, v in s.items() if torch.is_tensor(v)}}, {target!r})"
)


def foreign_classes(path: Path, error: Exception, allowed: frozenset[str] = frozenset()) -> list[str]:
    """Find the classes and functions for which torch's safe reader refused a file; none if the reason was another.

    Args:
        path: the file; nothing in it is imported or run.
        error: what the reader raised.
        allowed: names that the reader accepts.
    """
    found = re.findall(r"GLOBAL ([\w.]+)", str(error))
    try:
        found += torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # not of torch.save's present format, or broken: the error has named the first one
        found = found[:1]
    return [name for name in dict.fromkeys(found) if name not in allowed]


def how_to_convert(path: Path, names: list[str]) -> str:
    """Say what a file with `names` in it is, and what to do with it."""
    said = ", ".join(quoted(name).strip("'") for name in names[:3])
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    if attack := next((name for name in names if name.startswith(_ATTACKS)), None):
        return f"loading it would call {quoted(attack)}, as no honest checkpoint does: delete it"
    command = _CONVERT.format(source=str(path), target=str(path.with_name(f"{path.stem}.tensors.pth")))
    return (
        f"it also holds {said}{more}, and reading such could run code. If you trust whoever made it, as this command "
        f"does run what is in it, write its tensors to a file for --model.weights: python -c {shlex.quote(command)}"
    )
