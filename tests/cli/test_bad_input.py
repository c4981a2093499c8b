"""Whatever is wrong with the data or the options, train.py says it in one line, before epoch 1, exit status 2."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import timm
from safetensors.torch import save_model

from agcam.cli.train import main
from command_lines import SMALL, TINY_MODEL


@pytest.fixture
def tree(cub_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(cub_root, tmp_path / "CUB_200_2011"))


def fit(root: Path, *more: str) -> int:
    args = ["--data=CUB200", f"--data.root={root}", "--data.batch_size=8", "--data.num_workers=0"]
    quiet = [
        "--trainer.logger=false",
        "--trainer.enable_checkpointing=false",
        f"--trainer.default_root_dir={root.parent}",
    ]
    return main(["fit", *SMALL, *TINY_MODEL, *args, *quiet, "--trainer.max_epochs=1", *more])


def the_error(capsys: pytest.CaptureFixture[str]) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def first_image(tree: Path) -> Path:
    return tree / "images" / (tree / "images.txt").read_text().splitlines()[0].split()[1]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda t: shutil.rmtree(t), "no CUB-200-2011 here"),
        (lambda t: (t / "images.txt").write_text("1 a.jpg\n2"), "images.txt:2"),
        (lambda t: first_image(t).unlink(), r"\.jpg: no such image"),
        (lambda t: first_image(t).write_bytes(b"no image"), r"\.jpg: not a readable image"),
        (lambda t: (t / "bounding_boxes.txt").write_text("1 900 900 5 5\n"), "bounding_boxes.txt: no line for image 2"),
    ],
)
def test_bad_data_stop_before_training_with_one_line(
    spoil: object, said: str, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(tree)
    assert fit(tree) == 2
    assert re.search(said, the_error(capsys))


def test_a_bad_image_can_be_left_out(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    first_image(tree).write_bytes(b"no image")
    assert fit(tree, "--data.on_error=skip") == 0
    assert "left out 1 bad files or boxes" in caplog.text


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--model.backbone=vit_gigantic", "timm has no model 'vit_gigantic'"),
        ("--model.backbone=resnet18", r"ResNet\)? cannot be explained"),
        ("--model.weights=gone.safetensors", "gone.safetensors: no such weights file"),
        ("--explanation.methods=[gradcamm]", "unknown method 'gradcamm'; known are agcam"),
        ("--explanation.threshold=1.5", r"threshold must be in \[0, 1\), found 1.5"),
        ("--explanation.every_n_epochs=0", "every_n_epochs must be at least 1, found 0"),
    ],
)
def test_bad_options_are_one_line(option: str, said: str, cub_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--model.backbone_args={}", "--model.image_size=null"] if "resnet" in option else []
    assert fit(cub_root, *more, option) == 2
    assert re.search(said, the_error(capsys))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gone.safetensors", "no such weights"),
        ("bad.safetensors", "readable"),
        ("wide.safetensors", r"weights do not fit .* is \(96,\) in the file, the model has \(32,\)"),
    ],
)
def test_weights_that_are_no_use_leave_no_run(
    name: str, said: str, cub_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"garbage")
    wide = timm.create_model("vit_tiny_patch16_224", patch_size=8, embed_dim=96, depth=2, num_heads=2, img_size=32)
    save_model(wide, str(tmp_path / "wide.safetensors"))
    logger = f"--trainer.logger={{class_path: CSVLogger, init_args: {{save_dir: {tmp_path / 'runs'}, name: ''}}}}"
    assert fit(cub_root, logger, f"--model.weights={tmp_path / name}") == 2
    assert re.search(said, the_error(capsys))
    assert not (tmp_path / "runs").exists()


def test_a_checkpoint_of_other_classes_is_refused(
    cub_root: Path, voc_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = f"--trainer.logger={{class_path: CSVLogger, init_args: {{save_dir: {tmp_path}, name: ''}}}}"
    assert fit(cub_root, logger, "--trainer.enable_checkpointing=true") == 0
    (checkpoint,) = (tmp_path / "version_0" / "checkpoints").glob("*.ckpt")
    data = [
        "--data=VOC2012",
        f"--data.root={voc_root}",
        "--data.classes=[circle, square, triangle, star, cross, ring, crescent, heart]",
    ]
    capsys.readouterr()
    args = ["validate", *SMALL, *TINY_MODEL, *data, "--data.num_workers=0", "--ckpt_path", str(checkpoint)]
    assert main([*args, "--trainer.logger=false", f"--trainer.default_root_dir={tmp_path}"]) == 2
    assert "the model knows 8 classes (circle, square, triangle, …; single-label), the data have 8" in the_error(capsys)


def test_a_checkpoint_that_is_none_is_one_line(
    cub_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.ckpt").write_bytes(b"garbage")
    for path in (tmp_path / "bad.ckpt", tmp_path / "gone.ckpt"):
        assert fit(cub_root, "--ckpt_path", str(path)) == 2
        assert path.name in the_error(capsys)
