"""What is wrong with an option names that option, where it was given, what was found and what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from agcam.cli.explain import main as explain_main
from agcam.cli.train import main

SHAPES = ["--data=Shapes", "--data.train_size=4", "--data.val_size=2"]
VOC = ["--data=VOC2012", "--data.root=nowhere"]
QUOTE = "YAML does not read an unquoted yes, no, on, off, null, number or date as text; quote them: "


def the_error(capsys: pytest.CaptureFixture[str]) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([*VOC, "--data.classes=[yes, no]"], f'found [true, false]; {QUOTE}["yes", "no"]'),
        ([*VOC, "--data.classes", "[1, 2]"], f'found [1, 2]; {QUOTE}["1", "2"]'),
        ([*VOC, "--data.classes=[1e3, null, a]"], f'{QUOTE}["1e3", "null", "a"]'),
        ([*SHAPES, "--model.class_names=[on, off]"], "--model.class_names: expected a list of text ([a, b]) or null"),
        ([*VOC, "--data.classes=RBC"], "expected a list of text ([a, b]) or null, found RBC; write [RBC]"),
        ([*SHAPES, "--trainer.max_epochs=x"], "--trainer.max_epochs: expected a whole number or null, found x"),
        ([*SHAPES, "--model.lr=fast"], "--model.lr: expected a number, found fast"),
        ([*SHAPES, "--data.batch_size=1.5"], "--data.batch_size (of Shapes): expected a whole number, found 1.5"),
        ([*SHAPES, "--on_nan=maybe"], "--on_nan: expected one of stop, skip, found maybe"),
        ([*SHAPES, "--trainer.precision=12"], "--trainer.precision: expected one of 64, 32, 16, "),
        ([*SHAPES, "--model.backbone_args=5"], "expected names with values ({name: value}) or null, found 5"),
        ([*SHAPES, "--model.lr"], "--model.lr: needs a value"),
        (["--data=CUB200"], "--data.root is missing; CUB200 needs it"),
        ([], "--data is missing"),
        (["--data=Shape"], "--data: no class 'Shape' is known here; did you mean Shapes?"),
        ([*SHAPES, "--trainer.logger=Foo"], "--trainer.logger: no class 'Foo' is known here; known are CSVLogger, "),
        ([*SHAPES, "--trainer.callbacks+=ModelCheckpiont"], "did you mean ModelCheckpoint?"),
        ([*SHAPES, "--lr=3"], "--lr: no such option; did you mean --model.lr?"),
        ([*SHAPES, "--model.label_smoothin_=3"], "did you mean --model.label_smoothing?"),
        (
            [*SHAPES, "--data.batchsize=3"],
            "--data.batchsize: no such option (of Shapes); did you mean --data.batch_size?",
        ),
        ([*SHAPES, "--model.zzz=3"], "--model.zzz: no such option; agcam fit --help lists them"),
        ([*SHAPES, "3"], "'3' is not expected; options begin with --"),
        ([*SHAPES, "--optimizer=SGD"], "--optimizer: expected null: the classifier makes its own"),
        ([*SHAPES, "--lr_scheduler=StepLR"], "set --model.lr, --model.weight_decay, --model.layer_decay and"),
        ([*SHAPES, "--ckpt_path=best"], "--ckpt_path best: no run is in progress"),
        ([*SHAPES, "--config=gone.yaml"], "gone.yaml: no such file; expected a configuration"),
    ],
)
def test_an_option_is_named_with_what_was_found_and_expected(
    given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *given]) == 2
    error = the_error(capsys)
    assert said in error
    assert "<class" not in error
    assert len(error) < 300


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("trainer:\n  max_epochs: x\n", "{}:2: trainer.max_epochs: expected a whole number or null, found x"),
        ("model:\n  class_names:\n  - yes\n  - no\n", '{}:2: model.class_names: expected a list of text'),
        ("model: {lrr: 5}\n", "{}:1: model.lrr: no such option; did you mean model.lr?"),
        ("a: 1\n", "{}:1: a: no such option"),
        ("trainer:\n  callbacks:\n  - class_path: EarlyStopping\n    init_args:\n      monitor: val/loss\n"
         "      patience: x\n", "{}:6: trainer.callbacks.patience (of EarlyStopping): expected a whole number"),
        ("data:\n  class_path: Shapes\n  init_args:\n    batchsize: 4\n", "{}:4: data.batchsize: no such option"),
        ("data: CUB200\n", "{}:1: data.root is missing; CUB200 needs it"),
        ("- a\n", "{}: "),
    ],
)  # fmt: skip
def test_a_configuration_is_named_with_the_line(
    content: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(content)
    (tmp_path / "sound.yaml").write_text("seed_everything: 1\n")
    data = [] if "data:" in content else SHAPES
    assert main(["fit", "--config", str(path), f"--config={tmp_path / 'sound.yaml'}", *data]) == 2
    error = the_error(capsys)
    assert said.format(path) in error
    assert "sound.yaml" not in error


def test_a_configuration_that_is_not_there_has_its_neighbor_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "birds.yaml").write_text("data: Shapes\n")
    assert main(["fit", "--config", str(tmp_path / "birds.yml")]) == 2
    assert f"birds.yml: no such file; did you mean {tmp_path / 'birds.yaml'}?" in the_error(capsys)
    assert main(["fit", "--config", str(tmp_path / "recipes" / "x.yaml")]) == 2
    assert "no such file; expected a configuration" in the_error(capsys)


@pytest.mark.parametrize("option", ["--trainer.max_epochs=x", "--data.batchsize=3", "--model.lr", "3", "--zzz=1"])
def test_an_option_is_not_blamed_on_a_sound_configuration(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sound.yaml").write_text("data: Shapes\ntrainer:\n  max_epochs: 3\nmodel:\n  lr: 0.1\n")
    assert main(["fit", "--config", str(tmp_path / "sound.yaml"), option]) == 2
    error = the_error(capsys)
    assert option.partition("=")[0] in error
    assert "sound.yaml" not in error


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        ("{train_size: x}", ["--data.batch_size=3"], "{}:1: data.train_size (of Shapes): expected a whole number"),
        ("{val_size: 0}", [], "{}: data.val_size must be a number of images, at least 1, found 0"),
        ("{val_size: 2}", ["--data.batch_size", "x"], "error: --data.batch_size (of Shapes): expected a whole number"),
        ("{val_size: 2}", ["--data.val_size=0"], "error: data.val_size must be a number of images, at least 1"),
        ("{val_size: 2}", ["--data.valsize=0"], "error: --data.valsize: no such option (of Shapes); did you mean"),
    ],
)
def test_a_benchmark_blames_the_same_way(
    content: str, options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "data.yaml"
    config.write_text(f"data: {{class_path: Shapes, init_args: {content}}}\n")
    model = ["--backbone=vit_tiny_patch16_224", "--device=cpu", f"--output={tmp_path / 'out'}"]
    assert explain_main(["benchmark", *model, "--config", str(config), *options]) == 2
    error = the_error(capsys)
    assert said.format(config) in f"error: {error}"
    assert ("data.yaml" in error) == ("{}" in said)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            ["images", "--input=x", "--output=y", "--backbone=z", "--batchsize=3"],
            "--batchsize: no such option; did you",
        ),
        (["images", "--output=y", "--backbone=z"], "missing: --input; see "),
        (["images", "--input=x", "--output=y", "--backbone=z", "--top=x"], "--top: invalid int value: 'x'"),
        (["imagine"], "invalid choice: 'imagine'"),
        ([], "missing: COMMAND"),
    ],
)
def test_explain_says_it_without_its_usage(args: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain_main(args) == 2
    assert said in the_error(capsys)


def test_a_configuration_of_an_earlier_run_may_say_that_there_is_no_optimizer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old.yaml").write_text("optimizer: null\nlr_scheduler: null\ndata: Shapes\n")
    assert main(["fit", "--config", str(tmp_path / "old.yaml"), "--model.lr=x"]) == 2
    assert the_error(capsys) == "--model.lr: expected a number, found x"
