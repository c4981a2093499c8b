"""The rows that each metric makes of a case: (P, K) columns, NaN in rows that do not count."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agcam.benchmark.case import Case
from agcam.metrics import localization as overlap
from agcam.metrics.abpc import abpc_curves
from agcam.metrics.energy_pointing_game import energy_shares
from agcam.metrics.insertion_deletion import insertion_deletion_curves
from agcam.metrics.maps import fill_boxes
from agcam.metrics.max_box_acc import best_ious, threshold_grid
from agcam.metrics.pointing_game import pointing_hits
from agcam.metrics.positive_negative import positive_negative_hits
from agcam.metrics.pxap import pixel_histograms
from agcam.metrics.road import road_hits
from agcam.metrics.sanity import Mode, parameter_randomisation
from agcam.metrics.segmentation import segmentation_counts

THRESHOLDS = threshold_grid(100)
SWEEP = tuple(step / 20 for step in range(1, 20))
STEPS = 20
NAN = float("nan")


def _spread(rows: Tensor, chosen: Tensor) -> Tensor:
    """Rows of the chosen pairs among those of all pairs, NaN elsewhere."""
    spread = torch.full((len(chosen), *rows.shape[1:]), NAN, device=chosen.device)
    spread[chosen] = rows.float().to(chosen.device)
    return spread


def _chosen_boxes(case: Case, chosen: Tensor) -> list[Tensor]:
    return [boxes for boxes, keep in zip(case.boxes, chosen.tolist(), strict=True) if keep]


def _known(case: Case) -> Tensor:
    return case.masked if case.against_masks else case.boxed


def _overlap(case: Case, threshold: float, protocol: overlap.Protocol) -> Tensor:
    known = _known(case)
    boxes, masks, ignore = None, None, None
    if case.against_masks:
        assert case.masks is not None
        masks = case.masks[known]
        ignore = None if case.ignore is None else case.ignore[known]
    else:
        boxes = _chosen_boxes(case, known)
    figures, counted = overlap.score(case.heatmaps[known], boxes, masks, case.size, ignore, threshold, protocol)
    figures[~counted] = NAN
    return _spread(figures, known)


def localization(case: Case) -> dict[str, Tensor]:
    """Overlap at threshold 0.5, corrected protocol, and the IoU over `SWEEP`."""
    sweep = [_overlap(case, threshold, "corrected")[:, 1] for threshold in SWEEP]
    return {"localization": _overlap(case, 0.5, "corrected"), "iou_sweep": torch.stack(sweep, 1)}


def leem2024(case: Case) -> dict[str, Tensor]:
    """Overlap at threshold 0.5 by the paper's protocol: classes that are alone in their image and predicted."""
    rows = _overlap(case, 0.5, "leem2024")
    rows[~(case.correct & case.alone)] = NAN
    return {"leem2024": rows}


def max_box_acc(case: Case) -> dict[str, Tensor]:
    """Hits of the largest contour's box over `THRESHOLDS`, and those of them where the first choice is right."""
    ious, counted = best_ious(case.heatmaps, case.boxes, case.size, THRESHOLDS, largest=True)
    hits = (ious >= 0.5).float()
    hits[~counted] = NAN
    right = hits * case.correct[:, None].to(hits.device)
    return {"box_hits": hits, "top1_box_hits": right}


def max_box_acc_v2(case: Case) -> dict[str, Tensor]:
    """Hits of any region's box at IoU 0.3, 0.5 and 0.7, over `THRESHOLDS` each."""
    ious, counted = best_ious(case.heatmaps, case.boxes, case.size, THRESHOLDS, largest=False)
    hits = torch.cat([(ious >= iou).float() for iou in (0.3, 0.5, 0.7)], 1)
    hits[~counted] = NAN
    return {"any_box_hits": hits}


def _masked(case: Case) -> tuple[Tensor, Tensor, Tensor | None]:
    assert case.masks is not None
    ignore = None if case.ignore is None else case.ignore[case.masked]
    return case.heatmaps[case.masked], case.masks[case.masked], ignore


def pxap(case: Case) -> dict[str, Tensor]:
    """Pixels off and on the object by the number of thresholds that they pass."""
    histograms, _ = pixel_histograms(*_masked(case)[:2], THRESHOLDS, _masked(case)[2])
    return {"pixel_histogram": _spread(histograms.flatten(1), case.masked)}


def segmentation(case: Case) -> dict[str, Tensor]:
    """Pixel counts and average precisions of Chefer's protocol."""
    counts = segmentation_counts(*_masked(case))
    return {
        "segmentation_pixels": _spread(counts.pixels, case.masked),
        "segmentation_precisions": _spread(counts.precisions, case.masked),
    }


def _objects(case: Case) -> tuple[Tensor, Tensor]:
    """Which pairs have an object, and its pixels: the mask, or the filled boxes."""
    known = _known(case)
    if case.against_masks:
        assert case.masks is not None
        return known, case.masks[known]
    filled = [torch.from_numpy(fill_boxes(b.cpu(), case.size)) for b in _chosen_boxes(case, known)]
    empty = torch.zeros(0, *case.size, dtype=torch.bool)
    return known, (torch.stack(filled) if filled else empty).to(case.heatmaps.device)


def pointing_game(case: Case) -> dict[str, Tensor]:
    """Whether the maximum lies on the object."""
    known, masks = _objects(case)
    return {"pointing_game": _spread(pointing_hits(case.heatmaps[known], masks)[:, None], known)}


def energy_pointing_game(case: Case) -> dict[str, Tensor]:
    """Share of the energy on the object."""
    known, masks = _objects(case)
    ignore = case.ignore[known] if case.against_masks and case.ignore is not None else None
    return {"energy_pointing_game": _spread(energy_shares(case.heatmaps[known], masks, ignore)[:, None], known)}


def _perturbed(case: Case) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    return case.model, case.images, case.heatmaps, case.targets


def abpc(case: Case) -> dict[str, Tensor]:
    """Both perturbation curves, least relevant pixels first, then most relevant first."""
    lerf, morf = abpc_curves(*_perturbed(case), case.batch_size, case.multilabel)
    return {"abpc": torch.cat([lerf, morf]).T}


def insertion_deletion(case: Case) -> dict[str, Tensor]:
    """The insertion curve, then the deletion curve."""
    curves = insertion_deletion_curves(*_perturbed(case), STEPS, case.batch_size, case.multilabel)
    return {"insertion_deletion": torch.cat(curves).T}


def positive_negative(case: Case) -> dict[str, Tensor]:
    """First choices kept, most relevant pixels first, then least relevant first."""
    hits = positive_negative_hits(*_perturbed(case), batch_size=case.batch_size)
    return {"positive_negative": _first_choice_rows(case, hits)}


def road(case: Case) -> dict[str, Tensor]:
    """First choices kept with imputed pixels, least relevant first, then most relevant first."""
    return {"road": _first_choice_rows(case, road_hits(*_perturbed(case), batch_size=case.batch_size))}


def _first_choice_rows(case: Case, hits: tuple[Tensor, Tensor]) -> Tensor:
    """Two curves (F, P) as rows; where an image shows several classes, which comes first says nothing of one."""
    rows = torch.cat(hits).T.float()
    rows[~case.alone] = NAN
    return rows


def sanity(case: Case) -> dict[str, Tensor]:
    """Similarity to the maps of a model with each part randomised, cascading and independent."""
    rows: dict[str, Tensor] = {}
    modes: tuple[Mode, ...] = ("cascading", "independent")
    for mode in modes:
        found = parameter_randomisation(
            case.model, case.images, lambda model, images: case.explain(model, images, case.targets), mode
        )
        rows |= {f"sanity_{mode}_spearman": found.spearman.T.float(), f"sanity_{mode}_ssim": found.ssim.T.float()}
    return rows
