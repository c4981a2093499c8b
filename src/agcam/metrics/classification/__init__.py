"""Classification metrics: how good a classifier is."""
