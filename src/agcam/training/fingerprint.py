"""Tell weights apart by a hash."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def hash_weights(model: nn.Module) -> str:
    """Return the SHA-256 of a model's parameters and buffers with their names, in hexadecimal."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy())
    return found.hexdigest()
