"""A model comes back from an artifact of W&B, by W&B's own client and a stand-in for its server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from processes import Started, start
from small_checkpoint import save, small_classifier
from wandb_stand_in import wandb_stand_in

NAME = "wandb-artifact:birds-lab/birds/model-abc:best"


def test_the_checkpoint_of_an_artifact_explains_as_the_file_does(tmp_path: Path) -> None:
    checkpoint = save(small_classifier(), tmp_path / "model.ckpt")
    for source, name in ((NAME, "artifact"), (str(checkpoint), "file")):
        run = _images(source, {"model.ckpt": checkpoint.read_bytes(), "notes.txt": b"best of five"}, tmp_path / name)
        assert run.wait() == 0, run.printed
    with np.load(tmp_path / "artifact/out/a.npz") as one, np.load(tmp_path / "file/out/a.npz") as other:
        assert np.array_equal(one["heatmaps"], other["heatmaps"])


@pytest.mark.parametrize(
    ("name", "files", "said"),
    [
        (NAME, {"a.ckpt": b"", "b.ckpt": b""}, f"{NAME}: holds 2 checkpoints (*.ckpt), expected one"),
        (NAME, {"notes.txt": b"none yet"}, f"{NAME}: holds 0 checkpoints (*.ckpt), expected one"),
        (NAME.replace("best", "v9"), {}, f"{NAME.replace('best', 'v9')} cannot be fetched"),
    ],
    ids=["two", "none", "unknown"],
)
def test_an_artifact_without_one_checkpoint_is_one_sentence(
    name: str, files: Mapping[str, bytes], said: str, tmp_path: Path
) -> None:
    run = _images(name, files, tmp_path)
    assert run.wait() == 2, run.printed
    (line,) = [line for line in run.printed.splitlines() if line.startswith("error: ")]
    assert said in line


def _images(source: str, files: Mapping[str, bytes], folder: Path) -> Started:
    """Explain a picture in a process that knows of no other W&B server, and wait for it."""
    folder.mkdir(exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)).save(folder / "a.png")
    with wandb_stand_in(files) as address:
        environment = {"WANDB_BASE_URL": address, "WANDB_API_KEY": "0" * 40, "WANDB_MODE": "online"}
        environment |= {name: str(folder / name) for name in ("WANDB_ARTIFACT_DIR", "WANDB_CACHE_DIR", "WANDB_DIR")}
        words = ["images", "--checkpoint", source, "--input", folder / "a.png", "--output", folder / "out"]
        run = start([*map(str, words), "--device=cpu"], folder / "printed", environment, "agcam.cli.explain")
        run.wait()
    return run
