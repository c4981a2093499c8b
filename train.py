"""Train a Vision Transformer and see where it looks: python train.py fit --config configs/quickstart.yaml."""

import os
import sys

# Idle OpenMP threads sleep instead of spinning on the cores that loader workers need; read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from agcam.cli import main  # after the environment is set

if __name__ == "__main__":
    sys.exit(main())
