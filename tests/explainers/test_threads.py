"""Threads share a model: what they explain is what each would alone, bit for bit, beside one that predicts."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread

import pytest
import torch
from small_models import random_images, small_model
from test_state import state, training_model
from test_whole_model import OPTIONS
from torch import Tensor, nn
from whole_models import OwnHead, features, linear

from agcam import explain, methods
from agcam.evaluating import evaluating
from agcam.explainers.recorder import Tape

IMAGES = 64
MODELS: dict[str, Callable[[], nn.Module]] = {
    "bare": small_model,
    "own head": lambda: OwnHead(features(), linear()).eval(),
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("threads", [2, 8])
@pytest.mark.parametrize("method", methods())
def test_threads_explain_as_in_series_beside_a_prediction(method: str, threads: int, kind: str) -> None:
    model, images = MODELS[kind](), random_images(batch=IMAGES)
    vit = model if kind == "bare" else model.backbone
    vit.set_grad_checkpointing()  # which is switched off meanwhile, as what else the threads change
    options, before = OPTIONS.get(method, {}), state(model)

    def one(image: Tensor) -> tuple[Tensor, Tensor]:
        found = explain(model, image[None], method=method, **options)
        return found.logits, found.heatmaps

    in_series = [one(image) for image in images]
    with torch.no_grad():
        expected = model(images[:4])
    stop, wrong, predictions = Event(), [], []

    def predict() -> None:
        with torch.no_grad():
            while not stop.is_set():
                predictions.append(1)
                if not torch.equal(model(images[:4]), expected):
                    wrong.append(1)

    beside = Thread(target=predict)
    beside.start()
    try:
        with ThreadPoolExecutor(threads) as pool:
            at_once = list(pool.map(one, images))
    finally:
        stop.set()
        beside.join()
    assert predictions
    assert not wrong
    for found, alone in zip(at_once, in_series, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(found, alone, strict=True))
    assert state(model) == before


def test_different_methods_at_once() -> None:
    model, images = small_model(), random_images()
    wanted = [name for name in methods() for _ in range(4)]

    def one(method: str) -> Tensor:
        return explain(model, images, "all", method=method, **OPTIONS.get(method, {})).heatmaps

    in_series = [one(method) for method in wanted]
    with ThreadPoolExecutor(8) as pool:
        at_once = list(pool.map(one, wanted))
    assert all(torch.equal(found, alone) for found, alone in zip(at_once, in_series, strict=True))


def test_a_model_in_training_is_explained_in_evaluation_mode_and_left_in_its_own() -> None:
    model, images = training_model(), random_images(batch=16)
    before = state(model)
    in_series = [explain(model, image[None], 1).heatmaps for image in images]
    with ThreadPoolExecutor(8) as pool:
        at_once = list(pool.map(lambda image: explain(model, image[None], 1).heatmaps, images))
    assert all(torch.equal(found, alone) for found, alone in zip(at_once, in_series, strict=True))
    assert state(model) == before


def test_the_last_one_to_leave_gives_modules_their_mode_back() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Dropout().eval()).train()
    model[1].eval()
    first, second = evaluating(model), evaluating(model)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not model[0].training
    second.__exit__(None, None, None)
    assert (model.training, model[0].training, model[1].training) == (True, True, False)


def test_a_tape_records_its_own_thread_alone() -> None:
    model, images = small_model(), random_images()
    with Tape(model) as tape, torch.no_grad():
        model(images)
        other = Thread(target=lambda: model(random_images(seed=9)))
        other.start()
        other.join()
    assert tape.recording.images is images
    assert len(tape.recording.calls) == 2
