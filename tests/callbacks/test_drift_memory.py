"""Heatmaps are compared with those of the same image and class in the epoch before."""

import torch

from agcam.callbacks.drift_memory import DriftMemory


def test_memory_is_bounded_and_compares_with_the_epoch_before() -> None:
    memory, maps = DriftMemory(), torch.rand(3, 4, 4) * 1e-9
    keys, keep = [(7, 0), (8, 1), (9, 1)], torch.tensor([True, False, True])
    assert memory.drift(keys, keep, maps).isnan().all()
    memory.end_epoch()
    again = memory.drift(keys, keep, maps)
    assert again[[0, 2]].tolist() == [0, 0]
    assert again[1].isnan()
    memory.end_epoch()
    assert memory.drift([(7, 1)], keep[:1], maps[:1]).isnan().all()  # another class of the image
    assert memory.drift([(7, 0)], keep[:1], torch.rand(1, 5, 5)).isnan().all()  # another grid
    assert memory.drift([], keep[:0], maps[:0]).shape == (0,)
