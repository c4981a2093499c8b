"""Small batches are explained together; what is logged is what it is batch by batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging

from agcam.callbacks import explanation
from agcam.callbacks.explanation import ExplanationCallback
from small_runs import classifier, shapes, trainer_of


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("ground_truth", ["boxes", "masks"])
def test_small_batches_are_explained_in_one_pass_with_the_same_figures(
    ground_truth: Literal["boxes", "masks"], multilabel: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, passes = explanation.explain_recording, []

    def explain(recording: Any, *args: Any) -> Any:
        passes.append(len(recording.logits))
        return plain(recording, *args)

    monkeypatch.setattr(explanation, "explain_recording", explain)
    figures = []
    for limit, expected in ((2**25, [6]), (0, [4, 2])):
        monkeypatch.setattr(explanation, "_JOINED_BYTES", limit)
        data = shapes(multilabel=multilabel)
        model = classifier(multilabel=True) if multilabel else classifier()
        trainer = trainer_of(tmp_path, ExplanationCallback(["agcam"], gallery=2, ground_truth=ground_truth))
        figures.append(trainer.validate(model, datamodule=data, verbose=False)[0])
        assert passes == expected
        passes.clear()
    together, alone = figures
    assert set(together) == set(alone)
    assert "val/loc/iou" in together
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6, equal_nan=True)


def test_what_waits_is_explained_before_averaged_weights_are_taken_back(tmp_path: Path) -> None:
    averaging = EMAWeightAveraging(decay=0.9)  # listed first, it ends the validation epoch first
    trainer = trainer_of(tmp_path, averaging, ExplanationCallback(gallery=0), max_epochs=2)
    trainer.fit(classifier(lr=0.05), datamodule=shapes())
    assert int(trainer.callback_metrics["val/loc/count"]) == 6
