"""Pointing game and energy pointing game by hand."""

from __future__ import annotations

import pytest
import torch

from agcam.metrics import EnergyPointingGame, PointingGame
from agcam.metrics.localization.energy_pointing_game import energy_shares
from agcam.metrics.localization.pointing_game import pointing_hits


def peak(row: int, column: int) -> torch.Tensor:
    heatmap = torch.zeros(1, 4, 4)
    heatmap[0, row, column] = 1
    return heatmap


def left_half() -> torch.Tensor:
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, :, :2] = True
    return mask


def test_the_maximum_points() -> None:
    heatmaps = torch.cat([peak(1, 1), peak(1, 3), -peak(0, 0)])
    assert pointing_hits(heatmaps, left_half().expand(3, 4, 4)).tolist() == [True, False, True]


def test_the_last_digit_of_a_map_does_not_move_its_peak_about_the_border() -> None:
    heatmaps = torch.rand(200, 4, 4, generator=torch.Generator().manual_seed(0))
    heatmaps[:, 3, 3] = 1 + heatmaps[:, 3, 3]  # its corner is a plateau of pixels
    first = torch.zeros(200, 32, 32, dtype=torch.bool)
    first[:, 28, 28] = True
    assert pointing_hits(heatmaps, first).all()


def test_an_empty_mask_is_a_miss_not_a_hit() -> None:
    metric = PointingGame()
    metric.update(peak(0, 0), torch.zeros(1, 4, 4, dtype=torch.bool))
    assert float(metric.compute()) == 0


def test_a_constant_map_points_nowhere() -> None:
    metric = PointingGame()
    metric.update(torch.full((1, 4, 4), 0.3), torch.ones(1, 4, 4, dtype=torch.bool))
    assert float(metric.compute()) == 0


def test_energy_by_hand() -> None:
    # 3 of 4 units on the left half; what is below zero is no energy
    heatmap = 3 * peak(0, 0) + peak(0, 3) - 5 * peak(3, 0)
    metric = EnergyPointingGame()
    metric.update(heatmap, left_half())
    assert float(metric.compute()["energy_pointing_game"]) == 0.75


def test_energy_is_taken_after_upsampling() -> None:
    # 1 × 2 to 1 × 4, bilinear: 1, .75, .25, 0
    shares = energy_shares(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[True, False, False, False]]]))
    assert shares.tolist() == [pytest.approx(0.5)]


def test_energy_leaves_ignored_pixels_out() -> None:
    heatmap = 3 * peak(0, 0) + peak(0, 3)
    assert energy_shares(heatmap, left_half(), ignore=peak(0, 3).bool()).tolist() == [1]
    assert energy_shares(heatmap, left_half(), ignore=peak(0, 0).bool()).tolist() == [0]


def test_energy_of_constant_and_empty() -> None:
    quarter = left_half()
    quarter[0, 2:] = False
    flat = torch.stack([torch.full((4, 4), 2.0), torch.zeros(4, 4), torch.full((4, 4), -1.0)])
    assert energy_shares(flat, quarter.expand(3, 4, 4)).tolist() == [0.25, 0, 0]
    metric = EnergyPointingGame()
    metric.update(peak(0, 0).expand(2, 4, 4), torch.cat([left_half(), torch.zeros(1, 4, 4, dtype=torch.bool)]))
    assert float(metric.compute()["energy_pointing_game"]) == 0.5
    assert int(metric.compute()["count"]) == 2
