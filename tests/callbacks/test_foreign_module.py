"""The callback in a LightningModule that knows nothing of agcam, on batches that are not agcam's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers import WandbLogger
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import agcam
import foreign_run
from agcam.callbacks.explanation import ExplanationCallback
from agcam.data.batch import Batch, owned
from agcam.data.plain_batch import as_batch, read_dealing
from agcam.errors import InputError, ModelError
from agcam.io.explained_images import read_panel
from agcam.metrics import Localization
from agcam.metrics.map_statistics import map_entropy
from foreign_run import IMAGES, LABELS, Users, loader, trainer
from processes import start_together
from reading import column, csv_rows, wandb_run


def as_dictionary(items: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    return {"image": torch.stack([x for x, _ in items]), "label": torch.stack([y for _, y in items])}


def with_a_name(items: list[tuple[Tensor, Tensor]]) -> list[Any]:
    found = as_dictionary(items)
    return [found["image"], found["label"], ["somebody's"] * len(items)]


def validate(folder: Path, data: Any, module: Users, **options: Any) -> tuple[dict[str, float], list[Any]]:
    callback = ExplanationCallback(gallery=32, **options)
    (figures,) = trainer(folder, callback, logger=False).validate(module, data, verbose=False)[:1]
    (panel,) = folder.glob("**/val_epoch_000")
    return dict(figures), read_panel(panel)[0]


def maps_of(shown: list[Any]) -> Tensor:
    return torch.stack([torch.from_numpy(entry.heatmaps["agcam"]) for entry in shown])


FORMS = {
    "a pair": (None, lambda batch: batch),
    "a dictionary": (as_dictionary, lambda batch: (batch["image"], batch["label"])),
    "three things": (with_a_name, lambda batch: batch[:2]),
}


@pytest.mark.parametrize("form", FORMS)
def test_batches_of_any_form_are_explained_as_agcam_explain_does(form: str, tmp_path: Path) -> None:
    make, unpack = FORMS[form]
    module = Users(unpack)
    figures, shown = validate(tmp_path, loader(make), module)
    expected = agcam.explain(module.eval().backbone, IMAGES, LABELS)
    assert [entry.name for entry in shown] == [f"image {n}" for n in range(11)]
    assert [entry.index for entry in shown] == list(range(11))
    assert [entry.explained for entry in shown] == [f"class {n}" for n in LABELS.tolist()]
    torch.testing.assert_close(maps_of(shown), expected.heatmaps[:, 0], rtol=1e-4, atol=1e-6)
    probabilities = expected.logits.softmax(1)[range(11), LABELS].tolist()
    assert [entry.probability for entry in shown] == pytest.approx(probabilities, abs=1e-5)
    assert figures["val/loc/entropy"] == pytest.approx(float(map_entropy(expected.heatmaps[:, 0]).mean()), rel=1e-5)
    assert set(figures) == {
        f"val/{name}/entropy" for name in ("loc", "loc_random", "loc_center")
    }  # nothing is known of objects


def test_pictures_are_as_bright_as_the_models_normalisation_says(tmp_path: Path) -> None:
    module = Users()
    _, shown = validate(tmp_path, loader(), module)
    cfg = module.backbone.pretrained_cfg
    mean, std = torch.tensor(cfg["mean"]).view(3, 1, 1), torch.tensor(cfg["std"]).view(3, 1, 1)
    expected = (IMAGES[3] * std + mean).mul(255).round().clamp(0, 255).permute(1, 2, 0)
    assert abs(torch.from_numpy(shown[3].image).float() - expected).max() <= 60  # a JPEG of noise
    assert abs(torch.from_numpy(shown[3].image).float() - expected).mean() < 8


def test_names_and_labels_of_the_module_are_used(tmp_path: Path) -> None:
    module = Users()
    module.class_names = list("abcde")
    hot = F.one_hot(LABELS, 5)
    hot[0, 2] = 1
    _, shown = validate(tmp_path, loader(labels=hot), module)
    assert [entry.truth for entry in shown[:3]] == [("a", "c"), ("a", "c"), ("b",)]
    logits = agcam.explain(module.eval().backbone, IMAGES).logits
    assert shown[1].probability == pytest.approx(float(logits[0, 2].sigmoid()), abs=1e-5)  # several labels: a sigmoid
    module.multilabel = False
    _, shown = validate(tmp_path / "single", loader(labels=hot), module)
    assert shown[1].probability == pytest.approx(float(logits.softmax(1)[0, 2]), abs=1e-5)


def boxed(batch: dict[str, Any]) -> Batch:
    count = len(batch["x"])
    box = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    return Batch(
        batch["x"], batch["y"], [box] * count, [batch["y"][n : n + 1] for n in range(count)], None,
        batch["y"].new_tensor(range(count)) + 100, [f"photograph {n}" for n in range(count)],
    )  # fmt: skip


def test_a_function_of_the_user_makes_batches_of_any_other_form(tmp_path: Path) -> None:
    def make(items: Any) -> dict[str, Tensor]:
        return {"x": as_dictionary(items)["image"], "y": as_dictionary(items)["label"]}

    data = DataLoader(TensorDataset(IMAGES[:4], LABELS[:4]), batch_size=4, collate_fn=make)
    module = Users(lambda batch: (batch["x"], batch["y"]))
    callback = ExplanationCallback(gallery=4, gallery_by="hardest", batch=boxed)
    (figures,) = trainer(tmp_path, callback, logger=False).validate(module, data, verbose=False)
    assert figures["val/loc/count"] == 4
    metric = Localization()
    maps = agcam.explain(module.eval().backbone, IMAGES[:4], LABELS[:4]).heatmaps[:, 0]
    metric.update(maps, boxes=[torch.tensor([[0.0, 0.0, 16.0, 16.0]])] * 4, image_size=(32, 32))
    assert figures["val/loc/iou"] == pytest.approx(float(metric.compute()["iou"]), rel=1e-5)
    with pytest.raises(InputError, match=r"a batch has x, y; expected .* by ExplanationCallback\(batch=function\)"):
        trainer(tmp_path, ExplanationCallback(), logger=False).validate(module, data, verbose=False)


def test_a_loader_in_another_order_has_no_drift_and_says_so(tmp_path: Path) -> None:
    for shuffle in (False, True):
        module, callback = Users(), ExplanationCallback(gallery=0)
        fitting = trainer(tmp_path, callback, logger=False, max_epochs=2)
        if shuffle:
            with pytest.warns(UserWarning, match="not in the order of their data set"):
                fitting.fit(module, loader(), loader(shuffle=True))
        else:
            fitting.fit(module, loader(), loader())
        assert ("val/loc/drift" in fitting.callback_metrics) is not shuffle
        assert "val/loc/entropy" in fitting.callback_metrics


def test_of_several_loaders_the_first_is_explained(tmp_path: Path) -> None:
    other = DataLoader(TensorDataset(IMAGES[:2] + 9, LABELS[:2]), batch_size=1)
    one, shown = validate(tmp_path / "one", loader(), Users())
    both, also = validate(tmp_path / "both", [loader(), other], Users())
    assert both["val/loc/entropy"] == pytest.approx(one["val/loc/entropy"], rel=1e-6)
    assert [entry.index for entry in also] == [entry.index for entry in shown]


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_metrics_and_pictures_arrive_in_an_offline_run(tmp_path: Path) -> None:
    logger = WandbLogger(save_dir=tmp_path, offline=True, project="theirs")
    fitting = trainer(tmp_path, ExplanationCallback(["agcam", "center"], gallery=4), logger=logger, max_epochs=2)
    fitting.fit(Users(), loader(), loader())
    logger.experiment.finish()
    history, _ = wandb_run(tmp_path)
    assert len(column(history, "val/loc/entropy")) == 2
    assert len(column(history, "val/loc/drift")) == 1
    assert not any("iou" in name for row in history for name in row)
    assert len(list(tmp_path.glob("wandb/offline-run-*/files/media/images/val/explanations*"))) == 2 * 4


def test_labels_that_fit_no_logits_are_refused() -> None:
    assert as_batch((IMAGES, LABELS.double()[:, None] > 2), None, 1).label.shape == (11, 1)
    assert as_batch((IMAGES, LABELS[:, None]), None, 5).label.tolist() == LABELS.tolist()
    for labels, classes in ((LABELS.float(), 5), (F.one_hot(LABELS), 4), (LABELS, 1), (IMAGES, 5)):
        with pytest.raises(InputError, match=f"the model has {classes} logits; expected"):
            as_batch((IMAGES, labels), None, classes)


@pytest.mark.parametrize("size", [1, 2, 7, 11])
@pytest.mark.parametrize("processes", [1, 2, 3, 8])
def test_positions_are_those_of_the_sampler_and_each_is_counted_once(size: int, processes: int) -> None:
    counted = []
    for rank in range(processes):
        sampler = DistributedSampler(range(size), processes, rank, shuffle=False)  # type: ignore[arg-type]
        dealing = read_dealing(DataLoader(range(size), 2, sampler=sampler), rank, processes)  # type: ignore[arg-type]
        expected = list(sampler)
        found = torch.cat([dealing.positions(k, min(2, len(expected) - k)) for k in range(0, len(expected), 2)])
        assert found.tolist() == expected
        counted += found[owned(found, rank, processes)].tolist()
    assert sorted(counted) == list(range(size))


def test_two_processes_log_what_one_logs(tmp_path: Path) -> None:
    two = start_together([str(tmp_path / "two"), "2"], tmp_path / "two", 2, module="foreign_run")
    assert [process.wait() for process in two] == [0, 0], two[0].printed
    assert foreign_run.main([str(tmp_path / "one"), "1"]) == 0
    one, both = (csv_rows(next((tmp_path / n).glob("**/metrics.csv")))[-1] for n in ("one", "two"))
    assert one["val/loc/entropy"] == pytest.approx(both["val/loc/entropy"], rel=1e-6)
    names = [[e.name for e in read_panel(next((tmp_path / n).glob("**/val_epoch_000")))[0]] for n in ("one", "two")]
    assert names[0] == names[1] == [f"image {n}" for n in range(11)]


class OwnHead(Users):
    """The most common form: a backbone without a head, and a head beside it."""

    def __init__(self, calling: str = "self") -> None:
        super().__init__()
        self.backbone.head = torch.nn.Identity()
        self.head = torch.nn.Linear(48, 5)
        self.calling = calling

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images))  # type: ignore[no-any-return]  # a module's call is of any type

    def _loss(self, batch: Any) -> Tensor:
        x, y = batch
        logits = self(x) if self.calling == "self" else self.head(self.backbone(x))
        return F.cross_entropy(logits, y)


class NoForward(OwnHead):
    """Its steps alone know its head."""

    forward = L.LightningModule.forward  # type: ignore[assignment]  # as if it were not there


def test_a_head_beside_the_backbone_is_explained_as_agcam_explain_does(tmp_path: Path) -> None:
    module = OwnHead()
    _, shown = validate(tmp_path, loader(), module)
    expected = agcam.explain(module.eval(), IMAGES, LABELS)
    torch.testing.assert_close(maps_of(shown), expected.heatmaps[:, 0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(expected.logits, module(IMAGES))


@pytest.mark.parametrize(
    ("module", "said"),
    [(NoForward("parts"), "define forward"), (OwnHead("parts"), "call self.images. in")],
)
def test_a_head_that_nobody_can_see_is_refused(module: Users, said: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=said):
        validate(tmp_path, loader(), module)
    assert not module.backbone._forward_hooks


def test_what_cannot_be_explained_is_said_before_the_first_epoch(tmp_path: Path) -> None:
    module = OwnHead("parts")
    fitting = trainer(tmp_path, ExplanationCallback(), logger=False, max_epochs=1, num_sanity_val_steps=1)
    with pytest.raises(ModelError, match="call self"):
        fitting.fit(module, loader(), loader())
    assert fitting.global_step == 0


class WithLabels(OwnHead):
    """As models of transformers: labels, where they are given, make the loss."""

    def forward(self, images: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:  # type: ignore[override]
        logits = self.head(self.backbone(images))
        return {"logits": logits} if labels is None else {"loss": F.cross_entropy(logits, labels), "logits": logits}

    def _loss(self, batch: Any) -> Tensor:
        return self(*batch)["loss"]  # type: ignore[no-any-return]  # a module's call is of any type


def test_a_forward_may_take_labels_too(tmp_path: Path) -> None:
    module = WithLabels()
    _, shown = validate(tmp_path, loader(), module)
    expected = agcam.explain(module.eval(), IMAGES, LABELS)
    torch.testing.assert_close(maps_of(shown), expected.heatmaps[:, 0], rtol=1e-4, atol=1e-6)
