"""`python -m agcam`: as the command `agcam`."""

import sys

from agcam.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
