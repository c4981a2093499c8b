"""Localization metrics: heatmaps against boxes and masks."""
