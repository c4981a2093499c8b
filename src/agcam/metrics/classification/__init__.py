"""Classification metrics: what a classifier is worth."""
