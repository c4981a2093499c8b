"""What newcomers get wrong is one line that says what to do, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from agcam.cli.main import COMMANDS, NO_COMMANDS, main
from agcam.cli.train_help import DATA_OPTIONS
from agcam.data import __all__ as data_sets
from agcam.data.shapes import ShapesDataset
from command_lines import SMALL, TINY_MODEL
from data_set_layouts import write_voc

FIT = ["fit", *SMALL, *TINY_MODEL, "--trainer.max_epochs=1"]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def the_line(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


@pytest.mark.parametrize("command", ["fit", "validate", "test", "lr_find"])
def test_data_that_are_not_there_leave_no_run_behind(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loggers = [{"class_path": name, "init_args": {"save_dir": "runs"}} for name in ("CSVLogger", "WandbLogger")]
    data = ["--data=CUB200", "--data.root=nowhere", f"--trainer.logger={loggers}"]
    assert main([command, *FIT[1:], *data]) == 2
    assert the_line(capsys).startswith("nowhere")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", sorted(NO_COMMANDS))
def test_what_is_no_command_names_the_one_that_does_it(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([given, "--x=1"]) == 2
    said = the_line(capsys)
    assert said.startswith(f"no command {given!r}. `agcam ")
    assert said.partition("`agcam ")[2].split()[0].strip("`") in COMMANDS
    assert said.endswith(f"There are {', '.join(COMMANDS)}")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--config", "x.yaml"], f"no command is named; put one first: {', '.join(COMMANDS)}"),
        (["--config", "x.yaml", "predict"], "no command 'predict'. `agcam images` predicts"),
        (["--config", "x.yaml", "export"], "put the command first: agcam export …"),
    ],
)
def test_options_without_a_command_name_all_commands(
    given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(given) == 2
    assert said in the_line(capsys)


def test_help_after_an_option_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", "x.yaml", "--help"]) == 0
    assert "\n  export " in capsys.readouterr().out


def test_one_method_needs_no_list(capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data=Shapes", "--data.train_size=8", "--data.val_size=4", "--data.batch_size=4", "--data.num_workers=0"]
    logger = "--trainer.logger={class_path: CSVLogger, init_args: {save_dir: runs, name: ''}}"
    assert main([*FIT, *data, logger, "--explanation.methods", "gradcam"]) == 0
    header = Path("runs/version_0/metrics.csv").read_text().partition("\n")[0]
    assert "val/loc/iou" in header
    assert "val/loc_" not in header
    assert "gradcam " in capsys.readouterr().out


def test_an_unknown_method_is_named_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FIT, "--data=Shapes", "--explanation.methods=gradcamm"]) == 2
    assert the_line(capsys).startswith("unknown method 'gradcamm'; known are agcam, ")


def test_an_option_of_another_data_set_names_the_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FIT, "--data=ImageFolderDataModule", "--data.root=x", "--data.masks=true"]) == 2
    said = the_line(capsys)
    assert said == (
        "--data.masks: no such option (of ImageFolderDataModule), but of VOC2012; "
        "agcam fit --data.help ImageFolderDataModule lists them"
    )


@pytest.mark.parametrize("more", [[], ["--model.image_size=64"]])
def test_a_backbone_that_is_no_vit_is_not_blamed_on_its_size(
    more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data=Shapes", "--data.train_size=8", "--data.val_size=4", "--data.num_workers=0"]
    model = ["--model.backbone=resnet18", *more]
    assert main(["fit", *SMALL, *data, *model, "--trainer.logger=false", "--trainer.max_epochs=1"]) == 2
    said = the_line(capsys)
    assert "resnet18" in said
    assert "Vision Transformer" in said
    assert "--explain false" in said
    assert "the same command" not in said  # which would fail again


def test_a_root_above_voc_data_says_which_below_would_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources = {split: ShapesDataset(2, 48, split, multilabel=True) for split in ("train", "val")}
    write_voc(sources, tmp_path / "data" / "birds" / "VOC2012")
    (tmp_path / "data" / "other").mkdir()
    assert main([*FIT, "--data=VOC2012", "--data.root=data", "--trainer.logger=false"]) == 2
    assert the_line(capsys) == "data: no VOC data here, but below it; name one: --data.root data/birds/VOC2012"


def test_the_help_names_data_sets_that_there_are() -> None:
    named = DATA_OPTIONS["data"][1].partition(" or ")[0].split(", ")
    assert set(named) <= set(data_sets)


@pytest.mark.filterwarnings("ignore:no boxes in the explained batches")  # which says why there is no table
def test_photographs_without_boxes_get_no_empty_table(capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(8):
        path = Path("photographs") / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (30 * number, 90, 200)).save(path)
    data = ["--data=ImageFolderDataModule", "--data.root=photographs", "--data.batch_size=2", "--data.num_workers=0"]
    logger = "--trainer.logger={class_path: CSVLogger, init_args: {save_dir: runs, name: ''}}"
    assert main([*FIT, *data, logger]) == 0
    printed = capsys.readouterr().out
    assert "\nreport  " in printed
    assert "│" not in printed
