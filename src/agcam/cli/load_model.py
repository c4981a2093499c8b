"""Open the model that a command's options choose, on the device that they choose."""

from __future__ import annotations

import argparse
import sys

from torch import nn

from agcam.errors import InputError
from agcam.training.loaded import LoadedModel, choose_device, load_timm, load_trained
from agcam.training.zero_shot import load_clip


def load_model(options: argparse.Namespace) -> LoadedModel:
    """Open the model that the options `checkpoint`, `backbone`, `pretrained` and `device` choose.

    Raises:
        AgcamError: if it cannot be opened, or not be put on the device.
    """
    clip, texts = getattr(options, "clip", None), getattr(options, "text", [])
    if texts and clip is None:
        raise InputError("--text goes with --clip; --targets names the classes of other models")
    if clip is not None:
        if options.pretrained:
            raise InputError("--pretrained goes with --backbone; --clip names its own weights")
        subject = load_clip(clip, texts)
    elif options.checkpoint is not None:
        if options.pretrained:
            raise InputError("--pretrained goes with --backbone; a checkpoint brings its own weights")
        subject = load_trained(options.checkpoint)
    else:
        subject = load_timm(options.backbone, options.pretrained)
        if not options.pretrained:
            print("warning: without --pretrained the weights are random", file=sys.stderr)  # noqa: T201  # as above
    subject.to(choose_device(options.device))
    return subject


def architecture_of(model: nn.Module) -> str:
    """Return timm's name of a classifier's backbone; else the name of the model's class."""
    return str(getattr(model, "hparams", {}).get("backbone") or type(model).__name__)
