"""What `import agcam` and explaining load: torch, and nothing that training alone needs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

import pytest

HEAVY = ("albumentations", "lightning", "matplotlib", "mlflow", "tensorboard", "torchmetrics", "wandb")
TINY = "{'img_size': 32, 'patch_size': 8, 'embed_dim': 32, 'depth': 2, 'num_heads': 2, 'num_classes': 3}"
EXPLAIN = (
    f"import timm, torch; model = timm.create_model('vit_tiny_patch16_224', **{TINY}).eval()\n"
    "assert agcam.explain(model, torch.zeros(1, 3, 32, 32)).heatmaps.shape == (1, 1, 4, 4)"
)


@pytest.mark.parametrize(
    ("code", "without"),
    [
        ("", (*HEAVY, "torch", "numpy", "timm")),
        ("agcam.explain", (*HEAVY, "timm", "torchvision")),
        (
            "agcam.methods()",
            [name for name in HEAVY if name != "wandb"],
        ),  # timm itself loads that where it is installed
        (EXPLAIN, [name for name in HEAVY if name != "wandb"]),
    ],
    ids=["import", "explain", "methods", "explaining"],
)
def test_what_is_not_needed_is_not_loaded(code: str, without: Sequence[str]) -> None:
    script = f"import json, sys, agcam\n{code}\nprint(json.dumps(sorted({{n.partition('.')[0] for n in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(set(without) & set(json.loads(done.stdout))) == []
