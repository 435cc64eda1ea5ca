"""The ``hms`` command, and ``python -m hms`` where it is not on the path."""

import sys

try:
    from hms.terminal import watch_interrupts

    watch_interrupts()  # before anything that takes long is imported
    from hms.cli import main
except KeyboardInterrupt:
    print("hms: interrupted", file=sys.stderr)
    sys.exit(130)

if __name__ == "__main__":
    sys.exit(main())
