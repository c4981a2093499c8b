"""Checkpoints written whole or not at all."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from agcam.io.atomic import whole_file
from agcam.training.plain_state import plain


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, then renames: whoever stops the process leaves the old checkpoint or the new one.

    Lightning's own writes to the system's temporary folder, which may be another disk; a move from there is a copy.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Save to a local path; others are left to Lightning.

        Raises:
            InputError: if what is to be saved could not be read again; nothing is written.
            OutputError: if the disk is full, …; what was there before is whole.
        """
        checkpoint = plain(checkpoint)
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        # torch writes to memory: its writer, when freed, writes what is missing, and aborts the process where an
        # exception at any moment (of a loader worker that is gone, Ctrl-C) has closed the file by then
        content = io.BytesIO()
        torch.save(checkpoint, content)
        # one name for all: what a killed process leaves is as large as a checkpoint, and the next one overwrites it
        with whole_file(target, target.with_name(f"{target.name}.part")) as part, part.open("wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
