"""Keys, and where somebody's home is, stay out of everything that a run leaves behind or prints."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_lines import SMALL, TINY_MODEL

KEYS = {
    "WANDB_API_KEY": "0badc0ffee0ddf00d" * 2 + "012345",
    "HF_TOKEN": "hf_neverToBeSeenAnywhere",
    "AWS_SECRET_ACCESS_KEY": "awsSecretNeverSeenAnywhere",
    "MLFLOW_TRACKING_PASSWORD": "mlflowPasswordNeverSeenAnywhere",
}
COMMANDS = """
import sys
from agcam.cli.train import main as train
from agcam.cli.explain import main as explain
fit, photographs = sys.argv[1:-1], sys.argv[-1]
sys.argv = ["train.py"]
checkpoint = "runs/version_0/checkpoints/last.ckpt"
small = ["--methods", "agcam", "random", "--metrics", "pointing_game", "--limit", "4", "--device", "cpu"]
for main, command in [
    (train, fit),
    (train, ["validate", "--config", "runs/version_0/config.yaml", "--ckpt_path", checkpoint]),
    (train, ["export", "--ckpt_path", checkpoint, "--output", "exported"]),
    (explain, ["images", "--checkpoint", checkpoint, "--input", photographs, "--output", "explained"]),
    (explain, ["benchmark", "--checkpoint", checkpoint, "--output", "results", *small]),
    (explain, ["report", "runs/version_0", "-o", "run.html"]),
    (explain, ["report", "results", "-o", "results.html"]),
    (explain, ["report", "explained", "-o", "explained.html"]),
]:
    assert main(command) == 0, command
train([*fit, "--model.weights", "gone.pth"])
"""


@dataclass(frozen=True)
class Left:
    """What commands left: the home of their user, the folder that they ran in, what they printed."""

    home: Path
    work: Path
    printed: str

    def holding(self, text: str) -> set[str]:
        """Where `text` is found, as it is or packed."""
        files = {path.relative_to(self.work).as_posix(): path.read_bytes() for path in self.files()}
        for name in list(files):
            if zipfile.is_zipfile(self.work / name):
                with zipfile.ZipFile(self.work / name) as archive:
                    files |= {f"{name}/{inner}": archive.read(inner) for inner in archive.namelist()}
        files["what was printed"] = self.printed.encode()
        return {name for name, content in files.items() if text.encode() in content}

    def files(self) -> list[Path]:
        return [path for path in self.work.rglob("*") if path.is_file() and not path.is_symlink()]


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Left:
    """Every command, run below a home by somebody who has keys and names the data by their whole path."""
    outside = tmp_path_factory.mktemp("outside")
    home = tmp_path_factory.mktemp("home") / "jane.doe.private"
    photographs, work = home / "photographs", home / "work"
    work.mkdir(parents=True)
    for split in ("train", "val"):
        for number, label in enumerate(("kea", "tui")):
            (photographs / split / label).mkdir(parents=True)
            for image in range(4):
                pixels = np.full((32, 32, 3), 60 * image + number, np.uint8)
                Image.fromarray(pixels).save(photographs / split / label / f"{image}.png")
    loggers = "[{class_path: CSVLogger, init_args: {save_dir: runs, name: ''}}, "
    loggers += "{class_path: WandbLogger, init_args: {save_dir: runs, offline: true}}, "
    loggers += "{class_path: TensorBoardLogger, init_args: {save_dir: runs, name: tensorboard}}]"
    saving = "[{class_path: ModelCheckpoint, init_args: {save_last: true}}]"
    fit = [
        "fit",
        *SMALL,
        *TINY_MODEL,
        "--data=ImageFolderDataModule",
        f"--data.root={photographs}",
        "--data.num_workers=0",
    ]
    fit += ["--trainer.max_epochs=2", "--data.batch_size=4", f"--trainer.logger={loggers}"]
    fit += [f"--trainer.callbacks={saving}"]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    # W&B's own file names the folder in which it stages tables until they are uploaded
    own = {"HOME": str(home), "WANDB_DATA_DIR": str(outside), "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, *fit, str(photographs)],
        cwd=work,
        env=plain | own | KEYS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Left(home, work, done.stdout + done.stderr)


def test_keys_are_nowhere(left: Left) -> None:
    kinds = {path.suffix for path in left.files()}
    assert {".ckpt", ".csv", ".html", ".json", ".log", ".npz", ".wandb", ".yaml"} <= kinds
    for name, value in KEYS.items():
        assert left.holding(value) == set(), name


def test_the_home_is_nowhere(left: Left) -> None:
    assert left.holding(left.home.name) == set()
