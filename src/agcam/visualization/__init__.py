"""Pictures of heatmaps, from plain arrays."""
