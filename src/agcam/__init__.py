"""Train Vision Transformers with PyTorch Lightning and see where they look, every epoch."""

from typing import TYPE_CHECKING, Any

from agcam.errors import AgcamError, DataError, InputError, ModelError
from agcam.explainers.explain import Explanation, explain, methods

if TYPE_CHECKING:
    from agcam.metrics.registry import register_metric

__all__ = [
    "AgcamError",
    "DataError",
    "Explanation",
    "InputError",
    "ModelError",
    "explain",
    "methods",
    "register_metric",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the metrics when they are asked for: torchmetrics takes seconds, which explaining alone need not wait."""
    if name == "register_metric":
        from agcam.metrics.registry import register_metric

        return register_metric
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
