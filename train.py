#!/usr/bin/env python3
"""`agcam` from a checkout: python train.py fit --config configs/quickstart.yaml."""

import sys

from agcam.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
