"""`python -m agcam`: as the command `agcam`."""

import sys

from agcam.cli.main import main

sys.exit(main())
