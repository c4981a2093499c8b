"""Checks of options that Lightning's Trainer accepts but cannot work with."""

from __future__ import annotations

import os

import lightning as L
from lightning.fabric.plugins.environments.lightning import LightningEnvironment

from agcam.errors import InputError


def check_trainer(trainer: L.Trainer) -> None:
    """Refuse options of the trainer that would end in a long wait or in a division by zero.

    Raises:
        InputError: naming the option.
    """
    if trainer.accumulate_grad_batches < 1:
        raise InputError(
            f"--trainer.accumulate_grad_batches must be at least 1, found {trainer.accumulate_grad_batches}"
        )
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if trainer.num_nodes > 1 and type(environment) is LightningEnvironment and "MASTER_ADDR" not in os.environ:
        raise InputError(  # each node would wait half an hour for the others
            f"--trainer.num_nodes {trainer.num_nodes}: MASTER_ADDR is not set, so the nodes cannot find each "
            "other; start with torchrun or srun, or set MASTER_ADDR, MASTER_PORT and NODE_RANK on each"
        )
