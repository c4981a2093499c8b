"""Of a shown image that is mistaken, the class that the model said is explained from the same forward."""

from pathlib import Path

import lightning as L
import pytest
import torch

import agcam
from agcam.callbacks.explanation import ExplanationCallback
from agcam.data.batch import collate
from agcam.data.ground_truth import other_classes
from agcam.data.shapes import CLASSES
from agcam.io.explained_images import ExplainedImage, read_panel
from small_runs import classifier, shapes


@pytest.mark.parametrize(
    ("label", "first", "explains_first", "others"),
    [
        ([0, 1, 2], [0, 2, 2], False, [-1, 2, -1]),
        ([0, 1, 2], [0, 2, 2], True, [-1, 1, -1]),
        ([[1, 1, 0], [1, 0, 0]], [1, 2], False, [-1, 2]),
    ],
)
def test_the_other_class_is_that_of_the_mistake(
    label: list[object], first: list[int], explains_first: bool, others: list[int]
) -> None:
    assert other_classes(torch.tensor(label), torch.tensor(first), explains_first).tolist() == others


@pytest.mark.parametrize(("multilabel", "targets"), [(False, "labelled"), (False, "predicted"), (True, "labelled")])
def test_the_heatmap_beside_is_that_of_the_other_class(multilabel: bool, targets: str, tmp_path: Path) -> None:
    model = classifier(class_names=list(CLASSES), multilabel=multilabel)
    data = shapes(multilabel)
    forwards = []
    model.backbone.patch_embed.register_forward_hook(lambda *_: forwards.append(1))
    callback = ExplanationCallback(["agcam", "center"], targets=targets, ground_truth="masks", gallery=6)  # type: ignore[arg-type]  # one of both
    trainer = L.Trainer(
        accelerator="cpu", default_root_dir=tmp_path, logger=False, callbacks=[callback], enable_progress_bar=False
    )
    trainer.validate(model, datamodule=data, verbose=False)
    assert len(forwards) == len(data.val_dataloader())
    (folder,) = (tmp_path / "explanations").glob("val_epoch_*")
    shown, _ = read_panel(folder)
    mistaken = [entry for entry in shown if entry.other is not None]
    assert mistaken
    assert all(entry.multilabel == multilabel and len(entry.shares) == len(entry.truth) for entry in shown)
    for entry in mistaken:
        _check(entry, model, data)


def _check(entry: ExplainedImage, model: L.LightningModule, data: L.LightningDataModule) -> None:
    assert entry.other is not None
    assert {entry.explained, entry.other.name} == {entry.predicted, *entry.truth} or entry.multilabel
    image = collate([data.val_dataloader().dataset[entry.index]]).image
    target = CLASSES.index(entry.other.name)
    expected = agcam.explain(model.eval(), image, target)
    torch.testing.assert_close(torch.from_numpy(entry.other.heatmaps["agcam"]), expected.heatmaps[0, 0])
    probabilities = expected.model_info.probabilities(expected.logits)
    assert entry.other.probability == pytest.approx(float(probabilities[0, target]), rel=1e-4)
