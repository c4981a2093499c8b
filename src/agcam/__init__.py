"""Train Vision Transformers with PyTorch Lightning and see where they look, every epoch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agcam.data.preprocess import preprocess
    from agcam.errors import AgcamError, DataError, InputError, ModelError
    from agcam.explainers.explain import explain
    from agcam.explainers.explanation import Explanation
    from agcam.explainers.family_registry import families, register_family
    from agcam.explainers.for_quantus import explain_for_quantus
    from agcam.explainers.guidance import guidance_loss
    from agcam.explainers.outputs import similarity
    from agcam.explainers.recorder import Tape
    from agcam.explainers.registry import methods, register_method
    from agcam.metrics.registry import register_metric
    from agcam.tracking.registry import Tracker, register_tracker
    from agcam.training.explain_files import explain_files

__all__ = [
    "AgcamError",
    "DataError",
    "Explanation",
    "InputError",
    "ModelError",
    "Tape",
    "Tracker",
    "explain",
    "explain_files",
    "explain_for_quantus",
    "families",
    "guidance_loss",
    "methods",
    "preprocess",
    "register_family",
    "register_method",
    "register_metric",
    "register_tracker",
    "similarity",
]
__version__ = "0.1.0"

# imported when first asked for: `agcam --help` need not wait for torch
_HOMES = {
    "agcam.data.preprocess": ("preprocess",),
    "agcam.errors": ("AgcamError", "DataError", "InputError", "ModelError"),
    "agcam.explainers.explain": ("explain",),
    "agcam.explainers.explanation": ("Explanation",),
    "agcam.explainers.family_registry": ("families", "register_family"),
    "agcam.explainers.for_quantus": ("explain_for_quantus",),
    "agcam.explainers.guidance": ("guidance_loss",),
    "agcam.explainers.outputs": ("similarity",),
    "agcam.explainers.recorder": ("Tape",),
    "agcam.explainers.registry": ("methods", "register_method"),
    "agcam.metrics.registry": ("register_metric",),
    "agcam.tracking.registry": ("Tracker", "register_tracker"),
    "agcam.training.explain_files": ("explain_files",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'agcam' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_HOME_OF[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
