"""Audit a classifier: where it looks, on what its decisions rest, and what of that is no part of the objects."""
