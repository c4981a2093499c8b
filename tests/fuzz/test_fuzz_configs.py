"""Broken configurations, as train.py and explain.py benchmark read them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import fuzz, inputs
from hypothesis import strategies as st
from mutations import broken_text, broken_value

from agcam.cli.data_config import open_split
from agcam.cli.train import TrainCLI, main
from agcam.data.input_config import InputConfig

VALID = """\
seed_everything: 0
trainer:
  accelerator: cpu
  max_epochs: 4
  gradient_clip_val: 1.0
  logger:
    - class_path: CSVLogger
      init_args: {save_dir: runs/quickstart, name: ""}
  callbacks:
    - class_path: ModelCheckpoint
      init_args: {monitor: val/accuracy, mode: max, save_last: true}
model: &model
  backbone: vit_tiny_patch16_224
  backbone_args: {patch_size: 8, embed_dim: 32, depth: 2, num_heads: 2}
  lr: 5.0e-4
data:
  class_path: Shapes
  init_args: {train_size: 4, val_size: 2, image_size: 16, augmentation: {scale: 1.0, flip: 0.5}}
explanation:
  methods: [agcam, random]
"""
BOMB = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}, *{a}]\n" for a, b in pairwise("abcdefghijklmn"))
DATES, TAGS = "a: 2020-99-99", "a: !!python/name:os.system"
ODD = ["&a [*a]", "[" * 3_000, "- " * 3_000, BOMB, DATES, TAGS, "? [a]\n: b", "<<: 5", "x: =\n", "", "5", "- a"]


def broken_yaml(part: str | None = None) -> st.SearchStrategy[bytes]:
    """Broken text, or broken values well written."""
    valid = yaml.safe_load(VALID)
    values = broken_value(valid) if part is None else broken_value(valid[part]).map(lambda found: {part: found})
    written = values.map(lambda value: yaml.safe_dump(value, allow_unicode=False).encode())
    return st.one_of(broken_text(VALID), written, st.sampled_from(ODD).map(str.encode))


@inputs(100)
def test_the_training_command(examples: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsers: list[Any] = []

    class HaveParser(BaseException):
        pass

    def keep(self: TrainCLI, parser: Any, args: Any) -> None:
        parsers.append((self, parser))
        raise HaveParser

    parse = TrainCLI.parse_arguments
    monkeypatch.setattr(TrainCLI, "parse_arguments", keep)
    with pytest.raises(HaveParser):
        main(["fit"])
    command, parser = parsers[0]
    path = tmp_path / "config.yaml"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        parse(command, parser, ["fit", "--config", str(path)])

    fuzz("train.py --config", broken_yaml(), read, path, examples)


@inputs(150)
def test_the_data_of_a_benchmark(examples: int, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        for chosen in (False, True):
            open_split(path, [], "val", InputConfig(size=16), chosen)

    fuzz("explain.py benchmark --config", broken_yaml("data"), read, path, examples)
