"""The function by which Quantus, a collection of metrics for explanations, calls any of agcam's methods."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from agcam.explainers.explain import explain


def explain_for_quantus(
    model: nn.Module,
    inputs: np.ndarray,
    targets: np.ndarray,
    *,
    method: str = "agcam",
    device: str | torch.device | None = None,
    **options: Any,
) -> np.ndarray:
    """Explain a batch as Quantus asks for it: its `explain_func`. Quantus itself is not imported.

    Examples:
        >>> explain = agcam.explain_for_quantus
        >>> explain(model, images.numpy(), labels.numpy(), method="rollout", head_fusion="max").shape
        (4, 1, 224, 224)

    Args:
        model: as `explain` takes it.
        inputs: (B, 3, H, W), normalized, in any floating type; they go to the model's device and precision.
        targets: (B,) class indices.
        method: one of `methods()`. `quantus.evaluate` gives the name that it has in `xai_methods`.
        device: taken because Quantus gives it, and not used: the model's own counts.
        options: of the method.

    Returns:
        (B, 1, H, W) float32, the heatmaps at the size of the images, each patch on its own pixels.

    Raises:
        InputError: as `explain`.
        ModelError: as `explain`.
    """
    some = next((parameter for parameter in model.parameters() if parameter.is_floating_point()), torch.empty(0))
    images = torch.as_tensor(np.ascontiguousarray(inputs)).to(some.device, some.dtype)
    chosen = torch.as_tensor(np.asarray(targets).astype(np.int64))
    heatmaps: np.ndarray = explain(model, images, chosen, method, **options).upsample().cpu().numpy()
    return heatmaps
