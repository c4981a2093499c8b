"""Train Vision Transformers with PyTorch Lightning and see where they look, every epoch."""

from agcam.errors import AgcamError, DataError, InputError, ModelError
from agcam.explainers.explain import Explanation, explain, methods

__all__ = ["AgcamError", "DataError", "Explanation", "InputError", "ModelError", "explain", "methods"]
__version__ = "0.1.0"
