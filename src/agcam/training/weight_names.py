"""Find a backbone's weights in a foreign file, under any key and any prefix of their names."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from agcam.io.text import quoted

log = logging.getLogger(__name__)
_DEEP = 3
_PREFERRED = {"ema", "teacher"}  # averages of the weights that were trained, as timm and DINO evaluate them
_SECOND = {"student", "momentum", "k", "current"}  # what such averages are made of; Lightning's `current_model_state`
_WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "backbone.")


@dataclass(frozen=True)
class _Part:
    """Weights in a file.

    Attributes:
        keys: of the dictionaries that they lie in.
        prefix: what their names begin with.
        weights: all of that dictionary.
        fitting: how many names, and how many shapes of those, are the backbone's.
    """

    keys: tuple[str, ...]
    prefix: str
    weights: Mapping[str, Tensor]
    fitting: tuple[int, int]

    def __str__(self) -> str:
        return quoted(".".join((*self.keys, f"{self.prefix}*")))

    @property
    def rank(self) -> int:
        words = set(re.split(r"[._]", ".".join((*self.keys, self.prefix)).lower()))
        return 2 if words & _PREFERRED else 0 if words & _SECOND else 1


def backbone_weights(found: dict[str, Any], own: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Pick a backbone's weights from a file, and cut what stands before the backbone's own names.

    A file may hold several sets: those of a teacher or an average are preferred, and the log says so.

    Args:
        found: what the file holds: tensors by name, or dictionaries of such, in dictionaries.
        own: the backbone's weights, heads left out.
        path: the file, for the log.
    """
    parts = [part for keys, weights in _dictionaries(found) for part in _parts(keys, weights, own)]
    if not parts:
        return _unwrapped(found)
    best = max(parts, key=lambda part: (part.fitting, part.rank))  # the first of equal ones
    others = [str(part) for part in parts if part.fitting == best.fitting and part is not best]
    if others:
        log.warning("%s: weights %s are taken; there are also %s", path, best, ", ".join(others[:5]))
    elif best.keys or best.prefix:
        log.info("%s: weights %s are taken", path, best)
    return {
        name.removeprefix(best.prefix): weight for name, weight in best.weights.items() if name.startswith(best.prefix)
    }


def first_names(names: Mapping[str, Any] | set[str]) -> str:
    """List what most names begin with, for a message: "encoder. (150), decoder. (40)"."""
    starts = Counter(name.partition(".")[0] + "." * ("." in name) for name in names)
    said = ", ".join(f"{quoted(start).strip(chr(39))} ({count})" for start, count in starts.most_common(3))
    return f"{said}, …" if len(starts) > 3 else said


def _dictionaries(found: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Yield the tensors in each nested dictionary, once: in a file dictionaries may contain each other."""
    seen = {id(found)}
    waiting: list[tuple[tuple[str, ...], dict[Any, Any]]] = [((), found)]
    while waiting:
        keys, here = waiting.pop(0)
        named = {key: value for key, value in here.items() if isinstance(key, str)}
        if tensors := {key: value for key, value in named.items() if isinstance(value, Tensor)}:
            yield keys, tensors
        for key, value in named.items():
            if isinstance(value, dict) and len(keys) < _DEEP and id(value) not in seen:
                seen.add(id(value))
                waiting.append(((*keys, key), value))


def _parts(keys: tuple[str, ...], weights: dict[str, Tensor], own: Mapping[str, Tensor]) -> Iterator[_Part]:
    """Yield the prefixes under which a dictionary has most of a backbone's weights, or little else."""
    longest = max((name.count(".") for name in own), default=0)
    names, shapes = Counter[str](), Counter[str]()
    for name, weight in weights.items():
        words = name.rsplit(".", longest + 1)  # only the last ones: a hostile name may have a million
        for start in range(len(words)):
            tail = ".".join(words[start:])
            if tail in own:
                names[name.removesuffix(tail)] += 1
                shapes[name.removesuffix(tail)] += weight.shape == own[tail].shape
    for prefix, count in names.items():
        under = sum(name.startswith(prefix) for name in weights)
        if 2 * count >= min(len(own), under):
            yield _Part(keys, prefix, weights, (count, shapes[prefix]))


def _unwrapped(found: dict[str, Any]) -> dict[str, Tensor]:
    """Strip the wrappers' prefixes from weights whose names are not the backbone's: timm's filter may know them."""
    found = next((found[key] for key in ("state_dict", "model") if isinstance(found.get(key), dict)), found)
    weights = {key: value for key, value in found.items() if isinstance(key, str) and isinstance(value, Tensor)}
    while wrapper := next((w for w in _WRAPPERS if weights and all(name.startswith(w) for name in weights)), ""):
        weights = {name.removeprefix(wrapper): weight for name, weight in weights.items()}
    return weights
