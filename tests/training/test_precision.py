"""Every `--trainer.precision` that Lightning takes trains and explains with figures in full, or is one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import average_precision_score, log_loss

from agcam.callbacks.explanation import ExplanationCallback
from agcam.callbacks.non_finite import NonFiniteGuard
from agcam.cli.train import main
from agcam.errors import InputError
from agcam.training.classifier import ViTClassifier
from command_lines import SMALL, TINY_MODEL
from small_runs import classifier, shapes, trainer_of

SIDE = 96  # bfloat16 has whole pixels only from 64 to 128 … and no thirds of one anywhere


def trained(
    folder: Path, precision: Any, multilabel: bool = False, **args: Any
) -> tuple[ViTClassifier, dict[str, float]]:
    model = classifier(image_size=SIDE, **args)
    explanation = ExplanationCallback(methods=["agcam", "rollout", "lrp", "random"], gallery=2)
    trainer = trainer_of(folder, NonFiniteGuard(), explanation, precision=precision, max_epochs=1)
    trainer.fit(model, datamodule=shapes(multilabel))
    return model, {name: float(value) for name, value in trainer.callback_metrics.items()}


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    return trained(tmp_path_factory.mktemp("single"), "32-true")[1]


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed", "16-mixed", 32, 64, "bf16", 16])
def test_it_trains_and_explains(precision: Any, single: dict[str, float], tmp_path: Path) -> None:
    model, found = trained(tmp_path, precision)
    kind = {"64-true": torch.float64, 64: torch.float64, "bf16-true": torch.bfloat16}.get(precision, torch.float32)
    assert {parameter.dtype for parameter in model.parameters()} == {kind}
    assert found.keys() == single.keys()
    assert found["val/loss"] == pytest.approx(
        single["val/loss"], rel=1e-5 if precision in (32, 64, "64-true") else 0.02
    )
    # noise against boxes: nothing of the model is in it, so nothing of its precision may be
    control = [name for name in single if name.startswith("val/loc_random/")]
    assert len(control) > 5
    reasons = ("right_for_wrong_reason", "wrong_but_looking_right")  # of what the model says
    assert {n: found[n] for n in control if not n.endswith(reasons)} == {
        n: single[n] for n in control if not n.endswith(reasons)
    }


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
@pytest.mark.parametrize("multilabel", [False, True])
def test_figures_of_low_precision_are_sums_of_high_precision(multilabel: bool, precision: Any, tmp_path: Path) -> None:
    model, found = trained(tmp_path, precision, multilabel, mixup=0.4, cutmix=1.0, test_time_flip=True)
    data = shapes(multilabel)
    data.fit_input(model.input_config)
    data.setup("validate")
    model.eval()
    with torch.no_grad():
        batches = [
            (b.label, (model(b.image).double() + model(b.image.flip(-1)).double()) / 2) for b in data.val_dataloader()
        ]
    label, logits = (torch.cat(parts) for parts in zip(*batches, strict=True))
    if multilabel:
        expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, label.double())
        present = label.sum(0) > 0
        score = average_precision_score(
            label[:, present].numpy(), logits.sigmoid()[:, present].numpy(), average="macro"
        )
        assert found["val/mAP"] == pytest.approx(score, rel=1e-5)
    else:
        expected = log_loss(label, logits.softmax(1), labels=range(logits.shape[1]))
        assert found["val/accuracy"] == pytest.approx((logits.argmax(1) == label).double().mean())
    assert found["val/loss"] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(("precision", "kind"), [("64-true", torch.float64), ("bf16-true", torch.float32)])
def test_averages_are_kept_at_least_in_single_precision(precision: Any, kind: torch.dtype, tmp_path: Path) -> None:
    model = classifier(ema=0.9)
    trainer = trainer_of(tmp_path, precision=precision, max_epochs=1)
    trainer.fit(model, datamodule=shapes())
    (averaging,) = model._averaging()
    assert averaging._average_model is not None
    assert {parameter.dtype for parameter in averaging._average_model.module.parameters()} == {kind}


def test_a_precision_that_makes_nan_of_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"16-true cannot train.*choose 16-mixed, bf16-true"):
        trained(tmp_path, "16-true")
    weight = torch.nn.Parameter(torch.ones(3, dtype=torch.float16))
    weight.grad = torch.full((3,), 1e-4, dtype=torch.float16)
    torch.optim.AdamW([weight]).step()
    assert not weight.isfinite().any()  # why


@pytest.mark.parametrize("precision", ["transformer-engine", "transformer-engine-float16", "16-true"])
def test_what_cannot_train_is_one_line(precision: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = [
        "--data=Shapes",
        "--data.train_size=8",
        "--data.val_size=4",
        "--data.num_workers=0",
        "--trainer.max_epochs=1",
    ]
    assert (
        main(
            [
                "fit",
                *SMALL,
                *TINY_MODEL,
                *more,
                f"--trainer.precision={precision}",
                f"--trainer.default_root_dir={tmp_path}",
            ]
        )
        == 2
    )
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert f"--trainer.precision {precision}" in line
