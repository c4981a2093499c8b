"""Explain many images into Parquet shards, shared by processes, resumable at any moment."""
