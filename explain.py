#!/usr/bin/env python3
"""`agcam` from a checkout: python explain.py images|benchmark|compare|report --help."""

import sys

from agcam.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
