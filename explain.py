"""Explain photographs: python explain.py images --checkpoint CKPT --input PHOTOS --output explained."""

import sys

from agcam.explain_cli import main

if __name__ == "__main__":
    sys.exit(main())
