"""Files: written whole, locked, read without trust, downloaded; paths and names made fit to share."""
