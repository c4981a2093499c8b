"""What heatmaps and classifiers are worth: torchmetrics over pure functions, usable without the rest of agcam."""

from agcam.metrics.abpc import ABPC
from agcam.metrics.bootstrap import (
    PairedDifference,
    bootstrap_interval,
    bootstrap_of_mean,
    paired_bootstrap,
    paired_bootstrap_of_mean,
)
from agcam.metrics.drift import map_drift
from agcam.metrics.energy_pointing_game import EnergyPointingGame
from agcam.metrics.gt_known_loc import GTKnownLoc, Top1Loc
from agcam.metrics.insertion_deletion import InsertionDeletion
from agcam.metrics.localization import Localization
from agcam.metrics.max_box_acc import MaxBoxAcc, MaxBoxAccV2
from agcam.metrics.mean_average_precision import MeanAveragePrecision
from agcam.metrics.means import ImageMean, ImageMeans
from agcam.metrics.peakedness import map_entropy, reasons
from agcam.metrics.pointing_game import PointingGame
from agcam.metrics.positive_negative import PositiveNegative
from agcam.metrics.pxap import PxAP
from agcam.metrics.road import ROAD
from agcam.metrics.sanity import ParameterRandomisation
from agcam.metrics.segmentation import Segmentation
from agcam.metrics.top_k_accuracy import TopKAccuracy

__all__ = [
    "ABPC",
    "ROAD",
    "EnergyPointingGame",
    "GTKnownLoc",
    "ImageMean",
    "ImageMeans",
    "InsertionDeletion",
    "Localization",
    "MaxBoxAcc",
    "MaxBoxAccV2",
    "MeanAveragePrecision",
    "PairedDifference",
    "ParameterRandomisation",
    "PointingGame",
    "PositiveNegative",
    "PxAP",
    "Segmentation",
    "Top1Loc",
    "TopKAccuracy",
    "bootstrap_interval",
    "bootstrap_of_mean",
    "map_drift",
    "map_entropy",
    "paired_bootstrap",
    "paired_bootstrap_of_mean",
    "reasons",
]
