#!/usr/bin/env python3
"""Train a Vision Transformer and see where it looks: python train.py fit --config configs/quickstart.yaml."""

import os
import sys

# Idle OpenMP threads go to sleep after some 50 µs: spinning longer takes the cores that loader workers need, sleeping
# at once makes small models wait for them to wake. Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

from agcam.commands import train  # after the environment is set

if __name__ == "__main__":
    sys.exit(train())
