"""Prepare a package: ``python run.py [GROUP=OPTION ...] [GROUP.SETTING=VALUE ...]``; see --help."""

import sys

from hms.main import main

if __name__ == "__main__":
    sys.exit(main())
