"""The options that choose a model."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_model(parser: argparse.ArgumentParser, texts: bool = False) -> None:
    """Add them; with `texts`, also a CLIP and what it is to look for."""
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument(
        "--checkpoint",
        type=Path,
        metavar="CKPT",
        help="a checkpoint that agcam fit wrote, a folder that agcam export wrote, hf-hub:OWNER/NAME[@REVISION] that "
        "it pushed, or wandb-artifact:ENTITY/PROJECT/NAME:ALIAS",
    )
    model.add_argument(
        "--backbone", metavar="NAME", help="a timm model, such as vit_base_patch16_224.augreg_in21k_ft_in1k"
    )
    parser.add_argument("--pretrained", action="store_true", help="with --backbone: load timm's weights")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps, … (a GPU if there is one)")
    if texts:
        model.add_argument(
            "--clip",
            metavar="NAME",
            help="a CLIP or SigLIP that explains texts: MODEL/WEIGHTS of open_clip, or hf:NAME of transformers",
        )
        parser.add_argument("--text", nargs="+", default=[], metavar="TEXT", help="with --clip: what to look for")
