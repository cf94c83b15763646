"""`python3 -m flo`."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - said before anything is read that an older one cannot
    sys.exit("Flo needs Python 3.11 or later; this is %d.%d" % sys.version_info[:2])  # noqa: UP031 - as above

from flo.cli import main

sys.exit(main())
