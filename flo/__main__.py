"""`python3 -m flo`."""

import sys

from flo.cli import main

sys.exit(main())
