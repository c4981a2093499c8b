"""Metrics of heatmaps and of classifiers: torchmetrics over pure functions, usable without the rest of agcam."""

from agcam.metrics.bootstrap import (
    PairedDifference,
    bootstrap_interval,
    bootstrap_of_mean,
    paired_bootstrap,
    paired_bootstrap_of_mean,
)
from agcam.metrics.classification.mean_average_precision import MeanAveragePrecision
from agcam.metrics.classification.top_k_accuracy import TopKAccuracy
from agcam.metrics.faithfulness.abpc import ABPC
from agcam.metrics.faithfulness.insertion_deletion import InsertionDeletion
from agcam.metrics.faithfulness.positive_negative import PositiveNegative
from agcam.metrics.faithfulness.road import ROAD
from agcam.metrics.inputs import MetricInputs
from agcam.metrics.localization.energy_pointing_game import EnergyPointingGame
from agcam.metrics.localization.gt_known_loc import GTKnownLoc, Top1Loc
from agcam.metrics.localization.localization import Localization
from agcam.metrics.localization.max_box_acc import MaxBoxAcc, MaxBoxAccV2
from agcam.metrics.localization.pointing_game import PointingGame
from agcam.metrics.localization.pxap import PxAP
from agcam.metrics.localization.segmentation import Segmentation
from agcam.metrics.map_statistics import map_drift, map_entropy, reasons
from agcam.metrics.means import ImageMean, ImageMeans, SpecMetric
from agcam.metrics.registry import metric_specs, register_metric
from agcam.metrics.sanity import ParameterRandomization
from agcam.metrics.spec import Curve, MetricSpec, Restriction, Value, column

__all__ = [
    "ABPC",
    "ROAD",
    "Curve",
    "EnergyPointingGame",
    "GTKnownLoc",
    "ImageMean",
    "ImageMeans",
    "InsertionDeletion",
    "Localization",
    "MaxBoxAcc",
    "MaxBoxAccV2",
    "MeanAveragePrecision",
    "MetricInputs",
    "MetricSpec",
    "PairedDifference",
    "ParameterRandomization",
    "PointingGame",
    "PositiveNegative",
    "PxAP",
    "Restriction",
    "Segmentation",
    "SpecMetric",
    "Top1Loc",
    "TopKAccuracy",
    "Value",
    "bootstrap_interval",
    "bootstrap_of_mean",
    "column",
    "map_drift",
    "map_entropy",
    "metric_specs",
    "paired_bootstrap",
    "paired_bootstrap_of_mean",
    "reasons",
    "register_metric",
]
