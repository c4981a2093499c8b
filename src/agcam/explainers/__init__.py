"""Explanation methods over one recorded forward. Knows nothing of Lightning, trackers or the command line."""
