"""What heatmaps are worth: torchmetrics over pure functions, usable without the rest of agcam."""

from agcam.metrics.localization import Localization
from agcam.metrics.pointing_game import PointingGame

__all__ = ["Localization", "PointingGame"]
