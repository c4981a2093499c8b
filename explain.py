#!/usr/bin/env python3
"""Explain photographs, compare methods, report: python explain.py images|benchmark|compare|report --help."""

import os
import sys

# as in train.py
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

from agcam.commands import explain  # after the environment is set

if __name__ == "__main__":
    sys.exit(explain())
