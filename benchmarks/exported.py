"""What heatmaps cost in an exported graph: onnxruntime's time beside that of the graph without them.

    python benchmarks/exported.py --rounds 15

The graph without heatmaps is what `torch.onnx.export` makes of the same model, with its own optimizer.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import onnxruntime
import torch
from timing import interleave, machine

from agcam.training.classifier import ViTClassifier
from agcam.training.graph_export import GraphOptions, make_onnx


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="vit_small_patch16_224")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--top", type=int, nargs="+", default=[1, 3])
    options = parser.parse_args()
    names = [f"class {i}" for i in range(1000)]
    torch.manual_seed(0)
    model = ViTClassifier(options.model, class_names=names, multilabel=False).eval()
    graphs = {"logits alone": plain(model)}
    for top in options.top:
        graphs[f"logits and {top} heatmap{'s' * (top > 1)}"] = make_onnx(model, GraphOptions(top=top))[0]
    sessions = {name: onnxruntime.InferenceSession(graph) for name, graph in graphs.items()}
    print(", ".join(machine("cpu").values()), f"onnxruntime {onnxruntime.__version__}", sep=", ")
    print(f"\n| {options.model} | batch | ms | × logits alone | MB |\n|---|--:|--:|--:|--:|")
    side = model.input_config.size
    for batch in options.batch:
        images = torch.randn(batch, 3, side, side).numpy()
        variants: dict[str, Callable[[], object]] = {
            name: partial(session.run, None, {"images": images}) for name, session in sessions.items()
        }
        for name, timing in interleave(variants, options.rounds, "cpu").items():
            size = len(graphs[name]) / 1e6
            print(f"| {name} | {batch} | {1e3 * timing.median:.0f} | {timing.ratio:.2f} | {size:.0f} |", flush=True)


def plain(model: ViTClassifier) -> bytes:
    """Export the model as anybody would."""
    side = model.input_config.size
    shapes = ({0: torch.export.Dim("batch")},)
    made = torch.onnx.export(
        model.backbone, (torch.randn(2, 3, side, side),), input_names=["images"], dynamic_shapes=shapes, verbose=False
    )
    assert made is not None
    return bytes(made.model_proto.SerializeToString())


if __name__ == "__main__":
    main()
