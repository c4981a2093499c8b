"""Figures of explanations where people log them: an offline W&B run, TensorBoard, pyplot's formats, a pickle."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import wandb
from lightning.pytorch.loggers import WandbLogger
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

import agcam
from explainers.small_models import random_images, small_model


@pytest.fixture
def figure() -> Figure:
    explanation = agcam.explain(small_model(), random_images(), [[1, 2], [3, 4]])
    return explanation.plot(random_images(), titles=["a long name of a photograph", "b"])


def pixels(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def drawn(figure: Figure) -> np.ndarray:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return pixels(file.getvalue())


def test_wandb_takes_the_figure_in_each_of_its_ways(figure: Figure, tmp_path: Path) -> None:
    expected = drawn(figure)
    logger = WandbLogger(save_dir=tmp_path, offline=True, project="theirs")
    logger.experiment.log({"image": wandb.Image(figure), "figure": figure})
    logger.log_image("logged", [figure])
    logger.experiment.finish()
    found = {path.name.split("_")[0]: path for path in tmp_path.glob("wandb/offline-run-*/files/media/images/*.png")}
    assert set(found) == {"image", "figure", "logged"}
    for name in found:
        assert np.array_equal(pixels(found[name].read_bytes()), expected), name


def test_tensorboard_takes_it(figure: Figure, tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_figure("where", figure, close=False)
    events = EventAccumulator(str(tmp_path)).Reload()
    (event,) = events.Images("where")
    assert np.array_equal(pixels(event.encoded_image_string), drawn(figure))


def test_nothing_stands_outside_of_the_figure(figure: Figure) -> None:
    assert type(figure) is Figure
    whole = drawn(figure)
    border = np.concatenate([whole[:2].reshape(-1, 3), whole[-2:].reshape(-1, 3), whole[:, :2].reshape(-1, 3)])
    assert (border == 255).all()
    tight = io.BytesIO()
    figure.savefig(tight, format="png", bbox_inches="tight", pad_inches=0.06)
    assert np.abs(np.array(pixels(tight.getvalue()).shape) - whole.shape).max() <= 2  # tight finds as much to show


def test_a_figure_can_be_pickled(figure: Figure) -> None:
    again = pickle.loads(pickle.dumps(figure))
    assert np.array_equal(drawn(again), drawn(figure))
    assert np.array_equal(pixels(again._repr_png_()), pixels(figure._repr_png_()))
