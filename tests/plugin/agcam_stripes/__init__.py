"""What agcam knows once this package is installed."""
