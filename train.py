"""Train a Vision Transformer and see where it looks: python train.py fit --config configs/quickstart.yaml."""

import sys

from agcam.cli import main

if __name__ == "__main__":
    sys.exit(main())
