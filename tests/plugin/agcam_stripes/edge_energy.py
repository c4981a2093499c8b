"""A metric: how much of a heatmap lies in its outermost columns."""

from __future__ import annotations

from torch import Tensor

from agcam.metrics import MetricInputs, MetricSpec, Value, column


def edge_energy(inputs: MetricInputs) -> Tensor:
    """Measure the share of the leftmost and the rightmost column: (P, 1)."""
    maps = inputs.heatmaps - inputs.heatmaps.flatten(1).amin(1)[:, None, None]
    return (maps[..., [0, -1]].sum((1, 2)) / maps.sum((1, 2)))[:, None]


SPEC = MetricSpec(
    "edge_energy",
    edge_energy,
    (Value("edge_energy", column(0), "Energy at the edges", "How much of the heat lies in the outermost columns."),),
    help="share of the heat in the outermost columns",
)
