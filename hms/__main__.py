"""``python -m hms``: the ``hms`` command where it is not on the path."""

import sys

from hms.cli import main

if __name__ == "__main__":
    sys.exit(main())
