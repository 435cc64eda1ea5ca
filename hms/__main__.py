"""The ``hms`` command, and ``python -m hms`` where it is not on the path."""

import sys

try:
    from hms.terminal import begin_program, end_quietly

    begin_program()  # before anything that takes long is imported
    from hms.cli import main as command
except KeyboardInterrupt:
    print("hms: interrupted", file=sys.stderr)
    sys.exit(130)


def main() -> int:
    """Run the ``hms`` command and return the exit code."""
    try:
        return command()
    finally:
        end_quietly()


if __name__ == "__main__":
    sys.exit(main())
