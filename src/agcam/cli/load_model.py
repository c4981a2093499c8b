"""Open the model that a command's options choose, on the device that they choose."""

from __future__ import annotations

import argparse
import sys

from agcam.errors import InputError
from agcam.io.redact import without_home
from agcam.training.loaded import LoadedModel, choose_device, load_timm, load_trained
from agcam.training.zero_shot import load_clip


def load_model(options: argparse.Namespace, local_rank: int = 0) -> LoadedModel:
    """Open the model that the options `checkpoint`, `backbone`, `pretrained` and `device` choose.

    Args:
        options: of the command.
        local_rank: as for `choose_device`.

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
    subject.to(choose_device(options.device, local_rank))
    return subject


def given_weights(options: argparse.Namespace) -> str:
    """Return where a command's weights come from, for its provenance."""
    given = options.checkpoint or options.clip or ("pretrained" if options.pretrained else "random")
    return str(without_home(str(given)))
